"""Three steps of real networks on several meshes equal those on one device.

The rest of the matrix, every network on every layout, is the soak's; its
result is in `experiments/mesh_equality/`.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def compare(*options, seconds):
  """Runs the experiment, which ends with 1 where anything differs."""
  done = subprocess.run(
    [sys.executable, ROOT / 'experiments/mesh_equality/run.py', *options],
    env=os.environ | {'PYTHONPATH': str(ROOT)},
    capture_output=True,
    text=True,
    timeout=seconds,
  )
  assert done.returncode == 0, done.stdout + done.stderr[-2000:]
  return done.stdout


def test_a_language_model_on_a_mesh_of_three_axes():
  """Dropout on; the codec game of the processes' tests holds the other trap."""
  out = compare('--stages=semantic', '--layouts=2x2x2', seconds=300)
  assert 'semantic 2x2x2' in out


@pytest.mark.soak
def test_every_network_on_every_layout():
  compare(seconds=7200)
