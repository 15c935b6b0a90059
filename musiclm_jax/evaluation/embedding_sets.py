"""Embeddings of a set of clips, as far as measures need them.

clips -> [N, D] of each -> `EmbeddingSet`: statistics of all rows and of groups
of clips, and a sample of rows. What it takes does not grow with the clips.
Sets of references are kept in an .npz file, one set an embedder.
"""

import dataclasses
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from musiclm_jax.contracts import atomic_file
from musiclm_jax.contracts.errors import DAMAGED_NPZ, UsageError
from musiclm_jax.evaluation.embedders import Embedder
from musiclm_jax.metrics.fad import EmbeddingStatistics, merged

GROUPS = 20  # of clips: FAD∞ and bounds take some of them
MAX_ROWS = 5000  # that a kernel distance compares
_SCHEMA = 1


@dataclasses.dataclass(frozen=True)
class EmbeddingSet:
  """What is kept of a set of clips.

  Attributes:
    groups: Statistics of disjoint groups of clips, drawn at random.
    rows: float32 [R, D], all rows or a sample of `MAX_ROWS` of them.
    clips: Which clip each of these rows is of, int [R].
    num_clips: Clips with at least one row.
  """

  groups: tuple[EmbeddingStatistics, ...]
  rows: np.ndarray
  clips: np.ndarray
  num_clips: int

  @property
  def statistics(self) -> EmbeddingStatistics:
    """Of all rows."""
    return merged(self.groups)

  @property
  def filled(self) -> tuple[EmbeddingStatistics, ...]:
    """The groups that have a row."""
    return tuple(group for group in self.groups if group.count)


def rank_remarks(**sets: EmbeddingSet) -> list[str]:
  """What must stand beside a FAD of sets that are too small, by side."""
  return [
    f'{side} has {found.statistics.count} embeddings for '
    f'{len(found.statistics.mean)} dimensions: too few for a covariance of '
    'full rank, the figure is biased upwards'
    for side, found in sets.items()
    if not found.statistics.is_full_rank
  ]


class EmbeddingCollector:
  """Takes clips one by one and makes an `EmbeddingSet` of them."""

  def __init__(self, dimension: int, total: int, seed: int):
    """Begins with nothing.

    Args:
      dimension: Width of the embeddings.
      total: Clips that may come, which are dealt out to groups.
      seed: Of the groups and of the sample.
    """
    self._groups = [EmbeddingStatistics.empty(dimension)] * GROUPS
    rng = np.random.default_rng([seed, total])
    self._group_of = rng.permutation(total) % GROUPS
    self._rng = rng
    self._rows = np.zeros((0, dimension), np.float32)
    self._clips, self._keys = np.zeros(0, int), np.zeros(0)
    self._num_clips = 0

  def add(self, clip: int, embeddings: np.ndarray) -> None:
    """Adds the rows of a clip, [N, D]."""
    if not len(embeddings):
      return
    group = self._group_of[clip]
    self._groups[group] = self._groups[group].update(embeddings)
    self._num_clips += 1
    # The rows with the smallest of random keys are a sample without repeats.
    self._rows = np.concatenate([self._rows, embeddings])
    self._clips = np.concatenate([self._clips, np.full(len(embeddings), clip)])
    self._keys = np.concatenate([self._keys, self._rng.random(len(embeddings))])
    if len(self._rows) > 2 * MAX_ROWS:
      self._drop()

  def finish(self) -> EmbeddingSet:
    """The set of all that came."""
    self._drop()
    return EmbeddingSet(
      tuple(self._groups), self._rows, self._clips, self._num_clips
    )

  def _drop(self) -> None:
    if len(self._rows) > MAX_ROWS:
      kept = np.sort(np.argpartition(self._keys, MAX_ROWS)[:MAX_ROWS])
      self._rows = self._rows[kept]
      self._clips, self._keys = self._clips[kept], self._keys[kept]


def save(path: Path, sets: Sequence[tuple[Embedder, EmbeddingSet]]) -> None:
  """Writes sets into an .npz file, whole or not at all.

  Raises:
    OSError: Naming the file, if the disk does not take it.
  """
  arrays: dict[str, np.ndarray] = {'schema_version': np.array(_SCHEMA)}
  for embedder, found in sets:
    arrays |= {
      f'{embedder.name}/{field}': value
      for field, value in {
        'sha256': np.array(embedder.sha256),
        'windowing': np.array(embedder.windowing.name),
        'counts': np.array([group.count for group in found.groups]),
        'means': np.stack([group.mean for group in found.groups]),
        'scatters': np.stack([group.scatter for group in found.groups]),
        'rows': found.rows,
        'clips': found.clips,
        'num_clips': np.array(found.num_clips),
      }.items()
    }
  memory = io.BytesIO()
  np.savez(memory, **arrays)
  with atomic_file.atomic_open(path, 'wb') as file:
    file.write(memory.getvalue())


def load(path: Path, embedder: Embedder) -> EmbeddingSet:
  """Reads the set of one embedder.

  Raises:
    UsageError: If the file cannot be read, or was made by another embedder or
      with another windowing: such figures cannot be compared.
  """
  if not path.is_file():
    raise UsageError(f"--reference='{path}': there is no such file or folder")
  try:
    with np.load(path, allow_pickle=False) as file:
      if f'{embedder.name}/counts' not in file:
        made = sorted({n.split('/')[0] for n in file.files if '/' in n})
        raise UsageError(
          f"'{path}' has no statistics of embedder '{embedder.name}', but of "
          f'{", ".join(made) or "none"}: choose one with --embedders, or make '
          'the file again with --save_statistics'
        )
      fields = {
        field: file[f'{embedder.name}/{field}']
        for field in (
          *('sha256', 'windowing', 'counts', 'means', 'scatters'),
          *('rows', 'clips', 'num_clips'),
        )
      }
    found = EmbeddingSet(
      _groups(fields),
      fields['rows'],
      fields['clips'],
      int(fields['num_clips']),
    )
  except DAMAGED_NPZ as error:
    raise UsageError(
      f"'{path}' cannot be read as saved statistics ({error}): make it again "
      'with --save_statistics'
    ) from error
  for field, ours in (
    ('sha256', embedder.sha256),
    ('windowing', embedder.windowing.name),
  ):
    if str(fields[field]) != ours:
      raise UsageError(
        f"'{path}' was made by embedder '{embedder.name}' with {field} "
        f"'{fields[field]}', here it is '{ours}': such figures cannot be "
        'compared, make the file again'
      )
  return found


def _groups(
  fields: Mapping[str, np.ndarray],
) -> tuple[EmbeddingStatistics, ...]:
  return tuple(
    EmbeddingStatistics(int(count), mean, scatter)
    for count, mean, scatter in zip(
      fields['counts'], fields['means'], fields['scatters'], strict=True
    )
  )
