"""Does text find its audio, and do both get the same codes.

Embeddings [N, D] of captions and crops -> recall at 1 over 64 crops that
differ in their attributes; codes [N, 12] of both -> agreement per level.
"""

import dataclasses
from collections.abc import Hashable, Sequence

import numpy as np

from musiclm_jax.evaluation import gates, statistics

GALLERY = 64
_DRAWS = 50


def distinct(attributes: Sequence[Hashable]) -> list[int]:
  """Indices of the first pair of every attribute tuple."""
  seen: dict[Hashable, int] = {}
  for index, value in enumerate(attributes):
    seen.setdefault(value, index)
  return list(seen.values())


def recall_at_1(
  text: np.ndarray, audio: np.ndarray, *, gallery: int = GALLERY, seed: int = 0
) -> np.ndarray:
  """How often each text ranks its own audio first among `gallery` pairs.

  Args:
    text: Unit embeddings [N, D]; row i belongs to row i of `audio`.
    audio: Unit embeddings [N, D].
    gallery: Pairs that compete; N > gallery averages over 50 draws, which
      takes the luck of one gallery out of the figure.
    seed: Of the draws.

  Returns:
    Share of the draws that were won, per pair [N].

  Raises:
    ValueError: If there are fewer pairs than the gallery needs.
  """
  count = len(text)
  if count < gallery:
    raise ValueError(f'expected {gallery} distinct pairs, got {count}')
  scores = text @ audio.T
  rng = np.random.default_rng([seed, count])
  hits, drawn = np.zeros(count), np.zeros(count)
  for _ in range(_DRAWS if count > gallery else 1):
    chosen = rng.permutation(count)[:gallery]
    part = scores[np.ix_(chosen, chosen)]
    # A tie is no hit: embeddings that have all collapsed find nothing.
    rivals = part.copy()
    np.fill_diagonal(rivals, -np.inf)
    hits[chosen] += np.diag(part) > rivals.max(axis=1)
    drawn[chosen] += 1
  return hits[drawn > 0] / drawn[drawn > 0]


@dataclasses.dataclass(frozen=True)
class Agreement:
  """Equal codes of text and audio, per pair and level.

  Attributes:
    matched: Of pairs that belong together, per piece [U, L].
    chance: Of each text with the audio of other pieces, per piece [U, L].
  """

  matched: np.ndarray
  chance: np.ndarray

  def margin(self, level: int) -> statistics.Interval:
    """Agreement above chance at a level, from 0."""
    return statistics.bootstrap_difference(
      self.matched[:, level], self.chance[:, level]
    )


def agreement(
  text_codes: np.ndarray, audio_codes: np.ndarray, units: Sequence[Hashable]
) -> Agreement:
  """Compares codes of captions and crops.

  Args:
    text_codes: [N, L].
    audio_codes: [N, L] of the crops that the captions describe.
    units: Piece of each pair.
  """
  units = list(units)
  matched, chance = [], []
  others = np.array([[a != b for b in units] for a in units])
  for level in range(text_codes.shape[1]):
    equal = text_codes[:, level, None] == audio_codes[None, :, level]
    matched.append(statistics.unit_means(np.diag(equal), units)[0])
    expected = (equal & others).sum(axis=1) / np.maximum(others.sum(axis=1), 1)
    chance.append(statistics.unit_means(expected, units)[0])
  return Agreement(np.stack(matched, axis=1), np.stack(chance, axis=1))


def recall_gate(hits: np.ndarray, gallery: int = GALLERY) -> gates.Gate:
  """`mulan_recall`: the lower bound of R@1 reaches five times chance."""
  interval = statistics.bootstrap_mean(hits)
  chance = 1 / gallery
  words = f'R@1 over {gallery} pairs >= {gates.RECALL_OVER_CHANCE} x chance'
  return gates.make(
    'mulan_recall',
    interval,
    chance,
    {words: interval.low >= gates.RECALL_OVER_CHANCE * chance},
  )


def handover_gate(measured: Agreement) -> gates.Gate:
  """`mulan_handover`: the first two levels agree above chance."""
  margins = [measured.margin(level) for level in (0, 1)]
  weakest = int(np.argmin([margin.low for margin in margins]))
  chance = float(measured.chance[:, weakest].mean())
  return gates.make(
    'mulan_handover',
    margins[weakest].shifted(chance),
    chance,
    {
      f'level {level + 1}: text and audio agree above chance': margin.low > 0
      for level, margin in enumerate(margins)
    },
  )


def figures(measured: Agreement) -> dict:
  """Agreement and chance of every level, for the report."""
  return {
    'agreement_per_level': measured.matched.mean(axis=0),
    'chance_per_level': measured.chance.mean(axis=0),
  }
