"""Real processes: killed, stopped, on eight devices, two at once."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from musiclm_jax.contracts import ownership
from musiclm_jax.training import checkpoint, export, workdir
from musiclm_jax.training.state import flatten

STEPS = 'total_steps=40'


def finish(process, code=0):
  out, err = process.communicate(timeout=120)
  assert process.returncode == code, (process.returncode, out, err)
  return out, err


def wait_for_step(path, process, step):
  file, saved = path / 'metrics.jsonl', path / 'checkpoints'
  while process.poll() is None:
    if (
      file.exists()
      and f'"step": {step}' in file.read_text()
      and any(folder.name.isdigit() for folder in saved.iterdir())
    ):
      return
    time.sleep(0.02)
  raise AssertionError(process.communicate())


def assert_same_run(left, right):
  assert (left / 'metrics.jsonl').read_bytes() == (
    right / 'metrics.jsonl'
  ).read_bytes()
  one, other = checkpoint.read(left), checkpoint.read(right)
  jax.tree.map(np.testing.assert_array_equal, one.params, other.params)
  jax.tree.map(
    np.testing.assert_array_equal, one.collections, other.collections
  )


# One of each in real processes is tested at the command already.
@pytest.mark.soak
@pytest.mark.parametrize('game', ['lm', 'codec'])
def test_kill_9_and_again_equals_uninterrupted(game, start_game, tmp_path):
  whole = start_game(game, tmp_path / 'whole', STEPS, 'ema_decay=0.9')
  cut = start_game(game, tmp_path / 'cut', STEPS, 'ema_decay=0.9', 'pause=0.1')
  wait_for_step(tmp_path / 'cut', cut, 20)
  cut.kill()
  finish(cut, -signal.SIGKILL)
  out, _ = finish(start_game(game, tmp_path / 'cut', STEPS, 'ema_decay=0.9'))
  assert 'continuing' in out
  finish(whole)
  assert_same_run(tmp_path / 'whole', tmp_path / 'cut')


def test_sigterm_saves_and_exits_with_75(start_game, tmp_path):
  run = start_game('lm', tmp_path / 'w', STEPS, 'pause=0.1')
  wait_for_step(tmp_path / 'w', run, 5)
  run.terminate()
  out, err = finish(run, 75)
  assert 'run again to go on' in out and 'Traceback' not in err
  step = checkpoint.read(tmp_path / 'w').step
  assert 5 <= step < 40
  finish(start_game('lm', tmp_path / 'w', STEPS))
  finish(start_game('lm', tmp_path / 'whole', STEPS))
  assert_same_run(tmp_path / 'whole', tmp_path / 'w')


def test_eight_devices_equal_one(start_game, tmp_path):
  """Mistake 13: statistics of one device instead of the global batch.

  On three axes the gradient of this game is wrong where layers do not gather.
  """
  runs = {
    name: start_game(
      'codec', tmp_path / name, 'total_steps=3', *more, devices=d
    )
    for name, d, more in (
      ('one', 1, ()),
      ('eight', 8, ()),
      ('mixed', 8, ('fsdp=2', 'tensor=2')),
    )
  }
  for run in runs.values():
    finish(run)
  one = checkpoint.read(tmp_path / 'one')
  for name in ('eight', 'mixed'):
    other = checkpoint.read(tmp_path / name)
    for part in ('params', 'collections'):
      jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        getattr(one, part),
        getattr(other, part),
      )


def rows(path):
  lines = (path / 'metrics.jsonl').read_text().splitlines()
  return {row['step']: row for row in map(json.loads, lines)}


def assert_close(left, right, steps):
  """Loss and gradient norms of `steps` agree."""
  assert len(steps) == 3
  for step in steps:
    names = [n for n in left[step] if 'loss' in n or 'grad_norm' in n]
    assert len(names) >= 2
    for name in names:
      np.testing.assert_allclose(
        left[step][name], right[step][name], rtol=1e-5, err_msg=name
      )


def start_pair(start_game, *paths_and_options):
  """Starts one run of two processes of two devices, of a workdir or two."""
  *paths, options = paths_and_options
  with socket.socket() as probe:
    probe.bind(('localhost', 0))
    port = probe.getsockname()[1]
  return [
    start_game(
      'codec',
      paths[index % len(paths)],
      *options,
      devices=2,
      JAX_COORDINATOR_ADDRESS=f'localhost:{port}',
      JAX_NUM_PROCESSES='2',
      JAX_PROCESS_ID=str(index),
    )
    for index in range(2)
  ]


def test_two_processes_equal_one_and_stop_together(start_game, tmp_path):
  """One gets Ctrl-C; both stop at one step, and one device goes on.

  It reaches the other as a SIGTERM does. All four devices share the
  parameters, which cross the processes.
  """
  every = ('log_every=1', 'save_every=4', 'total_steps=30')
  options = ('pause=0.2', 'fsdp=4', *every)
  pair = start_pair(start_game, tmp_path / 'two', options)
  wait_for_step(tmp_path / 'two', pair[0], 4)
  pair[1].send_signal(signal.SIGINT)
  asked = max(rows(tmp_path / 'two'))
  for leads, process in zip((True, False), pair, strict=True):
    out, err = finish(process, 75 if leads else 130)
    assert 'Traceback' not in err
    assert ('data=1 x fsdp=4 x tensor=1' in out) == leads
  stopped = max(rows(tmp_path / 'two'))
  assert checkpoint.read(tmp_path / 'two').step == stopped
  # Signal, agreement and the step after: seconds, not the next save or log.
  assert asked < stopped <= asked + 20, (asked, stopped)
  finish(start_game('codec', tmp_path / 'two', *every))
  finish(start_game('codec', tmp_path / 'one', *every))
  two, one = rows(tmp_path / 'two'), rows(tmp_path / 'one')
  assert_close(one, two, (1, 2, 3))
  assert_close(one, two, range(stopped + 1, stopped + 4))


@pytest.mark.soak
def test_two_processes_end_in_time_together_and_export(start_game, tmp_path):
  """They share the parameters, and only the first one writes."""
  options = ('fsdp=4', 'max_seconds=60', 'total_steps=1000000')
  begun = time.monotonic()
  for process in start_pair(start_game, tmp_path / 'two', options):
    _, err = finish(process, 75)
    assert 'Traceback' not in err
  assert time.monotonic() - begun < 60
  given = export.read(tmp_path / 'two.export')
  read = checkpoint.read(tmp_path / 'two')
  assert given.step == read.step
  mine, theirs = flatten(given.params), flatten(read.params)
  assert mine.keys() == theirs.keys()
  for name, array in mine.items():
    np.testing.assert_allclose(array, theirs[name], rtol=2**-8)


@pytest.mark.soak
def test_a_workdir_that_one_machine_does_not_see_is_one_line_in_all(
  start_game, tmp_path
):
  for run in start_pair(start_game, tmp_path / 'a', tmp_path / 'b', ()):
    _, err = finish(run, 2)
    assert '1 of 2 processes do not see workdir' in err.splitlines()[-1]


def test_another_mesh_layout_goes_on(start_game, tmp_path):
  every = ('total_steps=8', 'log_every=1', 'save_every=4')
  whole, moved = tmp_path / 'whole', tmp_path / 'moved'
  finish(start_game('codec', whole, *every, 'fsdp=4', 'tensor=2', devices=8))
  shutil.copytree(whole, moved)
  shutil.rmtree(moved / 'checkpoints' / '8')
  out, _ = finish(
    start_game('codec', moved, *every, 'fsdp=2', 'tensor=4', devices=8)
  )
  assert 'after step 4' in out
  assert_close(rows(whole), rows(moved), (5, 6, 7))


def test_what_a_kill_leaves_behind_does_not_block(tmp_path):
  """Neither the lock file nor a child that outlives the run."""
  code = (
    'import subprocess, sys, os, signal\n'
    'from musiclm_jax.training import workdir\n'
    'with workdir.claim(sys.argv[1]):\n'
    '  out = subprocess.DEVNULL\n'
    '  child = subprocess.Popen(["sleep", "60"], stdout=out, stderr=out)\n'
    '  print(child.pid, flush=True)\n'
    '  os.kill(os.getpid(), signal.SIGKILL)\n'
  )
  killed = subprocess.run(
    [sys.executable, '-c', code, tmp_path / 'w'], stdout=subprocess.PIPE
  )
  assert killed.returncode == -signal.SIGKILL
  child = int(killed.stdout)
  try:
    assert (tmp_path / 'w' / ownership.MARK).exists()
    with workdir.claim(tmp_path / 'w'):
      os.kill(child, 0)  # is still there
  finally:
    os.kill(child, signal.SIGKILL)


def test_failures_that_nobody_asked_for_are_not_told_beside_the_one_line():
  """Of several writes that fail at once, one is raised; when is by chance."""
  code = (
    'import asyncio, gc, logging\n'
    'from musiclm_jax import cli\n'
    'async def write(): raise OSError(28, "full")\n'
    'async def writes():\n'
    '  asyncio.create_task(write())\n'
    '  await asyncio.sleep(0.01)\n'
    'def main():\n'
    '  asyncio.run(writes())\n'
    '  write()\n'
    '  gc.collect()\n'
    '  logging.getLogger("asyncio").error("something else")\n'
    'cli.run(main)\n'
  )
  done = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, timeout=120
  )
  assert done.returncode == 0, done.stderr
  assert 'something else' in done.stderr
  assert 'Traceback' not in done.stderr, done.stderr
  assert 'never awaited' not in done.stderr, done.stderr


def test_a_full_disk_while_saving_is_one_line_and_loses_nothing(
  start_game, tmp_path
):
  """A limit on the size of files stands for the disk."""
  finish(start_game('lm', tmp_path / 'w', 'total_steps=10'))
  # Below any checkpoint, above the record.
  full = start_game('lm', tmp_path / 'w', 'total_steps=20', 'file_bytes=2048')
  _, err = finish(full, 2)
  assert 'Traceback' not in err
  assert err.strip().splitlines()[-1].startswith('error:')
  assert checkpoint.read(tmp_path / 'w').step == 10
  finish(start_game('lm', tmp_path / 'w', 'total_steps=20'))
  rows = (tmp_path / 'w' / 'metrics.jsonl').read_text().splitlines()
  assert [json.loads(row)['step'] for row in rows] == [5, 10, 15, 20]
