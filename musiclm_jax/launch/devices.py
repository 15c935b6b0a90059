"""Whether jax finds the devices that it should use, and they can work together.

`python -m musiclm_jax.launch.devices` joins a run, counts its devices, adds up
one number over all of them and prints one JSON object; `ask` starts it, because
jax ends the process where joining fails, and keeps an accelerator for the
process that has opened it.
"""

import collections
import json
import os
import re
import subprocess
import sys

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.launch import membership
from musiclm_jax.launch.membership import ALONE, Membership

_EXTRAS = {'cuda': 'gpu', 'gpu': 'gpu', 'tpu': 'tpu'}
_OURS = f'{UsageError.__module__}.{UsageError.__name__}: '
_DAY = 86_400.0  # the longest that a system waits is less than a month


def check() -> None:
  """Lets jax open its devices, after the process has joined its run.

  Raises:
    UsageError: If there are none of the platform that `JAX_PLATFORMS` names.
  """
  import jax

  try:
    jax.devices()
  except (RuntimeError, AssertionError) as error:  # jax raises both for it
    reason = str(error).partition('\n')[0].partition(' (set JAX_')[0][:200]
    reason = reason or 'it gives no reason'
    wanted = os.environ.get('JAX_PLATFORMS')
    if not wanted:
      raise UsageError(
        f'jax finds no device that it can use ({reason}): set JAX_PLATFORMS=cpu'
      ) from error
    extra = _EXTRAS.get(wanted.split(',')[0])
    install = f", or pip install 'musiclm_jax[{extra}]'" if extra else ''
    raise UsageError(
      f'JAX_PLATFORMS={wanted}: jax finds no such device here ({reason}): '
      f'unset it, or set it to cpu{install}'
    ) from error


def ask(member: Membership = ALONE, seconds: float = _DAY) -> dict:
  """Lets jax join, count and add, in a process of its own.

  Args:
    member: What this process is to its run.
    seconds: To wait for the answer.

  Returns:
    `kind` of device, `devices` of each process, and the `sum`.

  Raises:
    UsageError: If it fails or hangs, with jax's own reason.
  """
  try:
    done = subprocess.run(
      [sys.executable, '-m', __spec__.name],
      env=os.environ | (member.variables() if member.count > 1 else {}),
      capture_output=True,
      text=True,
      errors='replace',
      timeout=seconds,
    )
  except subprocess.TimeoutExpired as error:
    raise UsageError(
      f'all {member.count} processes are there, but jax did not join them and '
      f'their devices within {seconds:.0f} s: check that the hosts reach '
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
  return said[0].removeprefix(_OURS)[:500]


def main() -> None:
  """Prints kind of device, devices of each process, and the sum."""
  membership.join()
  check()
  import jax
  import numpy as np
  from jax.experimental import multihost_utils

  counts = collections.Counter(d.process_index for d in jax.devices())
  sums = multihost_utils.process_allgather(np.asarray(jax.process_index() + 1))
  print(
    json.dumps(
      {
        'kind': jax.devices()[0].device_kind,
        'devices': [counts[index] for index in range(jax.process_count())],
        'sum': int(np.sum(sums)),
      }
    )
  )


if __name__ == '__main__':
  main()
