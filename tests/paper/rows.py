"""Rows of the page of conformance: what a paper says, and what stands here."""

import dataclasses
from typing import Any

EQUAL, DEPARTS, SILENT, ABSENT = 'equal', 'departs', 'silent', 'absent'


@dataclasses.dataclass(frozen=True)
class Number:
  """A number of a paper beside ours; at most one of the three reasons is set.

  Attributes:
    quantity: What is counted, with its unit.
    paper: The paper's value; None where it gives none.
    ours: An expression over what `ours.py` names; empty where we have none.
    source: Paper, section where known, and how it was read.
    departs: Why ours is another value.
    silent: What ours is, where the paper gives no value.
    absent: Why we have none.
    pattern: A regular expression, of small letters, that matches the package
      once there is one: then the row must be written anew.
  """

  quantity: str
  paper: Any
  ours: str = ''
  source: str = ''
  departs: str = ''
  silent: str = ''
  absent: str = ''
  pattern: str = ''

  @property
  def status(self) -> str:
    """What the row claims.

    Raises:
      ValueError: If it claims several things, or lacks what its claim needs.
    """
    reasons = {DEPARTS: self.departs, SILENT: self.silent, ABSENT: self.absent}
    given = [name for name, reason in reasons.items() if reason]
    status = given[0] if given else EQUAL
    if (
      len(given) > 1
      or bool(self.ours) == (status == ABSENT)
      or (self.paper is None) != (status == SILENT)
      or bool(self.source) == (status == SILENT)
      or bool(self.pattern) != (status == ABSENT)
    ):
      raise ValueError(f'a row that contradicts itself: {self}')
    return status


@dataclasses.dataclass(frozen=True)
class Claim:
  """A behaviour that tests hold.

  Attributes:
    claim: In one sentence.
    source: Paper and section.
    tests: Nodes below `tests/`, `file.py::test`.
    reason: Why it is another behaviour than the paper's.
  """

  claim: str
  source: str
  tests: tuple[str, ...]
  reason: str = ''


@dataclasses.dataclass(frozen=True)
class Chapter:
  """The rows of one network or subject.

  Attributes:
    title: Its heading, different from all others.
    numbers: Beside ours.
    claims: Behaviours.
  """

  title: str
  numbers: tuple[Number, ...] = ()
  claims: tuple[Claim, ...] = ()
