"""What is dropped and is no signal is told and stops nothing."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize('error', ['SystemExit(1)', "ValueError('lost')"])
def test_another_error_of_a_destructor_is_printed_and_the_run_goes_on(error):
  program = f"""
import time
from musiclm_jax.launch import dropped_errors

dropped_errors.listen()

class Closing:
  def __del__(self):
    raise {error}

Closing()
time.sleep(0.2)  # longer than a signal takes to come again
print('went on')
"""
  done = subprocess.run(
    [sys.executable, '-c', program], capture_output=True, text=True
  )
  assert (done.returncode, done.stdout) == (0, 'went on\n')
  assert error.split('(')[0] in done.stderr
