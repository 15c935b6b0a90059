"""Says within a minute whether the processes of a run find each other.

`python -m musiclm_jax.preflight` on every host, with the environment of the
training: prints processes x devices, or why not. It changes nothing.
"""

import json
import os
import re
import subprocess
import sys
import time

from absl import flags

from musiclm_jax import door
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.launch import host_report, membership, roll_call
from musiclm_jax.launch.membership import Membership

_SECONDS = flags.DEFINE_integer('seconds', 60, 'Longest time to wait.', 10)
_MODULE = 'musiclm_jax.launch.first_sum'


def _call_roll(member: Membership, seconds: float) -> None:
  """Refuses where a process is missing or another one is different."""
  report = host_report.of_this_host(member.index, member.count)
  reports = roll_call.call(member, report, seconds)
  if why := host_report.trouble(reports, member.count):
    raise UsageError(why)
  if member.index == 0:
    for each in reports:
      print(f'process {each.index}: {each.host}', flush=True)


def _sum_up(member: Membership, seconds: float) -> dict:
  """Lets jax join, count and add.

  Raises:
    UsageError: If it fails or hangs, with jax's own reason.
  """
  alone = member.count == 1
  try:
    done = subprocess.run(
      [sys.executable, '-m', _MODULE],
      env=os.environ | ({} if alone else member.variables()),
      capture_output=True,
      text=True,
      timeout=seconds,
    )
  except subprocess.TimeoutExpired as error:
    raise UsageError(
      f'all {member.count} processes are there, but jax did not join them and '
      f'their devices within {seconds:.0f} s: look whether the hosts reach '
      'each other on every port, and belong to one slice'
    ) from error
  if done.returncode:
    raise UsageError(f'jax cannot start here: {reason(done.stderr)}')
  return json.loads(done.stdout.splitlines()[-1])


def reason(log: str) -> str:
  """Finds the line that says why jax ended."""
  lines = [line.strip() for line in log.splitlines() if line.strip()]
  errors = [
    line for line in lines if re.match(r'[\w.]*(Error|Exception)', line)
  ]
  fatal = [line for line in lines if re.match(r'F\d{4} ', line)]
  said = errors[-1:] or fatal[:1] or lines[-1:] or ['it said nothing']
  return said[0][:500]


def main() -> None:
  """Prints one line that says what is there."""
  started = time.monotonic()
  member = membership.find() or Membership('', 1, 0)
  if member.count > 1:
    _call_roll(member, _SECONDS.value / 2)
  elif busy := host_report.tpu_holders():
    raise UsageError(f'the TPU is in use by {busy[0]}: stop it, or wait')
  left = _SECONDS.value - (time.monotonic() - started)
  found = _sum_up(member, left)
  expected = member.count * (member.count + 1) // 2
  if found['sum'] != expected:
    raise UsageError(
      f'a sum over the processes gave {found["sum"]} instead of {expected}: '
      'the devices do not hear each other; look at the network'
    )
  counts = found['devices']
  if len(set(counts)) > 1:
    raise UsageError(
      f'the processes have {counts} devices, not the same number each: look '
      'at the hosts that have fewer'
    )
  print(
    f'ready: {len(counts)} {"process" if len(counts) == 1 else "processes"} x '
    f'{counts[0]} devices ({found["kind"]}) in '
    f'{time.monotonic() - started:.0f} s',
    flush=True,
  )


if __name__ == '__main__':
  door.run(main)
