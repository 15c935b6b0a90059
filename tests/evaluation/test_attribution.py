"""Stage attribution: damage planted in one stage is named by the table."""

import dataclasses
import itertools

import numpy as np
import pytest
import soundfile

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.evaluation import attribution
from musiclm_jax.evaluation.attribution import CascadeStages
from musiclm_jax.evaluation.clips import ClipFolder
from musiclm_jax.evaluation.embedders import Embedder, Windowing
from musiclm_jax.evaluation.inputs import EvaluationInputs
from musiclm_jax.evaluation.results import Results

RATE, FRAMES, CLIPS = 24_000, 50, 16
NOTE = 5  # semantic frames
PITCHES = 220 * 2 ** (np.arange(12) / 6)
LEVELS = 4  # of loudness of each harmonic, the fine codes


def semantic_of(clip):
  """Five notes of four that a clip has, [25]."""
  rng = np.random.default_rng(clip)
  notes = rng.choice(rng.permutation(len(PITCHES))[:3], FRAMES // (2 * NOTE))
  return np.repeat(notes, NOTE)


def coarse_of(semantic):
  return np.repeat(semantic, 2, axis=1)[..., None]


def fine_of(coarse):
  """Three harmonics, as loud as the pitch says."""
  return coarse * np.array([5, 7, 11]) // 3 % LEVELS


def sound_of(acoustic):
  time = np.arange(FRAMES * 480) / RATE
  pitch, *loudness = np.moveaxis(np.repeat(acoustic, 480, axis=1), 2, 0)
  waves = (
    0.3 * 3.0**-level * np.sin(2 * np.pi * PITCHES[pitch] * (h + 2) * time)
    for h, level in enumerate(loudness)
  )
  return sum(waves, 0.2 * np.sin(2 * np.pi * PITCHES[pitch] * time)) / 2


SEMANTIC = np.stack([semantic_of(clip) for clip in range(CLIPS)])
TRUE = np.concatenate(
  [coarse_of(SEMANTIC), fine_of(coarse_of(SEMANTIC))], axis=2
)


def numbers(clips):
  """MuLan tokens of a clip, or of its caption: its number."""
  return np.repeat(np.asarray(clips)[:, None], 12, axis=1)


def oracle():
  """Stages that return the true tokens of what they read."""

  def tokenize(waveform):
    distances = [np.abs(SOUND - x).max(axis=1) for x in waveform]
    clips = np.argmin(distances, axis=1)
    return {
      'mulan': numbers(clips),
      'semantic': SEMANTIC[clips],
      'acoustic': TRUE[clips],
    }

  return CascadeStages(
    tokenize=tokenize,
    encode_text=lambda texts: numbers([int(t.split()[-1]) for t in texts]),
    semantic=lambda prompt: SEMANTIC[prompt.mulan[:, 0]],
    coarse=lambda prompt, semantic: coarse_of(semantic),
    fine=lambda prompt, coarse: np.concatenate(
      [coarse, fine_of(coarse)], axis=2
    ),
    decode=sound_of,
    coarse_levels=1,
  )


SOUND = sound_of(TRUE).astype(np.float32)


def damaged(stage):
  """The oracle with one stage that errs."""
  true = oracle()
  rng = np.random.default_rng(0)

  def shuffled_fine(prompt, coarse):
    fine = fine_of(coarse)
    return np.concatenate([coarse, rng.permutation(fine, axis=1)], axis=2)

  def noisy_coarse(prompt, semantic):
    coarse = coarse_of(semantic)
    noise = rng.integers(0, len(PITCHES), coarse.shape)
    return np.where(rng.random(coarse.shape) < 0.3, noise, coarse)

  return dataclasses.replace(
    true,
    **{
      'fine': {'fine': shuffled_fine},
      'coarse': {'coarse': noisy_coarse},
      'semantic': {
        'semantic': lambda prompt: SEMANTIC[(prompt.mulan[:, 0] + 3) % CLIPS]
      },
      'text': {
        'encode_text': lambda texts: (true.encode_text(texts) + 3) % CLIPS
      },
      None: {},
    }[stage],
  )


def planted_embedder():
  """What is in each 0.2 s: the spectrum in bands of a third of an octave."""
  edges = 200 * 2 ** (np.arange(17) / 3)

  def bands(windows):
    power = np.square(np.abs(np.fft.rfft(windows * np.hanning(4800))))
    hertz = np.fft.rfftfreq(4800, 1 / RATE)
    sums = [
      power[:, (hertz >= low) & (hertz < high)].sum(axis=1)
      for low, high in itertools.pairwise(edges)
    ]
    return np.log10(np.stack(sums, axis=1) + 1).astype(np.float32)

  windowing = Windowing('planted: 0.2 s', 0.2, 0.2)
  return Embedder(
    'planted', '0' * 64, RATE, windowing, 16, bands, apply=lambda batch: batch
  )


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """Clips of the true tokens, with their captions."""
  path = tmp_path_factory.mktemp('reference')
  for clip in range(CLIPS):
    soundfile.write(path / f'{clip:02}.wav', SOUND[clip], RATE, 'FLOAT')
  rows = [f'{clip:02}.wav,music number {clip}' for clip in range(CLIPS)]
  (path / 'captions.csv').write_text('path,caption\n' + '\n'.join(rows))
  return path


def run(folder, stages, **changes):
  results = Results()
  inputs = EvaluationInputs(
    reference=ClipFolder(folder),
    embedders=(planted_embedder(),),
    seconds=1.0,
    batch_size=8,
    **changes,
  )
  attribution.add_attribution(inputs, results, stages)
  return results


@pytest.mark.parametrize('fault', ['fine', 'coarse', 'semantic', 'text'])
def test_damage_that_is_planted_in_a_stage_is_named(folder, fault):
  results = run(folder, damaged(fault))
  facts = results.details['attribution']
  assert facts['weakest'] == fault, results.lines()
  assert facts['cost']['low'] > 0 and facts['n'] == CLIPS
  assert facts['deciding'] == (
    'kad_planted' if fault in ('fine', 'coarse') else 'clip_kad_planted'
  )
  assert f'the {fault} stage loses most' in '\n'.join(results.lines())


def test_true_tokens_lose_nothing(folder):
  events, kept = [], {}
  results = run(
    folder,
    oracle(),
    progress=events.append,
    keep=lambda row, name, sound: kept.setdefault(row, {}).update(
      {name: sound}
    ),
  )
  facts = results.details['attribution']
  assert facts['weakest'] is None
  assert set(facts['named_by'].values()) == {None}
  assert 'quality: no stage stands out' in '\n'.join(results.lines())
  assert results.figures['attribution_text_fad_planted'] < 1e-6
  assert results.figures['attribution_text_agreement_tagger_family'] == 1
  assert events[-1].stage == 'attribution' and events[-1].done == 6 * CLIPS
  assert list(kept) == [
    *('reference', 'codec', 'fine', 'coarse', 'semantic', 'text')
  ]
  for clips in kept.values():
    assert list(clips) == [f'{clip:02}.wav' for clip in range(CLIPS)]
    np.testing.assert_allclose(list(clips.values()), SOUND, atol=1e-6)


def test_what_cannot_be_compared_is_left_out_and_named(folder, tmp_path):
  for clip in range(4):
    seconds = 0.5 if clip == 2 else 1.0
    sound = SOUND[clip][: round(seconds * RATE)]
    soundfile.write(tmp_path / f'{clip}.wav', sound, RATE, 'FLOAT')
  said = []
  results = run(tmp_path, oracle(), report=said.append)
  facts = results.details['attribution']
  assert facts['too_short'] == ['2.wav'] and facts['n'] == 3
  assert 'text' not in facts['rows'] and 'semantic' in facts['rows']
  assert 'no clip has a caption: the row text is left out' in facts['remarks']
  assert any('shorter than 1 s' in line and '2.wav' in line for line in said)
  with pytest.raises(UsageError, match='lower --seconds'):
    for clip in (0, 1):
      (tmp_path / f'{clip}.wav').unlink()
    run(tmp_path, oracle())
  with pytest.raises(UsageError, match='give --bundle=DIR'):
    run(folder, None)
