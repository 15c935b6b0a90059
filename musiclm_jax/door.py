"""The way in: every door of the package starts through `run(main)`.

Environment -> flags and config -> main; what a user can mend ends as one line
`error: ...` on standard error and exit code 2, never as a traceback.
"""

import contextlib
import ctypes
import difflib
import errno
import logging as standard_logging
import os
import re
import runpy
import signal
import sys
import threading
import time
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import app, flags, logging

from musiclm_jax import path_flags
from musiclm_jax.contracts.errors import INTERRUPTED, STOPPED, UsageError

USAGE = 2
_ACCELERATORS = ('accel*', 'vfio/[0-9]*', 'nvidia[0-9]*', 'kfd', 'dxg')
_FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_ENTRY = re.compile(r'.+-[0-9a-f]{64}-cache')
_ZSTD = b'\x28\xb5\x2f\xfd'
# Parameters of glibc's mallopt: (number in malloc.h, value).
_MALLOC = {
  'mmap_threshold': (-3, 16 << 20),
  'trim_threshold': (-1, 64 << 20),
  'arena_max': (-8, 2),
}


def run(main: Callable[[], int | None]) -> None:
  """Runs a door and ends the process with its exit code.

  Args:
    main: Takes no arguments, reads absl flags, returns an exit code or None.
  """
  signal.signal(signal.SIGTERM, _leave)
  sys.exit(exit_code(main, sys.argv))


def exit_code(main: Callable[[], int | None], argv: Sequence[str]) -> int:
  """Runs a door: 0, or 2 after a line on standard error, or 130 on Ctrl-C.

  A defect of ours (any other exception) keeps its traceback.
  """
  try:
    _prepare_environment(os.environ)
    keep_freed_memory()
    _parse(list(argv))
    return main() or 0
  except (UsageError, flags.Error) as error:
    return _refuse(str(error))
  except OSError as error:
    name = f': {error.filename}' if error.filename is not None else ''
    return _refuse(f'{error.strerror or error}{name}')
  except KeyboardInterrupt:
    print('interrupted', file=sys.stderr)
    return INTERRUPTED


def _leave(*_: object) -> None:
  """SIGTERM ends as Ctrl-C does: what is open is closed, what is begun kept."""
  raise SystemExit(STOPPED)


def _refuse(message: str) -> int:
  sys.stdout.flush()
  print('error:', ' '.join(message.split()), file=sys.stderr, flush=True)
  return USAGE


def _prepare_environment(environment) -> None:
  """Quiets libraries and sets jax's defaults; what a user has set stays."""
  environment.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  environment.setdefault('GRPC_VERBOSITY', 'ERROR')
  if sys.platform == 'linux' and not any(
    any(Path('/dev').glob(pattern)) for pattern in _ACCELERATORS
  ):
    # libtpu and CUDA wheels search long and loudly for what is not there.
    environment.setdefault('JAX_PLATFORMS', 'cpu')
  if environment.get('JAX_PLATFORMS') == 'cpu':
    environment.setdefault('TPU_SKIP_MDS_QUERY', '1')
  cache = Path(
    environment.setdefault(
      'JAX_COMPILATION_CACHE_DIR',
      str(Path.home() / '.cache' / 'musiclm_jax' / 'xla'),
    )
  )
  environment.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.5')
  try:
    mend_compilation_cache(cache)
  except OSError:
    environment['JAX_ENABLE_COMPILATION_CACHE'] = 'false'
  sys.unraisablehook = _hook_unraisable
  threading.excepthook = _hook_thread
  standard_logging.getLogger('asyncio').addFilter(_is_news)
  # Said by libraries about each other; nothing a user can act on.
  warnings.filterwarnings('ignore', category=DeprecationWarning)
  warnings.filterwarnings('ignore', category=FutureWarning)
  # What Orbax had still to write when another of its writes failed.
  warnings.filterwarnings('ignore', 'coroutine .* was never awaited')


def keep_freed_memory() -> None:
  """Tells glibc to use freed memory again instead of giving it back.

  Otherwise every piece that is read (5 MB) is mapped and unmapped four times,
  and two thirds of the time for reading goes into page faults. Few arenas
  keep the memory of reading threads small.
  """
  if not sys.platform.startswith('linux'):
    return
  with contextlib.suppress(OSError, AttributeError):
    mallopt = ctypes.CDLL('libc.so.6').mallopt
    for parameter, value in _MALLOC.values():
      mallopt(parameter, value)


def _hook_unraisable(unraisable: Any) -> None:
  """Passes over what failed writes and reads leave behind.

  Orbax's other, cancelled writes report to an event loop that is gone; the
  failure itself has been raised.
  """
  error = unraisable.exc_value
  if not (_is_full(error) or 'Event loop is closed' in str(error)):
    sys.__unraisablehook__(unraisable)


def _hook_thread(failed: Any) -> None:
  """Passes over TensorBoard's thread where the disk is full."""
  error = failed.exc_value
  if not (_is_full(error) or 'handle is closed' in str(error)):
    threading.__excepthook__(failed)


def _is_full(error: BaseException | None) -> bool:
  return isinstance(error, OSError) and error.errno in _FULL_DISK


def _is_news(record: standard_logging.LogRecord) -> bool:
  """Passes over Orbax's other writes that failed, for the same reason.

  Nobody asks for their exceptions, and asyncio says so when it pleases.
  """
  return 'exception was never retrieved' not in record.getMessage()


def mend_compilation_cache(cache: Path) -> None:
  """Removes truncated entries, which a kill while jax writes one leaves.

  Jax neither reads such an entry nor ever replaces it, so that every later
  run would compile the program again. Only entries that are newer than the
  last look are read.

  Raises:
    OSError: If the folder cannot be made or written.
  """
  cache.mkdir(parents=True, exist_ok=True)
  stamp, now = cache / '.checked', time.time()
  checked = stamp.stat().st_mtime if stamp.exists() else 0.0
  for entry in cache.iterdir():
    if not _ENTRY.fullmatch(entry.name):
      continue  # not jax's
    try:
      if entry.stat().st_mtime >= checked and not _is_whole(entry):
        entry.unlink()
    except FileNotFoundError:
      continue  # another run was faster
  stamp.touch()
  os.utime(stamp, (now, now))


def _is_whole(entry: Path) -> bool:
  data = entry.read_bytes()
  try:
    if not data.startswith(_ZSTD):
      zlib.decompress(data)
    elif sys.version_info >= (3, 14):
      from compression import zstd

      zstd.decompress(data)
    else:
      import zstandard

      zstandard.decompress(data)
  except Exception:  # each library has its own, and none of them is whole
    return False
  return True


def _parse(argv: list[str]) -> None:
  """Parses the flags, the config before all: its errors are clearest here."""
  app.define_help_flags()
  argv = path_flags.expand_config(argv)
  _check_config(argv[1:])
  spare = flags.FLAGS(argv)[1:]
  if spare:
    raise UsageError(f"unexpected argument '{spare[0]}': flags begin with --")
  if not flags.FLAGS['verbosity'].present:
    # Orbax logs, with a traceback, what it raises in any case.
    logging.set_verbosity(logging.FATAL)


def _check_config(argv: list[str]) -> None:
  """Evaluates the config that `--config` names and looks up each override.

  Raises:
    UsageError: If the file is missing, the size unknown or a key misspelt.
  """
  if 'config' not in flags.FLAGS:
    return
  given = _config_argument(argv)
  if given is None:
    return
  path, _, size = given.partition(':')
  if not Path(path).is_file():
    raise UsageError(
      f'config file {path} does not exist: give one like configs/semantic.py'
    )
  try:
    get_config = runpy.run_path(path)['get_config']
    config = get_config(size) if size else get_config()
  except KeyError as error:
    raise UsageError(f'{path} has no function get_config: {error}') from error
  except ValueError as error:
    raise UsageError(f'{path}: {error}') from error
  for argument in argv:
    if match := re.match(r'--?(?:no)?config\.([\w.]+)', argument):
      _check_key(config, match.group(1))


def _config_argument(argv: list[str]) -> str | None:
  given = None
  for i, argument in enumerate(argv):
    if match := re.match(r'--?config=(.*)', argument):
      given = match.group(1)
    elif argument in ('--config', '-config') and i + 1 < len(argv):
      given = argv[i + 1]
  return given


def _check_key(config: Mapping, key: str) -> None:
  node = config
  for part in key.split('.'):
    if not isinstance(node, Mapping) and not hasattr(node, 'keys'):
      break
    if part not in node:
      raise UsageError(_unknown_key(config, key, part, node))
    node = node[part]


def _unknown_key(config: Mapping, key: str, part: str, node: Mapping) -> str:
  """Proposes the key that was probably meant."""
  keys = dict(_keys(config))
  near = difflib.get_close_matches(part, list(node), 1, 0.6)
  if near:
    proposal = key.replace(part, near[0], 1)
  else:
    last = key.rsplit('.', 1)[-1]
    same = [name for name in keys if keys[name] == last]
    near = same or difflib.get_close_matches(key, list(keys), 1, 0.6)
    proposal = near[0] if near else None
  if proposal:
    return f"the config has no key '{key}': did you mean --config.{proposal}?"
  return (
    f"the config has no key '{key}': where '{part}' stands there are "
    f'{", ".join(sorted(node))}'
  )


def _keys(node: Mapping, prefix: str = '') -> Iterator[tuple[str, str]]:
  """Dotted name and last part of every key."""
  for key, value in node.items():
    yield prefix + key, key
    if hasattr(value, 'keys'):
      yield from _keys(value, f'{prefix}{key}.')
