"""The smallest change of a config that fits, found by trying."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.rehearsal.program import Config, with_changes

Changes = dict[str, Any]
Rehearse = Callable[[Config], Mapping[str, Any]]


def suggest(
  config: Config,
  refused: Mapping[str, Any],
  rehearse: Rehearse,
  say: Callable[[str], None] = print,
) -> dict[str, Any] | None:
  """Tries changes in turn, those that change least before others.

  Parameters over all devices and recomputation change nothing that is
  learned; nor do microbatches, except that a contrastive loss has its
  negatives and codebooks their statistics from one alone; a smaller batch
  does.

  Args:
    config: That does not fit.
    refused: Its result.
    rehearse: Of a config, `rehearsal.rehearse`.
    say: Is told of each try.

  Returns:
    `changes` of dotted keys, and `fits`, `peak_hbm_bytes`, `max_mfu` and
    `bound_by` of the config so changed; None if nothing helps.
  """
  limit = refused['hbm_limit_bytes']
  need = refused['peak_hbm_bytes'] / limit
  holds = refused['batch_bytes'] < limit
  spread = refused['parameter_bytes'] > 0 and refused['mesh']['data'] > 1
  for changes in candidates(config, refused['mesh'], need, holds, spread):
    flags = ' '.join(f'--config.{key}={v}' for key, v in changes.items())
    try:
      found = rehearse(with_changes(config, changes))
    except UsageError:
      continue
    say(f'{flags}: {"fits" if found["fits"] else "does not fit"}')
    if found['fits']:
      kept = ('fits', 'peak_hbm_bytes', 'max_mfu', 'bound_by')
      return {'changes': changes, **{name: found[name] for name in kept}}
  return None


def candidates(
  config: Config,
  mesh: Mapping[str, int],
  need: float,
  holds: bool,
  spread: bool,
) -> Iterator[Changes]:
  """Yields changes, the least first.

  Args:
    config: That does not fit.
    mesh: Its axes.
    need: Memory that it needs over what there is, at least.
    holds: Whether a chip has room for its rows of the batch at all.
    spread: Whether there are parameters to lay over more devices.
  """
  kept: Changes = {}
  if spread:
    kept = {'mesh.fsdp': 0}
    yield dict(kept)
  if unsaved := {key: 'full' for key in _without_remat(config)}:
    kept |= unsaved
    yield dict(kept)
  shards = mesh['data'] * mesh['fsdp']
  size, parts = config['data']['batch_size'], config['training']['accumulation']
  rows = size // (shards * parts)
  fewer = _halves(rows, need)
  for count in fewer if holds else ():
    yield kept | {'training.accumulation': size // (shards * count)}
  for count in fewer:
    yield kept | {'data.batch_size': shards * count * parts}


def _halves(rows: int, need: float) -> list[int]:
  """Divisors of the rows on a device, from what `need` leaves to one row."""
  most = max(1, math.floor(rows / max(need, 1.0)))
  found = [n for n in range(min(most, rows - 1), 0, -1) if rows % n == 0]
  kept = []
  for n in found:
    if not kept or n <= kept[-1] // 2 or n == 1:
      kept.append(n)
  return kept


def _without_remat(node: Mapping[str, Any], prefix: str = '') -> list[str]:
  """Dotted keys of a config whose value is no recomputation."""
  found = []
  for key, value in node.items():
    if key == 'remat' and value == 'none':
      found.append(f'{prefix}{key}')
    elif hasattr(value, 'keys'):
      found += _without_remat(value, f'{prefix}{key}.')
  return found
