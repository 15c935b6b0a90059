"""KL divergence of what a classifier says of two clips (MusicLM §4.4).

logits [N, K] of N segments of each clip -> one figure of a pair of clips. The
reference is p and the generated clip q: Σ p log(p / (q + ε)). Published tools
differ in scores, direction and pooling, so that only figures of one choice can
be compared: each choice has a name.
"""

import numpy as np

EPSILON = 1e-6
# Over all classes, or each class for itself, as audioldm_eval sums them: not a
# divergence of distributions, and it may be below 0.
SCORES = ('softmax', 'sigmoid')
DIRECTIONS = ('reference_to_generated', 'generated_to_reference')
# Mean scores of a clip's segments, scores of its mean logits, or the mean of
# the divergences of segments that stand side by side.
POOLINGS = ('mean_scores', 'mean_logits', 'segments')


def kl_divergence(
  reference: np.ndarray,
  generated: np.ndarray,
  *,
  scores: str = 'softmax',
  direction: str = 'reference_to_generated',
  pooling: str = 'mean_scores',
  epsilon: float = EPSILON,
) -> float:
  """Compares two clips.

  Args:
    reference: Logits of the reference's segments, [M, K].
    generated: Logits of the generated clip's segments, [N, K].
    scores: One of `SCORES`.
    direction: One of `DIRECTIONS`; the first has the reference as p.
    pooling: One of `POOLINGS`; with `'segments'` those that one clip has more
      are left out.
    epsilon: Added to q before the logarithm.

  Returns:
    Nats.

  Raises:
    ValueError: If a choice has no such name, a clip has no segment, or the
      classes differ.
  """
  for name, value, table in (
    ('scores', scores, SCORES),
    ('direction', direction, DIRECTIONS),
    ('pooling', pooling, POOLINGS),
  ):
    if value not in table:
      raise ValueError(f'unknown {name} {value!r}: choose of {table}')
  pair = [np.asarray(x, np.float64) for x in (reference, generated)]
  if pair[0].shape[1:] != pair[1].shape[1:] or not all(map(len, pair)):
    raise ValueError(
      'expected logits [N, K] of the same classes, of one segment or more, got '
      f'{pair[0].shape} and {pair[1].shape}'
    )
  if pooling == 'mean_logits':
    pair = [x.mean(axis=0, keepdims=True) for x in pair]
  pair = [to_scores(x, scores) for x in pair]
  if pooling == 'mean_scores':
    pair = [x.mean(axis=0, keepdims=True) for x in pair]
  common = min(map(len, pair))
  pair = [x[:common] for x in pair]
  p, q = pair if direction == DIRECTIONS[0] else pair[::-1]
  # 0 log 0 is 0.
  terms = p * (np.log(np.where(p > 0, p, 1.0)) - np.log(q + epsilon))
  return float(terms.sum(axis=-1).mean())


def to_scores(logits: np.ndarray, scores: str) -> np.ndarray:
  """Scores in [0, 1] of logits [..., K]; see `SCORES`."""
  logits = np.asarray(logits, np.float64)
  if scores == 'sigmoid':
    return np.exp(-np.logaddexp(0.0, -logits))
  shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
  return shifted / shifted.sum(axis=-1, keepdims=True)
