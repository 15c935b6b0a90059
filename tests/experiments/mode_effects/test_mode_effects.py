"""An effect that is there is above 0, and one that is not is not."""

import numpy as np
import pytest

from experiments.mode_effects import ears, effects, pieces
from experiments.tiny_cascade import music
from musiclm_jax.contracts.audio import SAMPLE_RATE

COUNT = 24
SCALES = (1.0, 2.0, 3.0, 5.0)


def _scores(own, seed=0, spread=0.1):
  """Scores of clips, of which each has `own` more for its prompt."""
  noise = np.random.default_rng(seed).normal(0, spread, (COUNT, COUNT))
  return noise + own * np.eye(COUNT)


def test_a_second_text_that_is_heard_later_rises():
  found = effects.story(before=_scores(0.0), after=_scores(0.3, 1))
  assert found['rises'].low > 0.2 and found['rises more'].low > 0.2
  flat = effects.story(before=_scores(0.0), after=_scores(0.0, 1))
  assert flat['rises'].low < 0 < flat['rises'].high


def test_what_rises_for_all_texts_alike_is_no_effect_of_one():
  found = effects.story(before=_scores(0.0), after=0.3 + _scores(0.0, 1))
  assert found['rises'].low > 0.2
  assert found['rises more'].low < 0 < found['rises more'].high


def test_a_mixture_between_its_ends_is_told_from_one_outside():
  heard = {'first': 1.0, 'mix': 0.7, 'xim': 0.3, 'second': 0.0}
  first = {k: _scores(v, 1) for k, v in heard.items()}
  second = {k: _scores(1 - v, 2) for k, v in heard.items()}
  found = effects.mixture(first, second)
  assert all(one.low > 0 for one in found.values())
  beyond = {'mix': _scores(2.0, 1), 'xim': _scores(-1.0, 1)}
  outside = effects.mixture({**first, **beyond}, second)
  assert outside['nearer end above it'].high < 0


def test_guidance_is_a_rank_correlation_of_each_prompt():
  rising = {s: _scores(0.1 * s, int(s), 0.01) for s in SCALES}
  assert effects.guidance(rising)['rank correlation'].value > 0.99
  still = {s: np.ones((COUNT, COUNT)) for s in SCALES}
  assert effects.guidance(still)['rank correlation'].value == 0.0


def test_what_a_negative_prompt_takes_away_falls():
  found = effects.negative(_scores(0.3), _scores(0.0, 1))
  assert found['falls'].low > 0.2
  assert effects.negative(_scores(0.0), _scores(0.3, 1))['falls'].high < 0


def _tune(classes, seconds=0.4):
  """A tune of tones with harmonics."""
  time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
  tones = []
  for pitch in classes:
    hz = 261.63 * 2 ** (pitch / 12)
    tone = sum(np.sin(2 * np.pi * hz * k * time) / k for k in (1, 2, 3))
    tones.append(0.2 * tone)
  return np.concatenate(tones).astype(np.float32)


@pytest.mark.parametrize('seconds', [0.2, 1.0])
def test_a_tune_is_like_itself_in_any_key_and_unlike_another(seconds):
  rng = np.random.default_rng(0)
  tune, other = (rng.integers(0, 12, 25) for _ in range(2))
  mine, higher, theirs = (
    music.chroma(_tune(notes), seconds) for notes in (tune, tune + 3, other)
  )
  assert ears.likeness(mine, mine) == pytest.approx(1.0)
  assert ears.likeness(mine, higher) > 0.7
  assert ears.likeness(mine, theirs) < ears.likeness(mine, higher) - 0.2


def test_a_constant_tone_follows_no_melody():
  held = music.chroma(_tune([0] * 25), 0.2)
  follows = ears.likeness(np.tile(held[:1], (50, 1)), held)
  assert follows == pytest.approx(0.0, abs=1e-9)


def test_music_that_follows_is_above_music_that_does_not():
  rng = np.random.default_rng(0)
  hums = [_tune(rng.integers(0, 12, 12)) for _ in range(6)]
  free = [_tune(rng.integers(0, 12, 12)) for _ in range(6)]
  found = effects.melody(hums, {'with': hums, 'without': free})
  assert found['frames of 0.2 s: above no melody'].low > 0
  assert found['frames of 0.2 s: above other melodies'].low > 0


def test_held_out_music_has_prompts_crops_and_hums():
  prompts, crops = pieces.prompted(6, 3)
  assert len(prompts) == len(crops) >= 2
  assert len(set(prompts.families)) == len(prompts), 'one of each family'
  assert crops.shape[1] == 10 * SAMPLE_RATE and np.abs(crops).max() <= 1
  assert all(isinstance(text, str) and text for text in prompts.texts)
  hums = pieces.melodies(2, 4.0, 3)
  assert hums.shape == (2, 4 * SAMPLE_RATE) and hums.std() > 1e-3
