"""What a checkpoint says of itself, one JSON object beside its arrays."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.paths import plain_file
from musiclm_jax.training import workdir as folder

ITEM = 'about'
# 1 had the players alone, in `names`; config and contract lay in the workdir,
# and the state did not know `rolled_back`: it is read, but not continued.
SCHEMA = 2
_FIRST = 'names'


@dataclasses.dataclass(frozen=True)
class About:
  """What must be known to use a checkpoint without anything beside it.

  Attributes:
    players: Those with parameters, some perhaps without arrays.
    collections: Those with codebooks and statistics.
    config: The resolved config of the training.
    contract_json: The token contract of an LM, else None.
    metrics: Held-out metrics of its step, where they were taken.
    schema: Of the checkpoint.
  """

  players: tuple[str, ...]
  collections: tuple[str, ...]
  config: Mapping[str, Any]
  contract_json: str | None
  metrics: Mapping[str, float]
  schema: int = SCHEMA

  def check_continuable(self, path: Path) -> None:
    """Checks that a training can go on from the checkpoint at `path`.

    Raises:
      UsageError: If an older version wrote it.
    """
    if self.schema != SCHEMA:
      raise UsageError(
        f'the checkpoint {path} has schema {self.schema}, from which this '
        f'version reads weights but does not go on ({SCHEMA} is needed): give '
        'another --workdir, with --init_from of this one to use its weights'
      )


def save_args(about: About) -> Any:
  """The argument that makes Orbax write it."""
  return ocp.args.JsonSave(dataclasses.asdict(about))


def read(path: Path) -> About:
  """Reads what the checkpoint in `<workdir>/checkpoints/<step>` says.

  Raises:
    UsageError: If its schema is not one that this version reads.
    Exception: If it is damaged.
  """
  handler, given = ocp.JsonCheckpointHandler(), plain_file(path)
  if not (path / ITEM).exists() and (path / _FIRST).exists():
    return About(
      **handler.restore(given / _FIRST),
      config=folder.read_config(path.parents[1]),
      contract_json=folder.read_contract(path.parents[1]),
      metrics={},
      schema=1,
    )
  stored = handler.restore(given / ITEM)
  if stored['schema'] != SCHEMA:
    raise UsageError(
      f'the checkpoint {path} has schema {stored["schema"]}, this version '
      f'reads up to {SCHEMA}: use the version of musiclm_jax that wrote it, '
      'or another workdir'
    )
  return About(**stored)
