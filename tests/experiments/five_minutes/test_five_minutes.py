"""Returns and seams that are there are found, and others are not."""

import types

import numpy as np
import pytest

from experiments.five_minutes import seams, structure
from musiclm_jax.cascade.windows import windows

SIZE = round(structure.PART / structure.FRAME)


def _section(seed, parts):
  """Frames of a melody that does not repeat itself, parts x 4 s."""
  return np.random.default_rng(seed).dirichlet(np.ones(12), parts * SIZE)


def test_a_section_that_comes_back_is_found():
  a, b, c = (_section(seed, 6) for seed in range(3))
  noise = 0.02 * np.random.default_rng(9).random((5 * 6 * SIZE, 12))
  found = structure.returns(np.concatenate([a, b, a, c, a]) + noise)
  assert found.p < 0.01 and found.sigmas > 5
  assert found.value > found.null + 0.1


def test_music_that_never_returns_is_within_its_null():
  found = [structure.returns(_section(seed, 15)) for seed in range(10)]
  assert np.mean([one.p < 0.05 for one in found]) <= 0.2
  assert 0.2 < np.mean([one.p for one in found]) < 0.8


def test_a_held_chord_is_no_return():
  """All is alike in every order."""
  frames = np.tile(_section(0, 1)[:1], (15 * SIZE, 1))
  frames += 0.05 * _section(1, 15)
  assert structure.returns(frames).p > 0.05


def test_a_piece_without_room_for_a_return_is_refused():
  with pytest.raises(ValueError, match='expected 80 frames or more, got 50'):
    structure.returns(np.ones((50, 12)))


def _noise(seconds=4):
  return 0.1 * np.random.default_rng(0).standard_normal(24_000 * seconds)


def test_joints_like_other_places_are_in_their_middle():
  rng = np.random.default_rng(1)
  at = 480 * rng.permutation(np.arange(1, 190))[:60]
  found = seams.measure(_noise(), at, 480)
  assert found.joints == 60 and 0.35 < found.place < 0.65
  assert found.largest <= found.largest_elsewhere


def test_joints_of_a_held_tone_are_in_its_middle():
  tone = np.tile(_noise()[:480], 200)
  assert seams.measure(tone, [4800, 48_000], 480).place == 0.5


def test_a_click_is_heard():
  waveform, at = _noise(), [24_000, 48_000, 72_000]
  for sample in at:
    waveform[sample:] += 1.5 * (-1) ** (sample // 24_000)
  found = seams.measure(waveform, at, 480)
  assert found.largest > 1.2 > found.largest_elsewhere
  assert found.place == 1.0


def test_joints_are_where_windows_begin_to_add():
  predicted = types.SimpleNamespace(frame_rate=25.0, num_frames=250)
  layout = types.SimpleNamespace(predicted=predicted)
  found = seams.joints({'semantic': layout}, 21.0, 480)
  second = windows(525, 250)[1]
  assert found['semantic'][0] == (second.start + second.prefix) * 960
  assert found['blocks'] == list(range(24_000, 21 * 24_000, 24_000))
