"""Lets the training tests import their games and start them as processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))


@pytest.fixture
def start_game():
  """Starts `training_games.py` as a real process."""
  running = []

  def start(*arguments, devices=1, **environment):
    flags = (
      f'{os.environ["XLA_FLAGS"]} '
      f'--xla_force_host_platform_device_count={devices}'
    )
    process = subprocess.Popen(
      [sys.executable, HERE / 'training_games.py', *map(str, arguments)],
      env=os.environ
      | {'PYTHONPATH': str(HERE.parents[1]), 'XLA_FLAGS': flags}
      | environment,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    running.append(process)
    return process

  yield start
  for process in running:
    if process.poll() is None:
      process.kill()
    process.communicate()
