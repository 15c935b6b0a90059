"""Simulated raters: does the analysis find what was planted?

`python -m experiments.listening_test.simulate [--runs=1000]`

Strengths are planted, raters prefer and tie as Davidson's model says; the order
and the bounds that the analysis finds are counted over many runs, and so are
the preferences that it finds where there are none. Writes results.json.
"""

import argparse
import itertools
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.listening_test import preferences
from experiments.listening_test.preferences import Ratings

PLANTED = (0.9, 0.3, -0.3, -0.9)


def planted(
  strength: Sequence[float],
  *,
  prompts: int,
  raters: int,
  tie: float = 0.5,
  seed: int = 0,
) -> Ratings:
  """Ratings by simulated raters: every pair of every prompt once.

  Args:
    strength: Of each system, [K].
    prompts: Number of prompts.
    raters: Among whom the ratings are dealt out at random.
    tie: ν: of two equal systems, a share of ν / (2 + ν) ties.
    seed: Of all draws.
  """
  rng = np.random.default_rng(seed)
  strength = np.asarray(strength, np.float64)
  pairs = np.array(list(itertools.combinations(range(len(strength)), 2)))
  first, second = np.tile(pairs, (prompts, 1)).T
  swapped = rng.random(len(first)) < 0.5
  first, second = (
    np.where(swapped, second, first),
    np.where(swapped, first, second),
  )
  a, b = strength[first], strength[second]
  odds = np.exp(np.stack([a, b, (a + b) / 2 + math.log(tie)], axis=1))
  shares = np.cumsum(odds / odds.sum(axis=1, keepdims=True), axis=1)
  drawn = (rng.random((len(first), 1)) > shares[:, :2]).sum(axis=1)
  sign = np.array([-1, 1, 0])[drawn]
  return Ratings(
    tuple(f'system{k}' for k in range(len(strength))),
    first,
    second,
    sign * rng.integers(1, 3, len(sign)),
    list(np.repeat(np.arange(prompts), len(pairs))),
    list(rng.integers(0, raters, len(sign))),
  )


def recovered(runs: int, *, prompts: int, resamples: int) -> dict[str, float]:
  """Shares of runs in which the planted strengths are found.

  Returns:
    `order`: all systems in the planted order; `low` and `high`: over runs and
    systems, the planted strength above the lower, below the upper bound.
  """
  low = high = order = 0.0
  for seed in range(runs):
    ratings = planted(PLANTED, prompts=prompts, raters=12, seed=seed)
    found = preferences.bradley_terry(ratings, seed=seed, resamples=resamples)
    values = [interval.value for interval in found]
    order += values == sorted(values, reverse=True)
    for interval, strength in zip(found, PLANTED, strict=True):
      low += (interval.low <= strength) / len(PLANTED)
      high += (interval.high >= strength) / len(PLANTED)
  return {'order': order / runs, 'low': low / runs, 'high': high / runs}


def false_alarms(runs: int, *, prompts: int, alpha: float) -> float:
  """Share of runs that find a preference among equal systems."""
  found = 0
  for seed in range(runs):
    ratings = planted([0.0] * 4, prompts=prompts, raters=12, seed=seed)
    tests = preferences.signed_ranks(ratings, alpha=alpha)
    found += any(test.significant for test in tests)
  return found / runs


def main() -> None:
  """Simulates, prints and writes the shares."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--runs', type=int, default=1000)
  runs = parser.parse_args().runs
  result = {
    'date': time.strftime('%Y-%m-%d'),
    'runs': runs,
    'planted': PLANTED,
    'prompts': {
      prompts: recovered(runs, prompts=prompts, resamples=500)
      for prompts in (50, 200)
    },
    'false_alarms': {
      alpha: false_alarms(runs, prompts=50, alpha=alpha)
      for alpha in (0.01, 0.05)
    },
  }
  text = json.dumps(result, indent=1)
  Path(__file__).with_name('results.json').write_text(text + '\n')
  print(text)


if __name__ == '__main__':
  main()
