"""The preflight names what is missing, different or busy."""

import dataclasses
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.launch import devices, membership, roll_call
from musiclm_jax.launch.membership import Membership
from musiclm_jax.launch.roll_call import HostReport

ROOT = Path(__file__).parents[2]


def free_port():
  with socket.socket() as probe:
    probe.bind(('localhost', 0))
    return probe.getsockname()[1]


def report_of(index, count=2, **changes):
  fine = HostReport(index, count, f'host{index}', {'jax': '1', 'python': '3'})
  return dataclasses.replace(fine, **changes)


@pytest.mark.parametrize(
  ('second', 'said'),
  [
    (None, 'missing process 1, got process 0'),
    ({'versions': {'jax': '2', 'python': '3'}}, 'jax differs: 1 on process 0'),
    ({'versions': {'jax': '1', 'python': '4'}}, 'python differs'),
    ({'count': 3}, 'host1 believes in 3'),
    ({'busy': ('process 7 (python)',)}, 'TPU of host1 is in use by process 7'),
    ({}, None),
  ],
)
def test_trouble_is_named(second, said):
  reports = [report_of(0)]
  if second is not None:
    reports.append(report_of(1, **second))
  why = roll_call.trouble(reports, 2)
  assert why is None if said is None else said in why


def call_all(indices, count, seconds):
  """Roll calls in threads; each one's reports or error."""
  address, results = f'localhost:{free_port()}', [None] * len(indices)

  def one(place, index):
    member = Membership(address, count, index)
    try:
      answer = roll_call.call(member, report_of(index, count), seconds)
      results[place] = [report.host for report in answer]
    except UsageError as error:
      results[place] = str(error)

  threads = [threading.Thread(target=one, args=x) for x in enumerate(indices)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  return results


def test_all_hear_of_all():
  assert call_all([2, 0, 1], 3, 20) == [['host0', 'host1', 'host2']] * 3


def test_those_who_came_hear_who_is_missing():
  assert call_all([0, 2], 3, 1.0) == [['host0', 'host2']] * 2


def test_without_process_0_the_others_say_so():
  (said,) = call_all([1], 2, 0.5)
  assert 'finds no process 0 at localhost' in said


def test_two_processes_of_one_number_are_refused():
  said, *_ = call_all([0, 1, 1], 3, 3.0)
  assert 'two processes say they are process 1' in said


def test_a_stranger_on_the_port_does_not_count():
  port, result = free_port(), []
  member = Membership(f'localhost:{port}', 2, 0)
  thread = threading.Thread(
    target=lambda: result.append(roll_call.call(member, report_of(0), 2.0))
  )
  thread.start()
  while True:
    try:
      stranger = socket.create_connection(('localhost', port))
      break
    except OSError:
      continue
  stranger.sendall(b'GET / HTTP/1.1\n')
  thread.join()
  stranger.close()
  assert [report.index for report in result[0]] == [0]


@pytest.mark.parametrize(
  ('environment', 'said'),
  [
    ({'JAX_COORDINATOR_ADDRESS': 'a:1', 'JAX_NUM_PROCESSES': '2'}, 'all three'),
    (
      {
        'JAX_COORDINATOR_ADDRESS': 'a:1',
        'JAX_NUM_PROCESSES': '2',
        'JAX_PROCESS_ID': '2',
      },
      'count from 0',
    ),
    (
      {
        'JAX_COORDINATOR_ADDRESS': 'a',
        'JAX_NUM_PROCESSES': '2',
        'JAX_PROCESS_ID': '1',
      },
      'HOST:PORT',
    ),
  ],
)
def test_a_membership_that_does_not_fit_is_refused(environment, said):
  with pytest.raises(UsageError, match=said):
    membership.find(environment)


def test_slurm_tells_who_a_process_is(monkeypatch):
  slurm = {
    'SLURM_JOB_ID': '42',
    'SLURM_STEP_NODELIST': 'node[3-4]',
    'SLURM_STEP_NUM_TASKS': '4',
    'SLURM_NTASKS': '4',
    'SLURM_PROCID': '3',
    'SLURM_LOCALID': '1',
  }
  for name, value in slurm.items():
    monkeypatch.setenv(name, value)
  monkeypatch.setenv('TPU_SKIP_MDS_QUERY', '1')
  found = membership.find()
  assert (found.count, found.index, found.local_devices) == (4, 3, (1,))
  assert found.address.startswith('node3:')


def test_one_task_of_slurm_is_alone():
  alone = membership.find({'SLURM_STEP_NUM_TASKS': '1'})
  assert alone == membership.ALONE


def test_who_holds_a_tpu_is_named(tmp_path):
  for number, target in ((12, '/dev/accel0'), (13, '/dev/null')):
    folder = tmp_path / str(number) / 'fd'
    folder.mkdir(parents=True)
    (folder / '3').symlink_to(target)
    (folder.parent / 'cmdline').write_bytes(b'python\0train.py\0')
  assert roll_call.tpu_holders(tmp_path) == ('process 12 (python train.py)',)


def test_the_reason_of_jax_is_found_in_its_log():
  log = (
    'Traceback (most recent call last):\n  File x\n'
    'RuntimeError: The TPU is already in use by process with pid 7.\n'
    'note: more\n'
  )
  assert devices.reason(log).endswith('with pid 7.')
  assert 'DEADLINE' in devices.reason('F1126 08:44 absl: DEADLINE\n  @ 0x7\n')


def test_two_processes_are_ready():
  address = f'localhost:{free_port()}'
  pair = [
    subprocess.Popen(
      [sys.executable, '-m', 'musiclm_jax.preflight'],
      cwd=ROOT,
      env=os.environ | Membership(address, 2, index).variables(),
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for index in range(2)
  ]
  for process in pair:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert 'ready: 2 processes x 1 devices (cpu)' in out
