"""Shared by all tests: quiet CPU, persistent compilation cache, type checks."""

import contextlib
import os
import resource
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / 'tests'))  # for what tests share
sys.path.insert(0, str(ROOT))  # for experiments
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(ROOT / '.jax_cache'))
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.3')

# Tests compile much and compute little: without LLVM's optimisation, in one
# part instead of 32, and with the older emitters of fusions where there still
# are any, a cold cache costs less than half of the time.
_FLAGS = '--xla_backend_optimization_level=0'
_FLAGS += ' --xla_cpu_parallel_codegen_split_count=1'
if tuple(map(int, version('jaxlib').split('.')[:2])) < (0, 12):
  _FLAGS += ' --xla_cpu_use_fusion_emitters=false'
os.environ.setdefault('XLA_FLAGS', _FLAGS)

PARITY = 1e-4  # largest absolute error against a twin, float32


@pytest.fixture(scope='module')
def absent_tpu():
  """Lets a module compile for TPUs that are not there."""
  import jax

  pytest.importorskip('libtpu', reason='needs the [tpu] extra')
  with pytest.MonkeyPatch.context() as patch:
    for name, value in {
      'TPU_SKIP_MDS_QUERY': '1',
      'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
      'TPU_ACCELERATOR_TYPE': 'v5litepod-16',
      'TPU_WORKER_HOSTNAMES': 'localhost',
    }.items():
      patch.setenv(name, value)
    jax.config.update('jax_enable_compilation_cache', False)
    yield
    jax.config.update('jax_enable_compilation_cache', True)


@pytest.fixture(scope='session')
def run_python():
  """A function: code -> what a fresh interpreter prints of it, in the root."""

  def run(code):
    done = subprocess.run(
      [sys.executable, '-c', code],
      cwd=ROOT,
      capture_output=True,
      text=True,
      check=True,
    )
    return done.stdout

  return run


@pytest.fixture
def full_disk():
  """A context in which no file grows beyond some bytes: EFBIG for ENOSPC."""

  @contextlib.contextmanager
  def limit(count):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, before[1]))
    try:
      yield
    finally:
      resource.setrlimit(resource.RLIMIT_FSIZE, before)
      signal.signal(signal.SIGXFSZ, handler)

  return limit


@pytest.fixture
def equals_twin(record_property):
  """Asserts parity with a twin's output and notes the error for the table."""

  def check(name, ours, theirs):
    error = float(np.abs(np.asarray(ours) - theirs).max())
    record_property(name, error)
    assert error < PARITY

  return check
