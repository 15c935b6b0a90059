"""The folder of a demo: one demo's, with its seed and size, and no user's.

`demo.json` says which demo it is. What a stage has made is removed only where
all of it is ours, and all of that is looked at before the first stage runs.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.tiny_cascade import process
from experiments.tiny_cascade.plan import CascadeStage
from musiclm_jax.contracts import atomic_file, ownership
from musiclm_jax.contracts.errors import UsageError

_METADATA = 'demo.json'
FOLDER = ownership.Kind(
  'demo',
  (
    *(_METADATA, 'report.html', 'report.json', 'picture.png'),
    *('logs/*', 'stamps/*', 'corpus/*', 'workdirs/*', 'tokens/*'),
    *('features/*', 'bundle/*', 'samples/*'),
  ),
  known=lambda folder: any(
    map(process.Stamp.read, (folder / 'stamps').glob('*.json'))
  ),
)


@contextlib.contextmanager
def hold(
  out: Path, metadata: Mapping[str, Any], overwrite: bool
) -> Iterator[None]:
  """Holds a folder for this demo alone.

  Args:
    out: The folder.
    metadata: What the demo is: seed, size, …
    overwrite: Whether it may take the place of another demo.

  Raises:
    UsageError: If something of a user's or of another demo is there.
  """
  ownership.check(out, FOLDER)
  found = ownership.object_in(out / _METADATA) or ownership.object_in(
    out / 'corpus' / 'corpus.json'  # of an earlier version
  )
  for key, value in metadata.items():
    if not overwrite and found.get(key, value) != value:
      raise UsageError(
        f"'{out}' holds a demo with {key}={found[key]}, asked for {value}: "
        'choose another --out, or give --overwrite to replace it'
      )
  with ownership.hold(out, FOLDER, 'running a demo'):
    atomic_file.write_text(
      out / _METADATA, json.dumps(metadata, indent=1) + '\n'
    )
    yield


def check(
  stages: Sequence[CascadeStage],
  hashes: Mapping[str, str],
  out: Path,
  overwrite: bool,
) -> None:
  """Checks that every stage that begins anew may replace what is there.

  Args:
    stages: In order.
    hashes: Stage -> hash of what its output depends on.
    out: Folder of the demo.
    overwrite: Whether files that were changed are replaced.

  Raises:
    UsageError: Naming what is not ours.
  """
  for stage in stages:
    stamp = process.Stamp.read(out / 'stamps' / f'{stage.name}.json')
    if not (stamp and stamp.inputs == hashes[stage.name]):
      stage.check(overwrite)
