"""KLD: each variant by its formula, and its direction."""

import numpy as np
import pytest
from scipy.special import expit, softmax

from musiclm_jax.metrics import kld

RNG = np.random.default_rng(0)
P, Q = RNG.normal(size=(3, 5)), RNG.normal(size=(4, 5))
EPSILON = 1e-6


def divergence(p, q):
  return (p * (np.log(p) - np.log(q + EPSILON))).sum(axis=-1)


@pytest.mark.parametrize('scores', kld.SCORES)
@pytest.mark.parametrize('direction', kld.DIRECTIONS)
@pytest.mark.parametrize('pooling', kld.POOLINGS)
def test_a_variant_is_its_formula(scores, direction, pooling):
  """Mistake 46: direction, scores and pooling are three choices with names."""
  squash = expit if scores == 'sigmoid' else lambda x: softmax(x, axis=-1)
  p, q = (P, Q) if direction == 'reference_to_generated' else (Q, P)
  wanted = {
    'mean_scores': lambda: divergence(squash(p).mean(0), squash(q).mean(0)),
    'mean_logits': lambda: divergence(squash(p.mean(0)), squash(q.mean(0))),
    'segments': lambda: divergence(squash(p[:3]), squash(q[:3])).mean(),
  }[pooling]()
  found = kld.kl_divergence(
    P, Q, scores=scores, direction=direction, pooling=pooling
  )
  assert found == pytest.approx(wanted, rel=1e-10)


def test_a_clip_diverges_from_itself_by_epsilon_alone():
  assert kld.kl_divergence(P, P) == pytest.approx(0, abs=1e-5)


def test_the_reference_decides_what_counts():
  sure, unsure = np.array([[9.0, 0, 0]]), np.zeros((1, 3))
  forward = kld.kl_divergence(sure, unsure)
  backward = kld.kl_divergence(unsure, sure)
  assert forward == pytest.approx(np.log(3), abs=0.01)
  assert backward > 2 * forward


def test_scores_that_round_to_zero_do_not_spoil_the_figure():
  extreme = np.array([[1000.0, -1000.0]])
  assert kld.kl_divergence(extreme, extreme) == pytest.approx(0, abs=1e-5)
  assert np.isfinite(kld.kl_divergence(extreme, -extreme, scores='sigmoid'))


@pytest.mark.parametrize(
  ('changes', 'words'),
  [
    ({'scores': 'softmin'}, 'scores'),
    ({'direction': 'up'}, 'direction'),
    ({'pooling': 'max'}, 'pooling'),
    ({'generated': np.zeros((0, 5))}, 'one segment'),
    ({'generated': np.zeros((2, 4))}, 'same classes'),
  ],
)
def test_what_cannot_be_compared_is_refused(changes, words):
  arguments = {'reference': P, 'generated': Q} | changes
  with pytest.raises(ValueError, match=words):
    kld.kl_divergence(**arguments)
