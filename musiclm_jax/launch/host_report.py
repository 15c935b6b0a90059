"""What one host says of itself before a run: name, versions, busy TPUs."""

import dataclasses
import importlib.metadata
import os
import platform
import socket
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

# All must be equal, or the processes compile different programs.
PACKAGES = ('musiclm_jax', 'jax', 'jaxlib', 'libtpu', 'flax', 'optax', 'numpy')
_TPU_FILES = ('/dev/accel', '/dev/vfio/')


@dataclasses.dataclass(frozen=True)
class HostReport:
  """One process's answer to the roll call.

  Attributes:
    index: Of the process.
    count: Processes that it believes in.
    host: Name of its machine.
    versions: Package (and `python`) -> version; a package that is missing has
      none.
    busy: Who holds a TPU of this machine, a line each.
  """

  index: int
  count: int
  host: str
  versions: dict[str, str]
  busy: tuple[str, ...] = ()


def of_this_host(index: int, count: int) -> HostReport:
  """Looks at this machine, without touching its accelerators."""
  versions = {'python': platform.python_version()}
  for package in PACKAGES:
    try:
      versions[package] = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
      versions[package] = 'missing'
  return HostReport(index, count, socket.gethostname(), versions, tpu_holders())


def tpu_holders(processes: Path = Path('/proc')) -> tuple[str, ...]:
  """Names the processes that have a TPU of this machine open.

  Args:
    processes: Where the system shows them.
  """
  found = []
  for process in sorted(processes.glob('[0-9]*')):
    try:
      files = [os.readlink(fd) for fd in (process / 'fd').iterdir()]
      if not any(name.startswith(_TPU_FILES) for name in files):
        continue
      command = (process / 'cmdline').read_bytes()
    except OSError:  # it ended meanwhile, or is another user's
      continue
    words = command.replace(b'\0', b' ').decode(errors='replace').strip()
    found.append(f'process {process.name} ({words[:80]})')
  return tuple(found)


def trouble(reports: Sequence[HostReport], count: int) -> str | None:
  """Says why these hosts cannot run together, or None.

  Args:
    reports: Of all that came.
    count: Processes that should come.
  """
  came = sorted(report.index for report in reports)
  if missing := sorted(set(range(count)) - set(came)):
    return (
      f'{len(missing)} of {count} processes did not come: missing '
      f'{_numbers(missing)}, came {_numbers(came)}; start the same command on '
      'every host'
    )
  for report in reports:
    if report.count != count:
      return (
        f'process {report.index} on {report.host} believes in {report.count} '
        f'processes, process 0 in {count}: give all the same number'
      )
  for name in ('python', *PACKAGES):
    owners = defaultdict(list)
    for report in reports:
      owners[report.versions.get(name, 'missing')].append(report.index)
    if len(owners) > 1:
      kinds = ', '.join(f'{v} on {_numbers(i)}' for v, i in owners.items())
      return f'{name} differs: {kinds}; install the same on every host'
  for report in reports:
    if report.busy:
      return (
        f'a TPU of {report.host} is in use by {report.busy[0]}: stop it, or '
        'wait for its end'
      )
  return None


def _numbers(indices: Sequence[int]) -> str:
  """Lists processes, a long list cut."""
  shown = ', '.join(map(str, indices[:8]))
  more = len(indices) - 8
  return f'process {shown}' + (f' and {more} more' if more > 0 else '')
