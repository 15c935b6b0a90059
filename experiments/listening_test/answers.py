"""Exported answers of raters, joined with the key of their page.

key and files of answers -> `Ratings` of pairs, or `Scores` of MUSHRA
"""

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.listening_test.build import KEY_FORMAT
from experiments.listening_test.preferences import Ratings
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.terminal import printable

FORMAT = 'listening_test answers 1'


@dataclasses.dataclass(frozen=True)
class Key:
  """Which clip of a page is of which system.

  Attributes:
    page: Hash of the page.
    kind: `'ab'` or `'mushra'`.
    reference: MUSHRA's reference among the systems.
    systems: Names.
    clips: Id -> (system, clip's name).
  """

  page: str
  kind: str
  reference: str | None
  systems: tuple[str, ...]
  clips: dict[str, tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class RaterAnswers:
  """A file of answers.

  Attributes:
    file: Where it lies.
    rater: Id.
    trials: How many the page had for this rater.
    answers: Each a mapping as the page wrote it, checked.
  """

  file: Path
  rater: str
  trials: int
  answers: tuple[dict[str, Any], ...]


@dataclasses.dataclass(frozen=True)
class Scores:
  """Scores of MUSHRA.

  Attributes:
    systems: Names, [K], the hidden reference and the anchors among them.
    values: In 0 … 100, [N, K].
    prompts: Name of the clip, [N].
    raters: [N].
  """

  systems: tuple[str, ...]
  values: np.ndarray
  prompts: list[str]
  raters: list[str]


def read_key(path: Path) -> Key:
  """Reads the key that `build` wrote.

  Raises:
    UsageError: If it is none.
  """
  found = _json(path)
  if found.get('format') != KEY_FORMAT:
    raise UsageError(
      f"'{printable(path)}' is no key of a listening test: give the file that "
      'build wrote beside the page'
    )
  clips = {
    clip: (owner['system'], owner['clip'])
    for clip, owner in found['clips'].items()
  }
  rated = [s for s in found['systems'] if s != f'open {found["reference"]}']
  return Key(
    found['page'], found['kind'], found['reference'], tuple(rated), clips
  )


def read_all(paths: Sequence[Path], key: Key) -> list[RaterAnswers]:
  """Reads files of answers, or all .json files of folders.

  Raises:
    UsageError: If a file holds no answers, answers of another page, or of a
      rater that another file has too.
  """
  files: list[Path] = []
  for path in paths:
    files += sorted(path.glob('*.json')) if path.is_dir() else [path]
  if not files:
    raise UsageError('there are no answers: give files or folders of them')
  found: dict[str, RaterAnswers] = {}
  for file in files:
    one = _read(file, key)
    if one.rater in found:
      raise UsageError(
        f"'{printable(file)}' and '{printable(found[one.rater].file)}' are "
        f"both of rater '{printable(one.rater)}': keep one"
      )
    found[one.rater] = one
  return list(found.values())


def ratings(raters: Sequence[RaterAnswers], key: Key) -> Ratings:
  """Comparisons of all raters.

  Raises:
    UsageError: If there is none.
  """
  index = {system: row for row, system in enumerate(key.systems)}
  first, second, preference, prompts, by = [], [], [], [], []
  for one in raters:
    for answer in one.answers:
      owners = [key.clips[clip] for clip in answer['clips']]
      first.append(index[owners[0][0]])
      second.append(index[owners[1][0]])
      preference.append(answer['preference'])
      prompts.append(owners[0][1])
      by.append(one.rater)
  if not preference:
    raise UsageError('there is no answer in any file')
  columns = [np.array(x, np.int64) for x in (first, second, preference)]
  return Ratings(key.systems, *columns, prompts, by)


def scores(raters: Sequence[RaterAnswers], key: Key) -> Scores:
  """Scores of all raters.

  Raises:
    UsageError: If there is none.
  """
  values, prompts, by = [], [], []
  for one in raters:
    for answer in one.answers:
      owners = [key.clips[clip] for clip in answer['clips']]
      given = dict(zip((o[0] for o in owners), answer['scores'], strict=True))
      values.append([given[system] for system in key.systems])
      prompts.append(owners[0][1])
      by.append(one.rater)
  if not values:
    raise UsageError('there is no answer in any file')
  return Scores(key.systems, np.array(values, np.float64), prompts, by)


def _json(path: Path) -> dict[str, Any]:
  try:
    found = json.loads(path.read_text(encoding='utf-8'))
  except OSError as error:
    raise UsageError(
      f"'{printable(path)}' cannot be read ({error.strerror})"
    ) from error
  except ValueError as error:
    raise UsageError(
      f"'{printable(path)}' is no JSON ({printable(error)}): save it anew"
    ) from error
  return found if isinstance(found, dict) else {}


def _read(path: Path, key: Key) -> RaterAnswers:
  found = _json(path)
  shown = printable(path)
  if found.get('format') != FORMAT:
    raise UsageError(
      f"'{shown}' holds no answers of a listening test: give the files that "
      'the page saved'
    )
  page = str(found.get('page'))
  if page != key.page:
    raise UsageError(
      f"'{shown}' is of the page of hash {printable(page[:8])}, the key of "
      f'{key.page[:8]}: analyse the answers of each page by itself'
    )
  answers, rater = found.get('answers'), found.get('rater')
  if not isinstance(answers, list) or not isinstance(rater, str) or not rater:
    raise UsageError(f"'{shown}' has no rater or no answers: save it anew")
  seen: set[frozenset[str]] = set()
  for number, answer in enumerate(answers, 1):
    reason = _wrong(answer, key)
    if not reason and frozenset(answer['clips']) in seen:
      reason = 'these clips were answered before'
    if reason:
      raise UsageError(f"'{shown}', answer {number}: {reason}")
    seen.add(frozenset(answer['clips']))
  trials = found.get('trials')
  trials = trials if isinstance(trials, int) else len(answers)
  return RaterAnswers(path, rater, trials, tuple(answers))


def _wrong(answer: Any, key: Key) -> str:
  """What is wrong with an answer, or nothing."""
  if not isinstance(answer, dict) or not isinstance(answer.get('clips'), list):
    return 'expected clips and what was answered'
  clips = answer['clips']
  unknown = [clip for clip in clips if clip not in key.clips]
  if unknown:
    return f"the page has no clip '{printable(unknown[0])}'"
  systems = [key.clips[clip][0] for clip in clips]
  names = {key.clips[clip][1] for clip in clips}
  rated = len(key.systems) if key.kind == 'mushra' else 2
  known = len(set(systems)) == len(systems) and set(systems) <= {*key.systems}
  if len(clips) != rated or len(names) != 1 or not known:
    return f'expected {rated} clips of one name, each of another system'
  if key.kind == 'ab':
    value = answer.get('preference')
    if not isinstance(value, int) or not -2 <= value <= 2:
      return f"the preference is '{printable(value)}', expected -2 … 2"
    return ''
  values = answer.get('scores')
  if not isinstance(values, list) or len(values) != rated:
    return f'expected {rated} scores'
  for value in values:
    number = isinstance(value, int | float) and math.isfinite(value)
    if not number or not 0 <= value <= 100:
      return f"a score is '{printable(value)}', expected 0 … 100"
  return ''
