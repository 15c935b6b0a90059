"""A semantic model that copies is found, and what is no copy is left alone."""

import numpy as np
from scipy import stats

from musiclm_jax.evaluation import continuations
from musiclm_jax.evaluation.continuations import LENGTH, TrainingPrompts
from musiclm_jax.metrics import memorization

COUNT = 300
NUM_STYLES, IDS = 10, 200
CENTROIDS = np.random.default_rng(5).normal(size=(IDS, 8))


def drawn_span(rng, style, length):
  """Of a piece: it moves among 9 of the 14 ids of its style."""
  ids = 20 * style + rng.choice(14, 9, replace=False)
  return ids[np.minimum(rng.geometric(0.25, length) - 1, 8)]


def drawn_prompts(rng, count, tokens):
  """Pieces of all styles, each of which its first MuLan token tells."""
  styles = np.arange(count) % NUM_STYLES
  mulan = rng.integers(0, 9, (count, 12))
  mulan[:, 0] = styles
  return TrainingPrompts(
    mulan,
    [drawn_span(rng, style, tokens + LENGTH) for style in styles],
    [f'piece {rng.integers(1 << 30)}' for _ in styles],
    [f'style {style}' for style in styles],
  )


def language_model(rng, prompts, copied, tokens):
  """One that knows how some prompts go on, and else plays something new.

  To prompts that it never saw it plays in their style, which is the harder null
  for matches of two pieces of one style.
  """
  known = {
    mulan.tobytes(): (stream[tokens:], kind)
    for mulan, stream, kind in zip(
      prompts.mulan, prompts.semantic, copied, strict=True
    )
  }

  def continue_with(mulan, given, length):
    assert given.shape == (len(mulan), tokens) and length == LENGTH
    made = []
    for row in mulan:
      true, kind = known.get(row.tobytes(), (None, 'unknown'))
      if kind == 'exact':
        made.append(true)
      elif kind == 'near':  # in another order, and with slips
        slips = rng.random(length) < 0.05
        wrong = rng.integers(0, IDS, length)
        made.append(np.where(slips, wrong, rng.permutation(true)))
      else:
        other = rng.integers(NUM_STYLES)
        style = row[0] if kind == 'unknown' else other
        made.append(drawn_span(rng, style, length))
    return np.array(made)

  return continue_with


def test_planted_copies_are_found_with_few_false_alarms():
  """95 % of 300 copies; the upper bound of alarms among 300 others is 1 %."""
  tokens = 50
  rng = np.random.default_rng(tokens)
  training = drawn_prompts(rng, 2 * COUNT, tokens)
  copied = np.array(['', 'exact', '', 'near'] * (COUNT // 2))
  lm = language_model(rng, training, copied, tokens)
  ours = continuations.continue_prompts(training, tokens, lm, CENTROIDS)
  null = continuations.continue_prompts(
    drawn_prompts(rng, 150, tokens), tokens, lm, CENTROIDS, mismatched=600
  )
  assert len(null.negatives) == 600
  np.testing.assert_array_equal(ours.exact, copied == 'exact')
  threshold = memorization.bounded_threshold(null.negatives, 0.01)
  found = ours.costs < threshold
  assert found[copied != ''].mean() >= 0.95
  alarms = int(found[copied == ''].sum())
  bound = stats.binomtest(alarms, COUNT, alternative='less')
  assert bound.proportion_ci(0.95).high <= 0.01
  assert not null.exact.any() and (null.costs < threshold).mean() <= 0.05


def test_mismatched_pairs_are_of_two_pieces_of_one_kind():
  prompts = TrainingPrompts(
    np.zeros((5, 12), int),
    [np.zeros(LENGTH, int)] * 5,
    ['a', 'a', 'b', 'c', 'd'],
    ['waltz', 'waltz', 'waltz', '', 'techno'],
  )
  pairs = continuations._mismatched(prompts, 50, 0)
  for row, other in pairs:
    assert prompts.pieces[row] != prompts.pieces[other]
    if prompts.kinds[row] == 'waltz':
      assert prompts.kinds[other] == 'waltz'
  assert {row for row, _ in pairs} == set(range(5))
  assert [len(p.pieces) for p in (prompts.longer_than(126), prompts)] == [0, 5]
