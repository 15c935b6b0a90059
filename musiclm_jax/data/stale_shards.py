"""Shards whose music or captions have changed: found, said and removed."""

from collections.abc import Callable, Iterable, Sequence

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.printable import printable
from musiclm_jax.data.shard_origins import Origins, ShardOrigins
from musiclm_jax.data.token_store import Plan, TokenStoreWriter

_NAMED_PIECES = 5


def remove(
  writer: TokenStoreWriter,
  plan: Plan,
  origins: Origins,
  shards: Iterable[int],
  code: str,
  report: Callable[[str], None],
) -> None:
  """Removes shards that are not of what the pieces are now.

  What of the others cannot be known, or was made by other code, is reported.

  Args:
    writer: Of the split.
    plan: Of the split.
    origins: What its pieces are made of now.
    shards: To be looked at.
    code: Hash of the code that would make them now.
    report: Gets a line a cause.

  Raises:
    UsageError: If there are such and the music lies in another place than
      when the split was begun: that may be other music of the same names.
  """
  stale, changed, unknown, others = [], [], 0, 0
  for shard in filter(writer.has, shards):
    old = writer.origins(shard)
    if old is None:
      unknown += 1
      continue
    now = {
      plan.pieces[i]: origins.renewed(i, old.pieces.get(plan.pieces[i]))
      for i in plan.shard_pieces(shard)
    }
    if lost := [name for name, origin in now.items() if origin is None]:
      stale.append(shard)
      changed += lost
    else:
      writer.renew(shard, ShardOrigins(now, old.code))
      others += old.code != code
  if stale:
    _remove(writer, plan, stale, _few(changed), report)
  if unknown:
    report(
      f'{writer.split}: {unknown} shard(s) of an earlier version stay as they '
      'are: whether their music has changed since is not known'
    )
  if others:
    report(
      f'{writer.split}: {others} shard(s) were made by other code and stay as '
      'they are: give another --out to make all alike'
    )


def _remove(
  writer: TokenStoreWriter,
  plan: Plan,
  shards: Sequence[int],
  changed: str,
  report: Callable[[str], None],
) -> None:
  if writer.source() != plan.source:
    raise UsageError(
      f'the {writer.split} tokens were made of {printable(writer.source())}; '
      f'in {printable(plan.source)} is other music of the same names '
      f'({changed}): give another --out'
    )
  for shard in shards:
    writer.remove(shard)
  report(
    f'{writer.split}: {len(shards)} shard(s) are made again, as the music or '
    f'the captions of {changed} have changed'
  )


def _few(names: Sequence[str]) -> str:
  more = len(names) - _NAMED_PIECES
  shown = ', '.join(f"'{printable(n)}'" for n in names[:_NAMED_PIECES])
  return shown + (f' and {more} more' if more > 0 else '')
