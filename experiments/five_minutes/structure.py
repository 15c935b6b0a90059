"""Do sections come back? Self-similarity of a piece beside shuffled orders.

frames [T, D] -> cosines [T, T] -> at each place the best earlier or later
stretch that runs alike for `STRETCH` seconds -> mean over places. A piece whose
parts are in another order has the same sounds and no returns.
"""

import dataclasses

import numpy as np

FRAME, STRETCH, APART = 0.4, 8.0, 16.0  # seconds
PART = 4.0  # that stays whole when the order is shuffled: half a stretch
ORDERS = 200


@dataclasses.dataclass(frozen=True)
class Returns:
  """What returns in a piece.

  Attributes:
    value: Mean likeness of a stretch and the one most like it elsewhere.
    null: The same of shuffled orders, their mean.
    deviation: Of those, the standard deviation.
    p: Share of shuffled orders that reach the value, the piece among them.
  """

  value: float
  null: float
  deviation: float
  p: float

  @property
  def sigmas(self) -> float:
    """Deviations from the null's mean to the value."""
    return (self.value - self.null) / max(self.deviation, 1e-12)


def returns(frames: np.ndarray, seed: int = 0) -> Returns:
  """Compares a piece with itself in other orders.

  Args:
    frames: Features every `FRAME` seconds [T, D].
    seed: Of the orders.

  Raises:
    ValueError: If it is shorter than two stretches and what is between them.
  """
  least = round((2 * STRETCH + APART) / FRAME)
  if len(frames) < least:
    raise ValueError(f'expected {least} frames or more, got {len(frames)}')
  x = frames - frames.mean(axis=0)
  x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)
  likeness = x @ x.T
  rng = np.random.default_rng(seed)
  value = _value(likeness)
  others = []
  for _ in range(ORDERS):
    order = _shuffled(len(x), rng)
    others.append(_value(likeness[np.ix_(order, order)]))
  reached = sum(other >= value for other in others)
  return Returns(
    value,
    float(np.mean(others)),
    float(np.std(others)),
    (1 + reached) / (1 + ORDERS),
  )


def _value(likeness: np.ndarray) -> float:
  """Mean over places of the likest stretch that is far enough, [T, T]."""
  length, apart = round(STRETCH / FRAME), round(APART / FRAME)
  count = len(likeness) - length + 1
  best = np.full(count, -1.0)
  for lag in range(apart, count):
    run = np.concatenate([[0.0], np.cumsum(np.diagonal(likeness, lag))])
    mean = (run[length:] - run[:-length]) / length
    best[: len(mean)] = np.maximum(best[: len(mean)], mean)
    best[lag : lag + len(mean)] = np.maximum(best[lag : lag + len(mean)], mean)
  return float(best[best > -1.0].mean())


def _shuffled(count: int, rng: np.random.Generator) -> np.ndarray:
  """Frames in an order whose parts are shuffled; what is left over stays."""
  size = round(PART / FRAME)
  parts = np.arange(count // size * size).reshape(-1, size)
  rest = np.arange(parts.size, count)
  return np.concatenate([rng.permutation(parts).ravel(), rest])
