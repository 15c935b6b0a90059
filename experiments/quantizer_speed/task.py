"""What both sides compute: the same numbers from the same seeds."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

THREADS = 2
TURNS = 3
CLUSTERS = 1024
ITERATIONS = 20
_POINTS = 200_000
_DIM = 256


def best(call: Callable[[], Any]) -> tuple[float, Any]:
  """Seconds of the fastest of some calls after a first one; its result."""
  result, seconds = call(), []
  for _ in range(TURNS):
    start = time.perf_counter()
    result = call()
    seconds.append(time.perf_counter() - start)
  return min(seconds), result


def normal() -> tuple[np.ndarray, np.ndarray]:
  """Latents [8, 500, 128] and codebooks [12, 1024, 128]."""
  rng = np.random.default_rng(0)
  shapes = (8, 500, 128), (12, 1024, 128)
  return tuple(rng.standard_normal(s, dtype=np.float32) for s in shapes)


def blobs() -> np.ndarray:
  """200,000 points in 256 dimensions around 2,000 centres."""
  rng = np.random.default_rng(0)
  centres = rng.standard_normal((2000, _DIM), dtype=np.float32)
  noise = rng.standard_normal((_POINTS, _DIM), dtype=np.float32)
  return centres[rng.integers(0, len(centres), _POINTS)] + 0.7 * noise


def inertia(points: np.ndarray, centroids: np.ndarray) -> float:
  """Mean squared distance to the nearest centroid."""
  total = 0.0
  lengths = (centroids**2).sum(axis=1)
  for block in np.array_split(points, 100):
    scores = lengths - 2.0 * block @ centroids.T
    total += float((scores.min(axis=1) + (block**2).sum(axis=1)).sum())
  return total / len(points)
