"""LM gates: baselines in closed form, planted models that peek or forget."""

import numpy as np
import pytest

from experiments.tiny_cascade import gates, lm_checks, ngrams

SIZE = 8


def test_unigram_is_add_one():
  table = ngrams.unigram(np.array([0, 0, 1]), 4)
  np.testing.assert_allclose(np.exp(table), [3 / 7, 2 / 7, 1 / 7, 1 / 7])


def test_bigram_beats_the_unigram_on_a_chain_and_not_on_noise():
  rng = np.random.default_rng(0)
  chain = np.cumsum(rng.integers(1, 3, (40, 100)), axis=1) % SIZE
  noise = rng.integers(0, SIZE, (40, 100))
  for tokens, better in ((chain, True), (noise, False)):
    train, test = tokens[:20], tokens[20:]
    first = ngrams.unigram(train, SIZE)
    table = ngrams.bigram(list(train), SIZE)
    gain = (
      ngrams.unigram_nll(test, first) - ngrams.bigram_nll(test, table, first)
    ).mean()
    assert (gain > 0.5) == better
    assert gain > -0.1


def test_unseen_tokens_cost_something_finite():
  table = ngrams.unigram(np.zeros(10, int), SIZE)
  assert np.isfinite(ngrams.unigram_nll(np.full((1, 5), 7), table))


def nll(stage, model, unigram=2.0, bigram=None, levels=4):
  rng = np.random.default_rng(0)

  def around(mean):
    return mean + 0.1 * rng.standard_normal((30, levels))

  return lm_checks.Nll(
    stage,
    around(model),
    around(unigram),
    None if bigram is None else around(bigram),
  )


def test_a_model_below_the_unigram_passes():
  assert nll('coarse', 1.5).gate().passed
  assert nll('fine', 1.5).gate().passed


def test_a_model_that_is_the_unigram_fails():
  assert not nll('coarse', 2.0).gate().passed


def test_semantic_must_beat_the_bigram_too():
  assert nll('semantic', 1.0, bigram=1.5, levels=1).gate().passed
  gate = nll('semantic', 1.7, bigram=1.5, levels=1).gate()
  assert not gate.passed and gate.conditions['below the training unigram']


def test_other_pieces_are_other_pieces():
  units = ['a'] * 5 + ['b'] * 3 + ['c']
  chosen = lm_checks.other_pieces(units)
  assert all(units[i] != units[j] for i, j in enumerate(chosen))
  with pytest.raises(ValueError, match='two pieces'):
    lm_checks.other_pieces(['a', 'a'])


def conditioning(*names, **costs):
  rng = np.random.default_rng(1)
  own = rng.normal(2.0, 0.3, 40)
  costs = dict.fromkeys(names, 0.1) | costs
  return lm_checks.ConditioningCost(
    own,
    {
      name: own + cost + 0.02 * rng.standard_normal(40)
      for name, cost in costs.items()
    },
  )


def conditioning_gate(**changes):
  return lm_checks.conditioning_gate(
    changes.get('audio', conditioning('none', 'other_piece')),
    changes.get('text', conditioning('none')),
    changes.get('coarse', conditioning('other_semantic')),
  )


@pytest.mark.parametrize(
  ('change', 'stage'),
  [
    ({'audio': conditioning('none', other_piece=0.0)}, 'semantic'),
    ({'coarse': conditioning(other_semantic=0.0)}, 'coarse'),
  ],
)
def test_an_lm_that_ignores_its_conditioning_fails(change, stage):
  """Mistake 33: crops drawn independently teach a model to ignore it."""
  assert conditioning_gate().passed
  gate = conditioning_gate(**change)
  assert not gate.passed and gate.stage == stage
  assert gate.kind == gates.MACHINERY


def test_tokens_that_are_worse_than_none_do_not_suffice():
  """Though those of another piece are dearer still."""
  worse = conditioning(none=-0.05, other_piece=0.1)
  for change in ({'text': worse}, {'audio': worse}):
    gate = conditioning_gate(**change)
    assert not gate.passed and gate.kind == gates.SIZE, change
  gate = conditioning_gate(text=worse)
  assert gate.value < 0 and gate.stage == 'mulan_rvq'


def looking_at(*offsets):
  """Logits [B, N, SIZE] that see the tokens at these offsets."""

  def logits(batch):
    tokens = batch['semantic']
    seen = sum(np.roll(tokens, -offset, axis=1) for offset in offsets)
    return np.eye(SIZE)[np.asarray(seen) % SIZE]

  return logits


@pytest.mark.parametrize(
  ('offsets', 'passed'),
  [((-1, -2), True), ((-2,), False), ((-1, 0), False), ((-1, 1), False)],
)
def test_perturbation_sees_models_without_past_or_with_future(offsets, passed):
  """Mistake 31: attention whose output is never used."""
  batch = {'semantic': np.random.default_rng(0).integers(0, SIZE, (2, 20))}
  moved = lm_checks.perturb(
    looking_at(*offsets), batch, 'semantic', (10,), 10, SIZE
  )
  gate = lm_checks.perturbation_gate({'semantic': moved})
  assert gate.passed == passed
