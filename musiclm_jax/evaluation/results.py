"""Results of an evaluation: flat figures, and `details` of what made them."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from musiclm_jax.metrics.bootstrap import Interval


@dataclasses.dataclass
class Results:
  """Figures as they are found.

  Attributes:
    figures: Key, such as `fad_tagger` -> number; None where there is none,
      which `details` explains.
    summary: Lines for people that stand before the figures.
    unlisted: Keys of figures that `lines` leaves out, as a summary tells them.
    details: Key -> hash, windowing, n, seed, interval, values of clips, and
      remarks that belong beside the figure.
  """

  figures: dict[str, float | None] = dataclasses.field(default_factory=dict)
  details: dict[str, Any] = dataclasses.field(default_factory=dict)
  summary: list[str] = dataclasses.field(default_factory=list)
  unlisted: set[str] = dataclasses.field(default_factory=set)

  def add(
    self,
    key: str,
    value: float | None,
    *,
    interval: Interval | None = None,
    remarks: Sequence[str] = (),
    listed: bool = True,
    **details: Any,
  ) -> None:
    """Adds a figure.

    Args:
      key: Of the figure.
      value: None or not finite: there is none, and a remark says why.
      interval: With one-sided 95 % bounds.
      remarks: What a reader must know before the figure counts.
      listed: Whether it has a line of its own among `lines`.
      **details: All else.
    """
    if value is not None and not math.isfinite(value):
      value = None
    if not listed:
      self.unlisted.add(key)
    self.figures[key] = None if value is None else float(value)
    bounds = [interval.low, interval.high] if interval else None
    self.details[key] = {
      'interval': bounds,
      'remarks': list(remarks),
      **details,
    }

  def to_json(self) -> dict[str, Any]:
    """Flat figures, then `details`."""
    return {**self.figures, 'details': self.details}

  def lines(self) -> list[str]:
    """The summary, then a line of each figure, its bounds and remarks."""
    listed = [key for key in self.figures if key not in self.unlisted]
    width = max(map(len, listed), default=0)
    out = list(self.summary)
    for key in listed:
      value = self.figures[key]
      told = 'none' if value is None else f'{value:.4g}'
      bounds = self.details[key]['interval']
      if bounds:
        told += f'  [{bounds[0]:.4g}, {bounds[1]:.4g}]'
      out.append(f'{key:{width}}  {told}')
      out += [f'{"":{width}}  {line}' for line in self.details[key]['remarks']]
    return out


@dataclasses.dataclass(frozen=True)
class Side:
  """The evaluation of one bundle.

  Attributes:
    name: Short, on the page.
    results: What was measured.
    facts: Of the bundle, by name: hash, sizes, versions, …; empty without one.
  """

  name: str
  results: Results
  facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
