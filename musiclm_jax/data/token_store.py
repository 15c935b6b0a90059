"""The token store: what a corpus became, one record a crop.

A store is a folder:

  contract.json                        what the tokens mean
  train/plan.json                      pieces, crop, shards: what was asked for
  train/00003-of-00016.array_record    records of the pieces 3, 19, 35, ...
  train/00003-of-00016.json            what these were made of

A record holds the tokens of one crop of the longest length that an LM needs,
hence every shorter crop nested in it, and the MuLan tokens of all crops of its
piece, which condition on another window. A shard is a pure function of its
index and appears whole or not at all: an interrupted run continues with the
shards that are missing, on any number of processes, and with the crops that
`00003-of-00016.kept` holds.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from musiclm_jax.contracts import atomic_file, ownership, record_file
from musiclm_jax.contracts.atomic_file import write_text
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.kept_parts import KeptParts
from musiclm_jax.contracts.paths import name_from_bytes, name_to_bytes
from musiclm_jax.contracts.terminal import first_few, printable
from musiclm_jax.contracts.token_contract import TokenContract
from musiclm_jax.data.origins import Origins, ShardOrigins
from musiclm_jax.data.sources import SPLITS

PIECES_PER_SHARD = 64
_SUFFIX = '.array_record'
CONTRACT = 'contract.json'
FOLDER = ownership.Kind(
  'token store',
  (
    CONTRACT,
    *(f'{split}/plan.json' for split in SPLITS),
    *(f'{split}/[0-9]*-of-[0-9]*' for split in SPLITS),
  ),
  known=lambda folder: (
    {'schema_version', 'streams'}
    <= ownership.object_in(folder / CONTRACT).keys()
  ),
)
_TOKENS = (
  'mulan',
  'piece_mulan',
  'semantic',
  'acoustic',
  'mulan_text',
  'melody',
)


@dataclasses.dataclass(frozen=True)
class TokenRecord:
  """Tokens of one crop.

  Attributes:
    piece_id: Of the piece that was cropped.
    start_seconds: Where in the piece the crop begins.
    crop_seconds: Its length.
    mulan: Audio tokens of the whole crop [12].
    piece_mulan: The same of all N crops of the piece [N, 12].
    piece_starts: Their starts in seconds [N].
    semantic: [Ts].
    acoustic: [Ta, Q]; None where a store is for the semantic stage alone.
    melody: [N, Q] of its windows; None where there was no network for it.
    mulan_text: Text tokens of n captions of the crop [n, 12]; None in the
      train split, where captions do not enter.
  """

  piece_id: str
  start_seconds: float
  crop_seconds: float
  mulan: np.ndarray
  piece_mulan: np.ndarray
  piece_starts: np.ndarray
  semantic: np.ndarray
  acoustic: np.ndarray | None = None
  mulan_text: np.ndarray | None = None
  melody: np.ndarray | None = None

  def to_bytes(self) -> bytes:
    """Packs the record: 16 bits a token, no pickles."""
    from safetensors.numpy import save

    arrays = {
      'piece_id': np.frombuffer(name_to_bytes(self.piece_id), np.uint8),
      'start_seconds': np.asarray([self.start_seconds], np.float64),
      'crop_seconds': np.asarray([self.crop_seconds], np.float64),
      'piece_starts': np.asarray(self.piece_starts, np.float64),
    }
    for name in _TOKENS:
      tokens = getattr(self, name)
      if tokens is not None:
        arrays[name] = np.ascontiguousarray(tokens).astype(np.uint16)
    return save(arrays)

  @classmethod
  def from_bytes(cls, data: bytes) -> 'TokenRecord':
    """Unpacks what `to_bytes` packed, tokens as int32."""
    from safetensors.numpy import load

    arrays = load(data)
    tokens = {
      name: arrays[name].astype(np.int32) for name in _TOKENS if name in arrays
    }
    return cls(
      piece_id=name_from_bytes(arrays['piece_id'].tobytes()),
      start_seconds=float(arrays['start_seconds'][0]),
      crop_seconds=float(arrays['crop_seconds'][0]),
      piece_starts=arrays['piece_starts'],
      **tokens,
    )


@dataclasses.dataclass(frozen=True)
class Plan:
  """What one split of a store shall hold.

  Attributes:
    pieces: Ids of the pieces, in the order of the source.
    crop_seconds: Length of a record.
    hop_seconds: From one crop of a piece to the next.
    min_dbfs: Softer crops are left out.
    source: The `kind:DIR` that was read, for the reader's information.
    acoustic: Whether records hold acoustic tokens.
  """

  pieces: tuple[str, ...]
  crop_seconds: float
  hop_seconds: float
  min_dbfs: float
  source: str
  acoustic: bool = True

  @property
  def num_shards(self) -> int:
    """Files of the split, at least one."""
    return max(1, -(-len(self.pieces) // PIECES_PER_SHARD))

  def shard_pieces(self, shard: int) -> range:
    """Lists the indices of the pieces of a shard."""
    return range(shard, len(self.pieces), self.num_shards)

  def to_json(self) -> str:
    """The plan as JSON; pieces as their number and hash."""
    digest = hashlib.sha256(name_to_bytes('\n'.join(self.pieces))).hexdigest()
    fields = {
      'acoustic': self.acoustic,
      'crop_seconds': self.crop_seconds,
      'hop_seconds': self.hop_seconds,
      'min_dbfs': self.min_dbfs,
      'num_pieces': len(self.pieces),
      'num_shards': self.num_shards,
      'pieces_sha256': digest,
      'source': self.source,
    }
    return json.dumps(fields, indent=1, sort_keys=True)


class TokenStoreWriter:
  """Writes the shards of one split; what is there already stays.

  Attributes:
    split: Its name.
  """

  def __init__(
    self,
    folder: str | os.PathLike,
    split: str,
    plan: Plan,
    contract: TokenContract,
  ):
    """Begins or continues a split.

    Raises:
      UsageError: If the folder holds tokens of another plan or contract, or
        something of a user's where tokens would be written.
    """
    ownership.begin(Path(folder), FOLDER)
    self.split = split
    self._folder = Path(folder) / split
    atomic_file.remove_leftovers(self._folder)
    self._plan = plan
    path = Path(folder) / CONTRACT
    if path.exists():
      there = TokenContract.read(path)
      there.check(contract, str(path), 'the given networks')
    else:
      write_text(path, contract.to_json())
    path = self._folder / 'plan.json'
    if path.exists():
      _check_plan(path, plan)
    else:
      write_text(path, plan.to_json())

  def missing(
    self, process_index: int = 0, process_count: int = 1
  ) -> list[int]:
    """Lists the shards that this process still has to write.

    One that cannot be read is made again.
    """
    shards = range(process_index, self._plan.num_shards, process_count)
    return [s for s in shards if not self.has(s)]

  def has(self, shard: int) -> bool:
    """Whether a shard is there and whole."""
    return record_file.read_all(self._path(shard)) is not None

  def write(self, shard: int, records: Iterable[TokenRecord]) -> int:
    """Writes one shard, whole or not at all.

    Returns:
      Number of records.

    Raises:
      OSError: If the disk does not take it; see `record_file.write`.
    """
    rows = (record.to_bytes() for record in records)
    return record_file.write(self._path(shard), rows, 'group_size:1')

  def origins(self, shard: int) -> ShardOrigins | None:
    """What a shard is, or is being, made of; None where that is not known."""
    return ShardOrigins.read(self._path(shard, '.json'))

  def begin(self, shard: int, origins: ShardOrigins) -> KeptParts:
    """Notes what a shard will be made of; one that is there is removed.

    Returns:
      What an interrupted run has kept for a shard of these origins.
    """
    self._path(shard).unlink(missing_ok=True)
    self.renew(shard, origins)
    return KeptParts(self._path(shard, '.kept'), origins.digest())

  def renew(self, shard: int, origins: ShardOrigins) -> None:
    """Notes other times of the same contents."""
    if origins != self.origins(shard):
      origins.write(self._path(shard, '.json'))

  def remove_stale(
    self,
    origins: Origins,
    shards: Iterable[int],
    code: str,
    report: Callable[[str], None],
  ) -> None:
    """Removes shards that are not of what the pieces are now.

    What of the others cannot be known, or was made by other code, is reported.

    Args:
      origins: What the split's pieces are made of now.
      shards: To be looked at.
      code: Hash of the code that would make them now.
      report: Gets a line a cause.

    Raises:
      UsageError: If there are such and the music lies in another place than
        when the split was begun: that may be other music of the same names.
    """
    plan = self._plan
    stale, changed, unknown, others = [], [], 0, 0
    for shard in filter(self.has, shards):
      old = self.origins(shard)
      if old is None:
        unknown += 1
        continue
      now, lost = origins.compare(
        old, {i: plan.pieces[i] for i in plan.shard_pieces(shard)}
      )
      if lost:
        stale.append(shard)
        changed += lost
      else:
        self.renew(shard, now)
        others += old.code != code
    if stale:
      self._remove_changed(
        stale, first_few([f"'{printable(name)}'" for name in changed]), report
      )
    if unknown:
      report(
        f'{self.split}: {unknown} shard(s) of an earlier version stay as they '
        'are: whether their music has changed since is not known'
      )
    if others:
      report(
        f'{self.split}: {others} shard(s) were made by other code and stay as '
        'they are: give another --out to make all alike'
      )

  def _remove_changed(
    self, shards: Sequence[int], changed: str, report: Callable[[str], None]
  ) -> None:
    source = _read_plan(self._folder / 'plan.json', self.split)['source']
    if source != self._plan.source:
      raise UsageError(
        f'the {self.split} tokens were made of {printable(source)}; in '
        f'{printable(self._plan.source)} is other music of the same names '
        f'({changed}): give another --out'
      )
    for shard in shards:
      self._path(shard).unlink(missing_ok=True)
    report(
      f'{self.split}: {len(shards)} shard(s) are made again, as the music or '
      f'the captions of {changed} have changed'
    )

  def _path(self, shard: int, suffix: str = _SUFFIX) -> Path:
    return self._folder / f'{shard:05}-of-{self._plan.num_shards:05}{suffix}'


class TokenStore:
  """Reads one split of a store; safe to use from threads.

  Attributes:
    contract: What the tokens mean.
    crop_seconds: Length of every record.
    specs: Of each stream of tokens that its records hold.
  """

  def __init__(self, folder: str | os.PathLike, split: str):
    """Opens a split.

    Raises:
      UsageError: If the store or the split is missing, incomplete, damaged or
        empty.
    """
    folder = Path(folder)
    if not (folder / CONTRACT).exists():
      raise UsageError(
        f"'{folder}' is no token store (it has no {CONTRACT}): make one "
        'with python -m musiclm_jax.tokenize'
      )
    self.contract = TokenContract.read(folder / CONTRACT)
    plan = _read_plan(folder / split / 'plan.json', split)
    self.crop_seconds = plan['crop_seconds']
    self.specs = {
      stream: spec
      for stream, spec in self.contract.streams.items()
      if stream != 'acoustic' or plan['acoustic']
    }
    self._paths = _shard_paths(folder / split, plan['num_shards'])
    self._ends = np.cumsum([_num_records(path) for path in self._paths])
    self._records = record_file.source(self._paths)
    if len(self._records) == 0:
      raise UsageError(f"the {split} split of token store '{folder}' is empty")

  def __len__(self) -> int:
    """Counts the records."""
    return len(self._records)

  def record(self, i: int) -> TokenRecord:
    """Reads record `i`.

    Raises:
      UsageError: If its shard is damaged.
    """
    try:
      return TokenRecord.from_bytes(self._records[i])
    except RuntimeError as error:
      shard = int(np.searchsorted(self._ends, i, side='right'))
      raise UsageError(_damaged(self._paths[shard])) from error

  def read(self, i: int) -> Mapping[str, np.ndarray]:
    """Reads record `i` as a dict of what is known of it."""
    fields = dataclasses.asdict(self.record(i))
    return {name: v for name, v in fields.items() if v is not None}


def _check_plan(path: Path, plan: Plan) -> None:
  there, asked = _read_plan(path, path.parent.name), json.loads(plan.to_json())
  for field in sorted(asked):
    # The same pieces may lie in another folder now.
    if field == 'source' or there.get(field) == asked[field]:
      continue
    begun, now = f'{field} {there.get(field)}', asked[field]
    if field == 'num_pieces':  # which shard a piece is in depends on all
      begun, now = f'{there.get(field)} pieces', f'{asked[field]} of them'
    elif field == 'pieces_sha256':
      begun, now = f'{plan.source} as it was', 'other pieces (new names)'
    raise UsageError(
      f'{path.parent} was begun with {begun}, now it is {now}: give another '
      '--out, or --overwrite to begin again'
    )


def _read_plan(path: Path, split: str) -> dict:
  try:
    plan = {'acoustic': True} | json.loads(path.read_text(encoding='utf-8'))
    kinds = {'num_shards': int, 'crop_seconds': float, 'source': str}
    return plan | {name: kind(plan[name]) for name, kind in kinds.items()}
  except FileNotFoundError as error:
    raise UsageError(
      f"the token store '{path.parent.parent}' has no {split} split: run "
      f'tokenize with --splits={split}'
    ) from error
  except (ValueError, KeyError, TypeError) as error:
    raise UsageError(
      f'{path} is damaged: run tokenize with --overwrite to make the store '
      'again, or give another --out'
    ) from error


def _shard_paths(folder: Path, count: int) -> list[Path]:
  paths = [folder / f'{k:05}-of-{count:05}{_SUFFIX}' for k in range(count)]
  absent = [path.name for path in paths if not path.exists()]
  if absent:
    raise UsageError(
      f'token store {folder}: {len(absent)} of {count} shards are not there '
      f'yet (the first is {absent[0]}): run tokenize again, it continues'
    )
  return paths


def _num_records(path: Path) -> int:
  """Counts a shard's records by its footer, which a truncated file lacks."""
  count = record_file.num_records(path)
  if count is None:
    raise UsageError(_damaged(path))
  return count


def _damaged(path: Path) -> str:
  return (
    f'{path} is damaged or cut short: run tokenize again, which makes it anew'
  )
