"""A roll call before jax starts: all processes get the reports of all.

Jax's runtime ends a process without a word where another one is missing, so
its own port is used for a moment before it: process 0 listens there, the
others send a line of JSON and get one line with all reports back. A report says
what one host knows of itself before a run: name, versions, busy TPUs.
"""

import contextlib
import dataclasses
import importlib.metadata
import itertools
import json
import os
import platform
import socket
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.terminal import first_few
from musiclm_jax.launch.membership import Membership

_RETRY_SECONDS = 0.2
_GRACE_SECONDS = 5.0  # that a worker waits longer than process 0 listens
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
  busy: Sequence[str] = ()


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
    line = command.replace(b'\0', b' ').decode(errors='replace').strip()
    found.append(f'process {process.name} ({line[:80]})')
  return tuple(found)


def trouble(reports: Sequence[HostReport], count: int) -> str | None:
  """Says why these hosts cannot run together, or None.

  Args:
    reports: Of all that answered.
    count: Processes that should answer.
  """
  present = sorted(report.index for report in reports)
  if missing := sorted(set(range(count)) - set(present)):
    return (
      f'{len(missing)} of {count} processes did not come: missing '
      f'{_numbers(missing)}, got {_numbers(present)}; start the same command '
      'on every host'
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
  return 'process ' + first_few([str(index) for index in indices], 8)


def call(
  member: Membership, report: HostReport, seconds: float
) -> list[HostReport]:
  """Exchanges reports.

  Args:
    member: This process.
    report: Its own.
    seconds: To wait for the others.

  Returns:
    The reports of all that answered in time, by index.

  Raises:
    UsageError: If the address cannot be used, or process 0 is not there.
  """
  host, _, port = member.address.rpartition(':')
  if member.index == 0:
    return _listen(int(port), member.count, report, seconds)
  return _answer(host, int(port), member, report, seconds)


def _listen(
  port: int, count: int, report: HostReport, seconds: float
) -> list[HostReport]:
  deadline = time.monotonic() + seconds
  reports, connections = [report], []
  with contextlib.ExitStack() as opened:
    try:
      server = opened.enter_context(socket.create_server(('', port)))
    except OSError as error:
      raise UsageError(
        f'process 0 cannot listen on port {port} ({error.strerror}): another '
        'run holds it; stop that or give another port'
      ) from error
    while len(reports) < count and (left := deadline - time.monotonic()) > 0:
      server.settimeout(left)
      with contextlib.suppress(OSError, ValueError, TypeError):
        connection = opened.enter_context(server.accept()[0])
        connection.settimeout(max(deadline - time.monotonic(), 0.1))
        reports.append(HostReport(**json.loads(_line(connection))))
        connections.append(connection)
    reports.sort(key=lambda each: each.index)
    _check_twice(reports)
    roster = json.dumps([dataclasses.asdict(each) for each in reports])
    for connection in connections:
      with contextlib.suppress(OSError):
        connection.sendall(roster.encode() + b'\n')
  return reports


def _answer(
  host: str, port: int, member: Membership, report: HostReport, seconds: float
) -> list[HostReport]:
  deadline = time.monotonic() + seconds
  while True:
    left = deadline - time.monotonic()
    try:
      with socket.create_connection((host, port), max(left, 0.1)) as line:
        line.sendall(json.dumps(dataclasses.asdict(report)).encode() + b'\n')
        line.settimeout(max(left, 0.0) + _GRACE_SECONDS)
        return [HostReport(**each) for each in json.loads(_line(line))]
    except (OSError, ValueError) as error:
      if time.monotonic() + _RETRY_SECONDS > deadline:
        raise UsageError(
          f'process {member.index} on {report.host} finds no process 0 at '
          f'{member.address} ({error or type(error).__name__}): start it '
          'there, open the port, or fix JAX_COORDINATOR_ADDRESS'
        ) from error
      time.sleep(_RETRY_SECONDS)


def _check_twice(reports: list[HostReport]) -> None:
  for one, other in itertools.pairwise(reports):
    if one.index == other.index:
      raise UsageError(
        f'two processes say they are process {one.index}, on {one.host} and '
        f'{other.host}: give each its own JAX_PROCESS_ID'
      )


def _line(connection: socket.socket) -> bytes:
  with connection.makefile('rb') as stream:
    return stream.readline()
