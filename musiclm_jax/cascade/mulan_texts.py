"""Texts that MuLan's training leaves: its word pieces, its captions' words."""

import os
from pathlib import Path

from musiclm_jax.contracts.errors import UsageError


def read(place: str | os.PathLike, name: str) -> str | None:
  """Reads a text of MuLan's workdir or export, or of a bundle.

  Args:
    place: Where the network is.
    name: Of the text's file.

  Returns:
    The text; None where it is not there.

  Raises:
    UsageError: If it is no text.
  """
  from musiclm_jax.training import export

  place = Path(place)
  if export.is_export(place):
    return export.read(place).files.get(name)
  inside = place / 'mulan' / name
  path = inside if inside.exists() else place / name
  if not path.is_file():
    return None
  try:
    return path.read_text(encoding='utf-8')
  except UnicodeDecodeError as error:
    raise UsageError(
      f"'{path}' is no vocabulary ({type(error).__name__}): expected a "
      f'{name}, which the mulan stage leaves in its workdir'
    ) from error
