"""Errors of the system and the machine: exception -> one line."""

import concurrent.futures.process
import errno
import os
import re

PACKAGE = 'musiclm_jax'
# Extra of setup.py -> modules that only its commands need.
EXTRAS = {
  'train': (
    'array_record',
    'grain',
    'importlib_resources',
    'ml_collections',
    'pretty_midi',
    'scipy',
    'symusic',
    'tensorboardX',
    'tensorflow_datasets',
  ),
  'demo': ('librosa', 'matplotlib', 'psutil', 'sklearn'),
}
_MORE_PROCESSES = 'let the user start more: ulimit -u'
_ADVICE = {
  errno.EMFILE: 'let the process open more: ulimit -n 65536',
  errno.ENFILE: 'close other programs',
  errno.ENOMEM: 'close other programs, or give it less to do at once',
  errno.EAGAIN: _MORE_PROCESSES,
}
_NO_MEMORY = re.compile('RESOURCE_EXHAUSTED.*(memory|allocat)', re.I | re.S)


def line_of(error: Exception) -> str | None:
  """Says what a user can fix, and how; None if it is a defect of ours."""
  text = str(error)
  if isinstance(error, OSError):
    return _of_system(error)
  if isinstance(error, MemoryError) or _NO_MEMORY.search(text):
    said = text.splitlines()[0] if text else 'the system gives no more'
    return (
      f'there is not enough memory ({said}): give it less to do at once, such '
      'as smaller batches, shorter crops or less music, or more memory'
    )
  if isinstance(error, ModuleNotFoundError):
    return _of_package((error.name or '').partition('.')[0])
  if isinstance(error, concurrent.futures.process.BrokenProcessPool):
    return (
      'a process of this run has ended at once, perhaps for want of memory: '
      'run the same command again, with fewer processes'
    )
  if isinstance(error, RuntimeError) and "can't start new thread" in text:
    return f'no more threads can be started: {_MORE_PROCESSES}'
  return None


def _of_system(error: OSError) -> str:
  if error.errno == errno.ENOENT and error.filename is None:
    try:
      os.getcwd()
    except OSError:
      return 'the working directory does not exist any more: cd to another one'
  said = error.strerror or str(error) or type(error).__name__
  names = [n for n in (error.filename, error.filename2) if n is not None]
  advice = [_ADVICE[error.errno]] if error.errno in _ADVICE else []
  return ': '.join([said, *map(_name, names), *advice])


def _name(file: object) -> str:
  """A path, or the number of an open file."""
  return str(file) if isinstance(file, int) else os.fsdecode(file)


def _of_package(package: str) -> str | None:
  if not package or package == PACKAGE:
    return None
  for extra, modules in EXTRAS.items():
    if package in modules:
      return (
        f'the package {package} is not installed: pip install '
        f"'{PACKAGE}[{extra}]'"
      )
  return f'the package {package} is not installed: install it with pip'
