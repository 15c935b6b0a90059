"""What experiments/mulan_retrieval asks: triplets, tags and true captions."""

import importlib
from pathlib import Path

import numpy as np
import pytest

from musiclm_jax.rendered_music import captions, programs, styles, truth

FOLDER = Path(__file__).parents[3] / 'experiments' / 'mulan_retrieval'


@pytest.fixture
def ask(monkeypatch):
  """Loads a module of the experiment."""
  monkeypatch.syspath_prepend(FOLDER)
  return importlib.import_module


@pytest.fixture
def clips(ask):
  """Clips of which only the attributes matter; the last is silent."""
  rng = np.random.default_rng(0)

  def described():
    lead = rng.choice([p for ps in programs.LEADS.values() for p in ps])
    tempo, major = str(rng.choice([*captions.TEMPO])), rng.random() < 0.5
    return {
      'style': styles.STYLES[rng.integers(len(styles.STYLES))].name,
      'bpm': float(rng.uniform(60, 180)),
      'tempo_class': tempo,
      'key': 'C major' if major else 'C minor',
      'mode': 'major' if major else 'minor',
      'metre': str(rng.choice([*captions.METRE])),
      'mood': truth.MOODS[major, tempo][0],
      'brightness': str(rng.choice(['dark', 'neutral', 'bright'])),
      'loudness': str(rng.choice(['soft', 'moderate', 'loud'])),
      'density': str(rng.choice(['sparse', 'moderate', 'busy'])),
      'lead_family': lead.family,
      'lead_program': lead.name,
      'instruments': (lead.name, 'drums'),
      'families': (lead.family, 'drums'),
      'texture': 'ensemble',
      'near_silence': False,
    }

  everything = [described() for _ in range(63)]
  everything.append(described() | {'near_silence': True, 'style': None})
  return ask('material').Clips(np.zeros((64, 1)), everything)


def test_other_differs_from_same_in_the_words_of_one_fact(ask, clips):
  triplets = ask('triplets')
  for kind, words in triplets.WORDS.items():
    made = triplets.make(clips, kind)
    assert 50 < len(made) <= 63
    assert {t.changed for t in made} == set(triplets.TRAINED)
    for triplet in made:
      same, other = triplet.same.split(', '), triplet.other.split(', ')
      (changed,) = [
        pair for pair in zip(same, other, strict=True) if pair[0] != pair[1]
      ]
      values = words[triplet.changed].values()
      assert not any(set(changed) <= set(phrases) for phrases in values)
      assert triplet.anchor != triplet.same


def test_captions_of_every_kind_fit_their_clips(ask, clips):
  material = ask('material')
  for kind in material.WRITERS:
    said = material.write(clips, kind, 0)
    fits = material.fitting(said, clips)
    assert fits.diagonal().all() and fits.mean() < 0.5
    lenient = material.fitting(said, clips, ('bpm', 'key'))
    assert (lenient >= fits).all()
    assert (lenient[-1] == fits[-1]).all() and not lenient[:-1, -1].any()
    again = material.write(clips, kind, 1)
    assert [c.text for c in said] != [c.text for c in again]


def test_tags_are_borne_by_audible_clips_and_scored_as_planted(ask, clips):
  tags = ask('tags').Tags(clips)
  assert not tags.positive[-1].any()
  assert {'slow', 'loud', '3/4 time'} <= {*tags.prompts}
  assert 'moderate' not in tags.prompts
  rng = np.random.default_rng(0)
  noise = rng.normal(size=tags.positive.shape)
  everyone = np.arange(63)
  assert tags.auc(tags.positive + 0.0, 'all', everyone) == 1.0
  assert abs(tags.auc(noise, 'all', everyone) - 0.5) < 0.1
  gain = tags.intervals([noise + 2 * tags.positive, noise], resamples=12)
  assert all(interval.low > 0 for interval in gain.values())
