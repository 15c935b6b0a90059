"""Real processes: killed, stopped, on eight devices, two at once."""

import json
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from musiclm_jax.training import checkpoint

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


# One of each in real processes is tested at the door already.
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
  """Mistake 13: statistics of one device instead of the global batch."""
  runs = {
    name: start_game(
      'codec', tmp_path / name, 'total_steps=3', *more, devices=d
    )
    for name, d, more in (
      ('one', 1, ()),
      ('eight', 8, ()),
      ('fsdp', 8, ('fsdp=4',)),
      ('tensor', 8, ('fsdp=2', 'tensor=4')),
    )
  }
  for run in runs.values():
    finish(run)
  one = checkpoint.read(tmp_path / 'one')
  for name in ('eight', 'fsdp', 'tensor'):
    other = checkpoint.read(tmp_path / name)
    for part in ('params', 'collections'):
      jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        getattr(one, part),
        getattr(other, part),
      )


def test_two_processes_equal_one(start_game, tmp_path):
  with socket.socket() as probe:
    probe.bind(('localhost', 0))
    port = probe.getsockname()[1]
  pair = [
    start_game(
      'codec',
      tmp_path / 'two',
      'total_steps=3',
      JAX_COORDINATOR_ADDRESS=f'localhost:{port}',
      JAX_NUM_PROCESSES='2',
      JAX_PROCESS_ID=str(index),
    )
    for index in range(2)
  ]
  finish(start_game('codec', tmp_path / 'one', 'total_steps=3'))
  for process in pair:
    finish(process)
  one, two = (checkpoint.read(tmp_path / name) for name in ('one', 'two'))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
    (one.params, one.collections),
    (two.params, two.collections),
  )


def test_failures_that_nobody_asked_for_are_not_told_beside_the_one_line():
  """Of several writes that fail at once, one is raised; when is by chance."""
  code = (
    'import asyncio, gc, logging\n'
    'from musiclm_jax import door\n'
    'async def write(): raise OSError(28, "full")\n'
    'async def writes():\n'
    '  asyncio.create_task(write())\n'
    '  await asyncio.sleep(0.01)\n'
    'def main():\n'
    '  asyncio.run(writes())\n'
    '  write()\n'
    '  gc.collect()\n'
    '  logging.getLogger("asyncio").error("something else")\n'
    'door.run(main)\n'
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
  full = start_game('lm', tmp_path / 'w', 'total_steps=20', 'file_bytes=1024')
  _, err = finish(full, 2)
  assert 'Traceback' not in err
  assert err.strip().splitlines()[-1].startswith('error:')
  assert checkpoint.read(tmp_path / 'w').step == 10
  finish(start_game('lm', tmp_path / 'w', 'total_steps=20'))
  rows = (tmp_path / 'w' / 'metrics.jsonl').read_text().splitlines()
  assert [json.loads(row)['step'] for row in rows] == [5, 10, 15, 20]
