"""What a call of the generator has finished, kept until its files are there."""

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from musiclm_jax.cascade import bundle, source_code
from musiclm_jax.contracts.kept_parts import Keep, KeptParts, unkept


@contextlib.contextmanager
def kept(
  folder: Path | None,
  metadata: Mapping[str, Any],
  report: Callable[[str], None],
  module: str,
) -> Iterator[Keep]:
  """Keeps the windows of a call in a folder; the same call finds them there.

  Args:
    folder: Where the call's files go; None: nothing is kept.
    metadata: All that the music depends on but the code.
    report: Takes a line where something stays.
    module: What makes the music; with other code nothing of it is used.
  """
  if folder is None:
    yield unkept
    return
  code = source_code.digest(module, bundle.STAGES)
  everything = json.dumps([metadata, code], sort_keys=True)
  key = hashlib.sha256(everything.encode()).hexdigest()
  place = folder / f'.musiclm_jax-{key[:16]}.kept'
  try:
    with KeptParts(place, key) as keep:
      yield keep
  except BaseException:
    if place.is_dir():
      report(
        f"'{place}' keeps what was made: the same command continues from it"
      )
    raise
