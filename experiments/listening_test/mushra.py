"""Scores of MUSHRA (ITU-R BS.1534-3): who is left out, means, signed ranks.

`Scores` [N, K] -> raters who do not recognize the reference, and why; means of
the others with bounds over clips
"""

import dataclasses
import itertools

import numpy as np

from experiments.listening_test import preferences
from experiments.listening_test.answers import Scores
from experiments.listening_test.preferences import SignedRanks
from musiclm_jax.metrics import bootstrap

# BS.1534-3 §4.1.2: who scores the hidden reference below 90 in more than 15 %
# of the trials is left out.
LEAST_REFERENCE = 90.0
MOST_MISSED = 0.15


def missed_references(scores: Scores, reference: str) -> dict[str, float]:
  """Share of trials in which each rater scored the hidden reference too low."""
  column = scores.values[:, scores.systems.index(reference)]
  low = (column < LEAST_REFERENCE).astype(np.float64)
  means, raters = bootstrap.unit_means(low, scores.raters)
  return dict(zip(raters, means.tolist(), strict=True))


def without(scores: Scores, raters: set[str]) -> Scores:
  """The scores of all others."""
  rows = [k for k, rater in enumerate(scores.raters) if rater not in raters]
  return dataclasses.replace(
    scores,
    values=scores.values[rows],
    prompts=[scores.prompts[k] for k in rows],
    raters=[scores.raters[k] for k in rows],
  )


def means(
  scores: Scores, units: list[str], *, seed: int = 0
) -> dict[str, bootstrap.Interval]:
  """Mean score of each system; `units`, [N], are resampled and weigh alike."""
  return {
    system: bootstrap.mean(
      bootstrap.unit_means(scores.values[:, k], units)[0], seed=seed
    )
    for k, system in enumerate(scores.systems)
  }


def signed_ranks(
  scores: Scores, *, alpha: float, tests: int | None = None
) -> list[SignedRanks]:
  """Wilcoxon's signed-rank test of each pair of systems, on one trial each."""
  pairs = list(itertools.combinations(range(len(scores.systems)), 2))
  threshold = alpha / (tests or len(pairs))
  found = []
  for a, b in pairs:
    values = scores.values[:, a] - scores.values[:, b]
    by_prompt, _ = bootstrap.unit_means(values, scores.prompts)
    found.append(
      SignedRanks(
        (a, b),
        len(values),
        preferences.p_value(values),
        preferences.p_value(by_prompt),
        threshold,
      )
    )
  return found
