"""KAD: a plain double loop, published code, and clips of several rows."""

from pathlib import Path

import numpy as np
import pytest

from musiclm_jax.metrics import kad

FIXTURE = Path(__file__).parents[1] / 'fixtures' / 'audio_distances.npz'


def by_double_loop(reference, generated, sigma):
  def kernel(a, b):
    return np.exp(-np.square(a - b).sum() / (2 * sigma**2))

  def within(x):
    pairs = [kernel(a, b) for i, a in enumerate(x) for b in x[:i]]
    return np.mean(pairs)

  across = np.mean([kernel(a, b) for a in reference for b in generated])
  return 100 * (within(reference) + within(generated) - 2 * across)


def clip_set(rng, clips, rows=6, width=8):
  """Rows of clips, alike within one: [clips * rows, width], and their clips."""
  centres = rng.normal(size=(clips, 1, width))
  noise = rng.normal(size=(clips, rows, width))
  found = (centres + 0.4 * noise).reshape(-1, width)
  return found, np.repeat(np.arange(clips), rows)


def test_the_distance_is_that_of_a_plain_double_loop(monkeypatch):
  monkeypatch.setattr(kad, '_BLOCK', 32)  # several blocks, one of them ragged
  rng = np.random.default_rng(0)
  reference = 50 + rng.normal(size=(101, 5))
  generated = 50.2 + rng.normal(size=(77, 5))
  found = kad.kernel_audio_distance(reference, generated)
  distances = [
    np.linalg.norm(a - b)
    for i, a in enumerate(reference)
    for b in reference[:i]
  ]
  assert found.bandwidth == pytest.approx(np.median(distances), rel=1e-10)
  wanted = by_double_loop(reference, generated, found.bandwidth)
  assert found.value == pytest.approx(wanted, rel=1e-10)
  # Each row is a clip of its own here.
  assert found.between_clips.value == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize('name', ['many', 'few'])
def test_the_distance_is_that_of_the_published_toolkit(name):
  with np.load(FIXTURE) as file:
    found = kad.kernel_audio_distance(
      file[f'{name}/reference'], file[f'{name}/generated']
    )
    assert found.value == pytest.approx(float(file[f'{name}/kad']), rel=1e-6)


def test_sets_cannot_be_exchanged():
  rng = np.random.default_rng(1)
  a, b = rng.normal(size=(60, 4)), 3 * rng.normal(size=(60, 4))
  one, other = kad.kernel_audio_distance(a, b), kad.kernel_audio_distance(b, a)
  assert abs(one.value - other.value) > 1


def test_halves_of_one_set_of_clips_are_at_no_distance():
  rng = np.random.default_rng(2)
  inside, published, between = 0, [], []
  for seed in range(12):
    rows, clips = clip_set(rng, 60)
    found = kad.kernel_audio_distance(
      rows[:180],
      rows[180:],
      reference_clips=clips[:180],
      generated_clips=clips[180:],
      seed=seed,
    )
    inside += found.between_clips.low <= 0 <= found.between_clips.high
    published.append(found.value)
    between.append(found.between_clips.value)
  assert inside >= 10
  assert abs(np.mean(between)) < 1
  # Pairs of one clip make halves seem different.
  assert np.mean(published) > np.mean(between) + 1


def test_pairs_of_one_clip_are_left_out_between_clips():
  rng = np.random.default_rng(3)
  (a, a_clips), (b, b_clips) = clip_set(rng, 9, 4), clip_set(rng, 7, 3)
  b = b + 0.5
  found = kad.kernel_audio_distance(
    a, b, reference_clips=a_clips, generated_clips=b_clips, bandwidth=2.0
  )

  def kernels(x, y):
    squares = np.square(x[:, None] - y).sum(axis=-1)
    return np.exp(-squares / 8)

  def within(x, clips):
    return kernels(x, x)[clips[:, None] != clips].mean()

  wanted = within(a, a_clips) + within(b, b_clips) - 2 * kernels(a, b).mean()
  assert found.between_clips.value == pytest.approx(100 * wanted, rel=1e-9)


def test_one_clip_has_no_distance_between_clips():
  rows = np.random.default_rng(4).normal(size=(8, 3))
  found = kad.kernel_audio_distance(rows, rows + 1, generated_clips=np.zeros(8))
  assert found.between_clips is None


def test_the_median_of_many_rows_is_that_of_a_sample():
  rows = np.random.default_rng(5).normal(size=(3000, 3))
  sampled = kad.median_distance(rows, max_rows=500)
  assert sampled == kad.median_distance(rows, max_rows=500)
  assert sampled == pytest.approx(kad.median_distance(rows), rel=0.05)


@pytest.mark.parametrize(
  ('reference', 'words'),
  [
    (np.zeros((1, 3)), '2 rows'),
    (np.zeros((9, 2)), 'one width'),
    (np.zeros((9, 3)), 'median'),
  ],
)
def test_what_has_no_kernel_is_refused(reference, words):
  with pytest.raises(ValueError, match=words):
    kad.kernel_audio_distance(reference, np.ones((4, 3)))
