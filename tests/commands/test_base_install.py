"""What a plain installation has: no extras, and nothing of one system alone."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import setup_lists
import soundfile

ROOT = Path(__file__).parents[2]
# Of Unix, or of Linux alone.
UNIX = ('fcntl', 'resource', 'pwd', 'grp', 'termios', 'tty', 'pty', 'uvloop')
PROGRAM = """
import runpy, sys
for name in {absent!r}:
  sys.modules[name] = None
sys.argv = [{command!r}, *{arguments!r}]
runpy.run_module('musiclm_jax.' + {command!r}, run_name='__main__')
"""


def extras():
  """Modules of what only extras ask for."""
  asked = setup_lists.asked()
  return tuple(map(setup_lists.module_of, asked['train'] | asked['demo']))


def run(absent, command, *arguments):
  program = PROGRAM.format(absent=absent, command=command, arguments=arguments)
  return subprocess.run(
    [sys.executable, '-c', program],
    cwd=ROOT,
    env=os.environ | {'PYTHONPATH': str(ROOT)},
    capture_output=True,
    text=True,
    check=False,
  )


def test_music_is_made_without_extras_and_without_unix(tmp_path):
  done = run(
    (*extras(), *UNIX),
    'generate',
    '--text=slow piano',
    '--seconds=0.5',
    f'--out={tmp_path}/x.wav',
  )
  assert done.returncode == 0, done.stderr
  assert soundfile.info(tmp_path / 'x.wav').frames == 12_000


def test_songs_are_measured_without_extras(tmp_path):
  rng = np.random.default_rng(0)
  for name in ('reference', 'generated'):
    (tmp_path / name).mkdir()
    for k in range(3):
      x = 0.1 * rng.standard_normal(48_000)
      soundfile.write(tmp_path / name / f'{k}.wav', x, 24_000)
  done = run(
    extras(),
    'evaluate',
    f'--reference={tmp_path}/reference',
    f'--generated={tmp_path}/generated',
    '--metrics=fad,kad,kld',
  )
  assert done.returncode == 0, done.stderr
  assert 'fad' in done.stdout
