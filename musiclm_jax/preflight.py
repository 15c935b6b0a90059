"""Says within a minute whether the processes of a run find each other.

`python -m musiclm_jax.preflight` on every host, with the environment of the
training: prints processes x devices, or why not. It changes nothing.
"""

import time

from absl import flags

from musiclm_jax import cli
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.terminal import printable
from musiclm_jax.launch import devices, membership, roll_call
from musiclm_jax.launch.membership import Membership

_SECONDS = flags.DEFINE_integer(
  'seconds', 60, 'Longest time to wait.', 10, 86_400
)


def _call_roll(member: Membership, seconds: float) -> None:
  """Refuses where a process is missing or another one is different."""
  report = roll_call.of_this_host(member.index, member.count)
  reports = roll_call.call(member, report, seconds)
  if why := roll_call.trouble(reports, member.count):
    raise UsageError(why)
  if member.index == 0:
    for each in reports:
      print(f'process {each.index}: {printable(each.host)}', flush=True)


def main() -> None:
  """Prints one line that says what is there."""
  started = time.monotonic()
  member = membership.find()
  if member.count > 1:
    _call_roll(member, _SECONDS.value / 2)
  elif busy := roll_call.tpu_holders():
    raise UsageError(f'the TPU is in use by {busy[0]}: stop it, or wait')
  left = _SECONDS.value - (time.monotonic() - started)
  found = devices.ask(member, left)
  expected = member.count * (member.count + 1) // 2
  if found['sum'] != expected:
    raise UsageError(
      f'a sum over the processes gave {found["sum"]} instead of {expected}: '
      'the devices do not reach each other; check the network'
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
  cli.run(main)
