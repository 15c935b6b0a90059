"""Claims about the residual vector quantizer."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax.nn import kmeans, quantizer

Q, K, D = 4, 8, 3


def _latents(seed=0, batch=4, frames=20):
  return jax.random.normal(jax.random.key(seed), (batch, frames, D))


def _fitted(x=None, **kwargs):
  books = quantizer.init_codebooks(Q, K, D)
  x = _latents() if x is None else x
  return _moved(books, x, 1, **kwargs)


def _moved(books, x, seed, **kwargs):
  codes = quantizer.codes_of(books, x)
  return quantizer.update(books, x, codes, jax.random.key(seed), **kwargs)


def _numpy_loop(embed, x):
  """The paper's algorithm 1, one vector and level at a time."""
  codes = np.zeros((*x.shape[:2], len(embed)), np.int32)
  values = np.zeros_like(x)
  for b in range(x.shape[0]):
    for t in range(x.shape[1]):
      residual = x[b, t].copy()
      for level, book in enumerate(embed):
        distances = [((residual - entry) ** 2).sum() for entry in book]
        codes[b, t, level] = int(np.argmin(distances))
        residual -= book[codes[b, t, level]]
        values[b, t] += book[codes[b, t, level]]
  return codes, values


def test_quantize_equals_a_plain_numpy_loop():
  books, x = _fitted(), _latents(2)
  codes, values = _numpy_loop(np.asarray(books['embed']), np.asarray(x))
  mine = quantizer.quantize(books, x)
  np.testing.assert_array_equal(mine.codes, codes)
  np.testing.assert_allclose(mine.values, values, atol=1e-6)
  np.testing.assert_array_equal(
    quantizer.values_of(books, mine.codes), mine.values
  )


def test_straight_through_is_exact_forward_and_the_identity_backward():
  books, x = _fitted(), _latents(3)
  values = quantizer.quantize(books, x).values
  np.testing.assert_array_equal(quantizer.straight_through(x, values), values)

  def total(x):
    quantized = quantizer.quantize(books, x)
    return (quantizer.straight_through(x, quantized.values) * x0).sum()

  x0 = _latents(4)
  np.testing.assert_array_equal(jax.grad(total)(x), x0)


def test_residual_never_grows_with_levels():
  books, x = _fitted(zero_entries=1), 3.0 * _latents(5)
  codes = quantizer.codes_of(books, x)
  errors = [
    np.linalg.norm(x - quantizer.values_of(books, codes[..., :n]), axis=-1)
    for n in range(Q + 1)
  ]
  for fewer, more in itertools.pairwise(errors):
    assert np.all(more <= fewer + 1e-6)


def test_zero_is_coded_as_zero_for_good():
  books = _fitted(zero_entries=1)
  for step in range(3):
    books = _moved(books, _latents(step) + 2.0, step, zero_entries=1)
  quantized = quantizer.quantize(books, jnp.zeros((1, 2, D)))
  assert not quantized.values.any() and not quantized.codes.any()


def test_dropout_is_per_example():
  """Mistake 15: dropout per batch; -1 ids reaching the decoder."""
  books, x = _fitted(), _latents(6)
  active = jnp.array([1, 2, 3, Q])
  quantized = quantizer.quantize(books, x, active)
  full = quantizer.quantize(books, x)
  np.testing.assert_array_equal(quantized.codes, full.codes)
  assert quantized.codes.min() >= 0 and quantized.codes.max() < K
  for row, n in enumerate([1, 2, 3, Q]):
    expected = quantizer.values_of(books, full.codes[row : row + 1, :, :n])
    np.testing.assert_array_equal(quantized.values[row], expected[0])


def test_commitment_pulls_the_latents_and_not_the_codebooks():
  books, x = _fitted(), _latents(7)

  def loss(x, embed):
    return quantizer.quantize({**books, 'embed': embed}, x).commitment.sum()

  to_x, to_embed = jax.grad(loss, (0, 1))(x, books['embed'])
  assert np.abs(to_x).max() > 0 and not np.any(to_embed)
  # One level: the gradient is that of the mean square alone.
  one = {k: v[:1] if v.ndim else v for k, v in books.items()}
  gradient = jax.grad(lambda x: quantizer.quantize(one, x).commitment.sum())(x)
  residual = x - quantizer.quantize(one, x).values
  np.testing.assert_allclose(
    gradient, 2.0 * residual / (x.shape[1] * D), atol=1e-6
  )


def test_before_the_first_batch_the_quantizer_is_the_identity():
  books, x = quantizer.init_codebooks(Q, K, D), _latents()
  quantized = quantizer.quantize(books, x)
  np.testing.assert_array_equal(quantized.values, x)
  assert not quantized.commitment.any()


def test_first_batch_is_fitted_by_k_means_level_by_level():
  centres = 10.0 * jax.random.normal(jax.random.key(8), (K, D))
  choice = jax.random.randint(jax.random.key(9), (4, 40), 0, K)
  x = centres[choice] + 0.01 * _latents(8, 4, 40)
  books = _fitted(x, kmeans_iterations=20)
  error = jnp.square(
    x - quantizer.values_of(books, quantizer.codes_of(books, x))
  )
  assert error.mean() < 0.01 * jnp.var(x)
  np.testing.assert_allclose(books['count'].sum(axis=1), 160)


def test_codebooks_follow_the_running_means():
  books, x = _fitted(), _latents(10)
  moved = _moved(books, x, 2, decay=0.9, dead_threshold=0.0)
  codes = np.asarray(quantizer.codes_of(books, x))[..., 0].ravel()
  points = np.asarray(x).reshape(-1, D)
  for entry in range(K):
    mine = points[codes == entry]
    count = 0.9 * books['count'][0, entry] + 0.1 * len(mine)
    total = 0.9 * books['embed_sum'][0, entry] + 0.1 * mine.sum(axis=0)
    np.testing.assert_allclose(moved['count'][0, entry], count, rtol=1e-5)
    np.testing.assert_allclose(
      moved['embed'][0, entry], total / count, rtol=1e-4, atol=1e-5
    )


def test_a_replaced_entry_survives_the_next_step():
  """Mistake 12: dead code replaced in `embed` but not in the EMA state."""
  books = _fitted()
  far = jnp.array([100.0, 0.0, 0.0])
  dead = {
    **books,
    'embed': books['embed'].at[0, 3].set(far),
    'embed_sum': books['embed_sum'].at[0, 3].set(far * 1e-3),
    'count': books['count'].at[0, 3].set(1e-3),
  }
  x = _latents(11)
  moved = _moved(dead, x, 3)
  fresh = np.asarray(moved['embed'][0, 3])
  points = np.asarray(x).reshape(-1, D)
  assert np.abs(points - fresh).sum(axis=1).min() < 1e-6
  np.testing.assert_allclose(
    moved['embed_sum'][0, 3], fresh * moved['count'][0, 3], rtol=1e-6
  )
  again = _moved(moved, x, 4)
  assert np.abs(again['embed'][0, 3] - fresh).max() < 0.5


@pytest.mark.parametrize('frames, alive', [(8, True), (64, False)])
def test_dead_threshold_scales_with_the_batch(frames, alive):
  books = _fitted()
  books = {**books, 'count': jnp.ones((Q, K)), 'embed_sum': books['embed']}
  x = _latents(12, 4, frames // 4)
  x = x.at[:].set(books['embed'][0, 0])  # nobody else is used
  moved = _moved(books, x, 5)
  kept = np.allclose(moved['embed'][0, 1:], books['embed'][0, 1:], atol=1e-5)
  # 8 frames for 8 entries: below 0.25 is dead; 64 for 8: below 2 is.
  assert kept == alive


def test_the_most_used_entry_is_split_to_replace_a_dead_one():
  x = _latents(batch=8, frames=40)
  books = _fitted(x, zero_entries=1)
  # Entry 5 of the first level lies where no frame will ever be; 2 and 3 are
  # used most, the latter more.
  count = books['count'].at[0].set(40.0).at[0, 5].set(0.1)
  count = count.at[0, 2].set(90.0).at[0, 3].set(99.0)
  embed = books['embed'].at[0, 5].set(100.0)
  books |= {'embed': embed, 'count': count}
  books['embed_sum'] = embed * count[..., None]
  options = {'decay': 1.0, 'zero_entries': 1, 'split_share': 0.25}
  moved = _moved(books, x, 1, **options)
  again = _moved(books, x, 1, **options)
  jax.tree.map(np.testing.assert_array_equal, moved, again)
  before, after = np.asarray(embed[0]), np.asarray(moved['embed'][0])
  changed = np.abs(before - after).max(axis=1) > 1e-5
  np.testing.assert_array_equal(np.flatnonzero(changed), [3, 5])
  # Halves on both sides of it, towards a member of its own and away.
  np.testing.assert_allclose(after[[3, 5]].mean(axis=0), before[3], atol=1e-5)
  members = x.reshape(-1, D)[quantizer.codes_of(books, x)[..., 0].ravel() == 3]
  steps = (np.asarray(members) - before[3]) * quantizer._OFFSET
  assert np.abs(steps - (after[5] - before[3])).max(axis=1).min() < 1e-5
  np.testing.assert_allclose(moved['count'][0, [3, 5]], 49.5, rtol=1e-5)
  np.testing.assert_array_equal(moved['embed'][:, 0], 0.0)
  for name in ('embed_sum', 'count'):
    assert np.isfinite(moved[name]).all()


def test_no_entry_is_split_whose_halves_were_dead():
  x = _latents(batch=8, frames=40)
  books = _fitted(x)
  count = jnp.full((Q, K), 10.0).at[:, 1:].set(0.1).at[:, 2].set(4.0)
  books |= {'count': count, 'embed_sum': books['embed'] * count[..., None]}
  moved = _moved(books, x, 1, decay=1.0, split_share=0.25)
  # Dead is below 0.46; the two that are not give their halves, once each.
  found = np.sort(np.asarray(moved['count']), axis=1)
  np.testing.assert_allclose(found[:, -4:], [[2.0, 2.0, 5.0, 5.0]] * Q)
  np.testing.assert_allclose(found[:, :-4], 0.1)


def test_statistics_are_of_the_global_batch():
  """Mistake 13: k-means and dead codes per replica."""
  x = _latents(13)
  books = _fitted(x)
  shuffled = x[::-1]
  step = {'decay': 0.9, 'dead_threshold': 0.0}
  one = _moved(books, x, 6, **step)
  other = _moved(books, shuffled, 6, **step)
  np.testing.assert_allclose(one['embed'], other['embed'], atol=1e-5)


def test_perplexity_counts_entries_in_even_use():
  codes = jnp.stack([jnp.arange(8), jnp.zeros(8, int), jnp.arange(8) // 4], -1)
  np.testing.assert_allclose(
    kmeans.perplexity(codes[None], K), [8.0, 1.0, 2.0], rtol=1e-5
  )


def test_more_levels_than_there_are_is_refused():
  with pytest.raises(ValueError, match='at most 4 levels'):
    quantizer.values_of(_fitted(), jnp.zeros((1, 2, Q + 1), int))
