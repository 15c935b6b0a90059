import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.w2v_bert import losses
from musiclm_jax.w2v_bert.quantizer import (
  GumbelQuantizer,
  straight_through_one_hot,
)


@pytest.fixture(scope='module')
def mask():
  return losses.span_mask(
    jax.random.key(0), 64, 100, probability=0.065, span=10
  )


def test_mask_covers_the_share_that_overlapping_spans_cover():
  mask = losses.span_mask(
    jax.random.key(1), 256, 375, probability=0.065, span=10
  )
  assert mask.mean() == pytest.approx(1 - (1 - 0.065) ** 10, abs=0.02)


def test_mask_consists_of_whole_spans(mask):
  """Runs are at least a span long, unless the end cuts them off."""
  for row in np.asarray(mask):
    edges = np.flatnonzero(np.diff(np.concatenate([[0], row, [0]])))
    for start, end in edges.reshape(-1, 2):
      assert end - start >= 10 or end == 100


def test_no_utterance_is_without_a_mask():
  mask = losses.span_mask(jax.random.key(0), 32, 20, probability=0.0, span=4)
  np.testing.assert_array_equal(mask.sum(axis=1), 4)


def test_too_short_an_utterance_is_refused():
  with pytest.raises(UsageError, match='at least 10 frames'):
    losses.span_mask(jax.random.key(0), 1, 9, probability=0.1, span=10)


def test_distractors_are_other_masked_frames_of_the_same_utterance(mask):
  drawn = np.asarray(losses.draw_distractors(jax.random.key(1), mask, 100))
  for row, indices in zip(np.asarray(mask), drawn, strict=True):
    target = np.flatnonzero(row)
    assert row[indices[target]].all()
    assert (indices[target] != target[:, None]).all()


def test_distractors_are_uniform():
  mask = jnp.array([[False, True, True, False, True, True]])
  drawn = losses.draw_distractors(jax.random.key(0), mask, 9000)[0, 2]
  counts = np.bincount(drawn, minlength=6)
  assert counts[[0, 2, 3]].sum() == 0
  np.testing.assert_allclose(counts[[1, 4, 5]], 3000, rtol=0.06)


def test_contrastive_loss_equals_a_plain_loop():
  rng = np.random.default_rng(0)
  context, targets = rng.normal(size=(2, 1, 8, 5)).astype(np.float32)
  mask = jnp.array([[1, 1, 0, 1, 1, 1, 0, 0]], bool)
  distractors = losses.draw_distractors(jax.random.key(0), mask, 6)
  codes = jnp.array([[0, 1, 2, 0, 3, 4, 5, 6]])
  targets[0, 3] = targets[0, 0]  # frames 0 and 3 have the same code
  loss, found = losses.contrastive_loss(
    context, targets, codes, distractors, 0.1
  )

  def cosine(a, b):
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)

  for t in np.flatnonzero(mask[0]):
    own = cosine(context[0, t], targets[0, t]) / 0.1
    others = [
      cosine(context[0, t], targets[0, u]) / 0.1
      for u in distractors[0, t]
      if codes[0, u] != codes[0, t]
    ]
    expected = np.log(np.exp([own, *others]).sum()) - own
    assert loss[0, t] == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert found[0, t] == (own > max(others))


def test_contrastive_loss_has_finite_gradients_where_nothing_is_masked():
  context = jnp.ones((1, 4, 3))
  distractors = losses.draw_distractors(
    jax.random.key(0), jnp.zeros((1, 4), bool), 5
  )

  def total(context, targets):
    codes = jnp.arange(4)[None]
    loss, _ = losses.contrastive_loss(context, targets, codes, distractors, 0.1)
    return loss.sum()

  gradients = jax.jit(jax.grad(total, argnums=(0, 1)))(
    context, jnp.zeros((1, 4, 3))
  )
  assert all(jnp.isfinite(g).all() for g in gradients)


def test_diversity_is_zero_at_even_use_and_one_minus_one_in_k_at_collapse():
  even = jnp.full((2, 3, 8), 1 / 8)
  collapsed = jax.nn.one_hot(jnp.full((2, 3), 5), 8)
  assert losses.diversity_loss(even) == pytest.approx(0.0, abs=1e-6)
  assert losses.diversity_loss(collapsed) == pytest.approx(1 - 1 / 8)
  each_its_own = jax.nn.one_hot(jnp.arange(8).reshape(2, 4), 8)
  assert losses.diversity_loss(each_its_own) == pytest.approx(0.0, abs=1e-6)


def test_masked_means_ignore_what_is_not_masked():
  values = jnp.array([[1.0, jnp.nan, 3.0], [5.0, 6.0, jnp.inf]])
  mask = jnp.array([[True, False, True], [False, True, False]])
  assert losses.masked_mean(values, mask) == pytest.approx(10 / 3)
  np.testing.assert_allclose(losses.masked_mean(values, mask, 1), [2.0, 6.0])


def test_choice_is_one_hot_and_its_gradient_a_tempered_softmax():
  logits = jax.random.normal(jax.random.key(0), (7, 5))
  weights = jnp.arange(5.0)
  rng = jax.random.key(1)
  hard = straight_through_one_hot(logits, 0.7, rng)
  np.testing.assert_allclose(hard.sum(-1), 1.0, atol=1e-6)
  np.testing.assert_allclose(hard.max(-1), 1.0, atol=1e-6)
  noisy = logits + jax.random.gumbel(rng, logits.shape)
  expected = jax.grad(lambda x: (jax.nn.softmax(x / 0.7) @ weights).sum())(
    noisy
  )
  gradient = jax.grad(
    lambda x: (straight_through_one_hot(x, 0.7, rng) @ weights).sum()
  )(logits)
  np.testing.assert_allclose(gradient, expected, atol=1e-6)


def test_choice_without_noise_is_the_most_probable_entry():
  logits = jax.random.normal(jax.random.key(0), (7, 5))
  hard = straight_through_one_hot(logits, 2.0, None)
  np.testing.assert_array_equal(hard.argmax(-1), logits.argmax(-1))


def test_noise_samples_the_softmax():
  logits = jnp.log(jnp.array([0.1, 0.2, 0.7]))
  hard = straight_through_one_hot(
    jnp.broadcast_to(logits, (20_000, 3)), 1.0, jax.random.key(0)
  )
  np.testing.assert_allclose(hard.mean(0), [0.1, 0.2, 0.7], atol=0.02)


def test_code_vectors_are_entries_of_the_codebook():
  model = GumbelQuantizer(codebook_size=6, code_dim=3)
  x = jax.random.normal(jax.random.key(0), (2, 5, 4))
  variables = model.init(jax.random.key(1), x)
  out = model.apply(variables, x)
  codebook = variables['params']['codebook']['kernel'].value
  np.testing.assert_allclose(out.values, codebook[out.codes], atol=1e-6)
  np.testing.assert_array_equal(out.codes, out.probabilities.argmax(-1))


def test_first_codes_follow_the_latents_and_are_many():
  model = GumbelQuantizer(codebook_size=64, code_dim=4)
  x = jax.random.normal(jax.random.key(0), (4, 500, 32))
  out = model.apply(model.init(jax.random.key(1), x), x)
  assert losses.diversity_loss(out.probabilities) < 0.2
  assert out.probabilities.max(-1).mean() > 0.5


def test_share_of_the_gradient_goes_on_to_the_latents():
  x = jax.random.normal(jax.random.key(0), (1, 5, 4))
  weights = jnp.arange(3.0)
  gradients = []
  for share in (1.0, 0.25, 0.0):
    model = GumbelQuantizer(6, 3, encoder_gradient=share)
    variables = model.init(jax.random.key(1), x)

    def total(x, model=model, variables=variables):
      return (model.apply(variables, x, 1.0).values @ weights).sum()

    gradients.append(jax.grad(total)(x))
  assert jnp.abs(gradients[0]).max() > 0
  np.testing.assert_allclose(gradients[1], 0.25 * gradients[0], atol=1e-6)
  np.testing.assert_array_equal(gradients[2], 0.0)
