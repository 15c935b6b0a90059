"""Where MuLan's word pieces are kept."""

import os
from pathlib import Path

from musiclm_jax.contracts.errors import UsageError


def find_vocabulary(workdirs: str | os.PathLike) -> Path:
  """Finds vocab.txt below a folder of workdirs or a bundle.

  Raises:
    UsageError: If there is none.
  """
  path = Path(workdirs) / 'mulan' / 'vocab.txt'
  if not path.is_file():
    raise UsageError(
      f"'{path}' is missing: train the mulan stage, which leaves it there"
    )
  return path
