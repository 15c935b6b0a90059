"""Who is there, asked before jax is: every process's report to all of them.

Jax's runtime ends a process without a word where another one is missing, so
its own port is used for a moment before it: process 0 listens there, the
others send a line of JSON and get one line with all reports back.
"""

import contextlib
import dataclasses
import itertools
import json
import socket
import time

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.launch.host_report import HostReport
from musiclm_jax.launch.membership import Membership

_RETRY_SECONDS = 0.2
_GRACE_SECONDS = 5.0  # that a worker waits longer than process 0 listens


def call(
  member: Membership, report: HostReport, seconds: float
) -> list[HostReport]:
  """Exchanges reports.

  Args:
    member: This process.
    report: Its own.
    seconds: To wait for the others.

  Returns:
    The reports of all that came in time, by index.

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
        reports.append(_report(json.loads(_line(connection))))
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
        return [_report(each) for each in json.loads(_line(line))]
    except (OSError, ValueError) as error:
      if time.monotonic() + _RETRY_SECONDS > deadline:
        raise UsageError(
          f'process {member.index} on {report.host} finds no process 0 at '
          f'{member.address} ({error or type(error).__name__}): start it '
          'there, open the port, or mend JAX_COORDINATOR_ADDRESS'
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


def _report(fields: dict) -> HostReport:
  return HostReport(**fields | {'busy': tuple(fields['busy'])})
