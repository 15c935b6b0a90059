"""Entry point: every command of the package starts through `run(main)`.

Environment -> flags and config -> main; what a user can fix ends as one line
`error: ...` on standard error and exit code 2, never as a traceback.
"""

import atexit
import contextlib
import dataclasses
import difflib
import importlib.metadata
import json
import os
import re
import runpy
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from absl import app, flags, logging

from musiclm_jax import __version__, configs, path_flags
from musiclm_jax.contracts import bounds, terminal
from musiclm_jax.contracts.errors import INTERRUPTED, STOPPED, UsageError
from musiclm_jax.contracts.progress import Progress, ProgressCallback, ignore
from musiclm_jax.contracts.terminal import printable
from musiclm_jax.launch import environment, trouble

USAGE = 2
BUNDLE = 'Folder of a bundle; None: the model inside the package.'
CLOSED = 141  # as a shell counts an end by SIGPIPE
PROGRESS_FILE = 'MUSICLM_JAX_PROGRESS'  # variable that names a file of events
_BEGUN = time.monotonic()  # this module is among the first to be imported
_LINE_SECONDS = 5.0  # between lines of progress where there is no terminal
# What every config has, beside the network.
_SECTIONS = (
  'stage',
  'seed',
  'data',
  'optimizer',
  'schedule',
  'training',
  'mesh',
)

_VERSION = flags.DEFINE_bool('version', False, 'Print versions and end.')


def run(
  main: Callable[[], int | None], operand: flags.FlagHolder | None = None
) -> None:
  """Runs a command and ends the process with its exit code.

  Args:
    main: Takes no arguments, reads absl flags, returns an exit code or None.
    operand: The flag that an argument without one is the value of.
  """
  signal.signal(signal.SIGTERM, _leave)
  code = exit_code(main, sys.argv, operand)
  if code in (STOPPED, INTERRUPTED):
    # A device may still compute. While Python takes itself apart around that,
    # the process may crash: it ends once threads and exit functions, in
    # Python's own order, have closed what is open.
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
  sys.exit(code)


def report(line: str) -> None:
  """Prints a line for the user on standard error, escaped."""
  aside = contextlib.nullcontext()
  if tqdm := sys.modules.get('tqdm'):  # whose bar gives way to the line
    aside = tqdm.tqdm.external_write_mode(sys.stderr)
  with aside:
    print(printable(line), file=sys.stderr, flush=True)


def require(*holders: flags.FlagHolder) -> None:
  """Refuses a call that leaves one of these flags out.

  Raises:
    UsageError: With what the flag is for.
  """
  for holder in holders:
    if not holder.value:
      raise UsageError(
        f'--{holder.name} is missing: {flags.FLAGS[holder.name].help}'
      )


@contextlib.contextmanager
def resumable(folder: Path) -> Iterator[None]:
  """Says of an interrupted work that the same command goes on with it."""
  try:
    yield
  except (KeyboardInterrupt, SystemExit):
    report(f"'{folder}' keeps what is finished: run again to go on")
    raise


def seconds_left(minutes: float) -> float:
  """How long this process may go on, if it may be `minutes` old."""
  return 60 * minutes - (time.monotonic() - _BEGUN)


def progress(shown: bool = True) -> ProgressCallback:
  """The callback that shows progress on standard error.

  A bar on a terminal, elsewhere lines: at the beginning and the end of a
  stage, and every few seconds between. Where the environment variable
  `PROGRESS_FILE` names a file, each event is appended to it as a JSON object
  of a line, for a process that started this one.

  Args:
    shown: Whether to show it here, or leave it to what else is printed.
  """
  show = ignore
  if shown:
    show = _Bar() if sys.stderr.isatty() else _Lines()
  path = os.environ.get(PROGRESS_FILE)
  if not path:
    return show

  def write_and_show(event: Progress) -> None:
    with open(path, 'a', encoding='utf-8') as file:
      file.write(json.dumps(dataclasses.asdict(event)) + '\n')
    show(event)

  return write_and_show


class _Bar:
  """Draws the stage that runs as a bar of tqdm."""

  def __init__(self):
    self._stage = self._bar = None

  def __call__(self, event: Progress) -> None:
    from tqdm import tqdm

    if event.stage != self._stage or event.done < self._bar.n:
      if self._bar is not None:
        self._bar.close()
      self._stage = event.stage
      self._bar = tqdm(
        total=event.total,
        desc=printable(event.stage),
        unit=f' {event.unit}',
        file=sys.stderr,
        dynamic_ncols=True,
      )
    self._bar.update(event.done - self._bar.n)
    if event.done >= event.total:
      self._bar.close()
      self._stage = None


class _Lines:
  """Prints how far a stage is, how fast, and how long it will take."""

  def __init__(self):
    self._stage, self._printed = None, 0.0

  def __call__(self, event: Progress) -> None:
    now = time.monotonic()
    ended = event.done >= event.total
    fresh = event.stage != self._stage
    if not (fresh or ended or now - self._printed > _LINE_SECONDS):
      return
    self._stage, self._printed = None if ended else event.stage, now
    if ended:
      rest = f'{event.total:g} {event.unit} in {event.elapsed:.1f} s'
    else:
      rest = f'{event.done:g} of {event.total:g} {event.unit}'
    if event.eta:
      speed = (event.total - event.done) / event.eta
      rest += f', {speed:.4g} a second, {event.eta:.0f} s left'
    report(f'{event.stage}: {rest}')


def exit_code(
  main: Callable[[], int | None],
  argv: Sequence[str],
  operand: flags.FlagHolder | None = None,
) -> int:
  """Runs a command: 0, or 2 after a line on standard error, or 130 on Ctrl-C.

  141, without a word, where nobody reads the output any more. A defect of
  ours, which is any exception that a user cannot fix, keeps its traceback.
  """
  terminal.open_streams()
  try:
    code = _run(main, list(argv), operand)
    sys.stdout.flush()
    return code
  except UsageError as error:
    return _refuse(str(error))
  except flags.Error as error:
    return _refuse(_of_flags(error))
  except KeyboardInterrupt:
    report('interrupted')
    return INTERRUPTED
  except Exception as error:
    if isinstance(error, BrokenPipeError) and terminal.is_unread():
      return CLOSED
    line = trouble.line_of(error)
    if line is None:
      raise
    return _refuse(line)
  finally:
    terminal.let_go()


def _run(
  main: Callable[[], int | None],
  argv: list[str],
  operand: flags.FlagHolder | None,
) -> int:
  environment.prepare(os.environ)
  environment.keep_freed_memory()
  try:
    _parse(argv, operand)
  except SystemExit as stop:  # absl's 1 after --help says nothing
    return 0 if stop.code == 1 else stop.code
  try:
    return main() or 0
  except SystemExit as stop:
    return stop.code or 0


def _leave(*_: object) -> None:
  """SIGTERM ends as Ctrl-C does: what is open is closed, what is begun kept."""
  raise SystemExit(STOPPED)


def _refuse(message: str) -> int:
  terminal.let_go()
  with contextlib.suppress(OSError):  # nobody reads it
    report(f'error: {message}')
  return USAGE


def _of_flags(error: flags.Error) -> str:
  """Absl's message of several lines, in one."""
  text = ' '.join(str(error).split())
  twice = re.match(r'flag --(\w+)=.*: already defined as ', text)
  return f'--{twice.group(1)} is given twice: leave one out' if twice else text


def _parse(argv: list[str], operand: flags.FlagHolder | None) -> None:
  """Parses the flags, the config before all: its errors are clearest here."""
  app.define_help_flags()
  argv = path_flags.expand_config(argv)
  for name in flags.FLAGS:
    # Of two values one would be forgotten. Keys of a config may come again:
    # scripts add to what they are given, and the last one counts.
    flags.FLAGS[name].allow_overwrite = False
  _check_config(argv[1:])
  spare = flags.FLAGS(argv)[1:]
  if spare and operand is not None and not operand.present:
    flags.FLAGS[operand.name].parse(spare.pop(0))
  if spare:
    raise UsageError(f"unexpected argument '{spare[0]}': flags begin with --")
  if _VERSION.value:
    jax = importlib.metadata.version('jax')
    python = '.'.join(map(str, sys.version_info[:3]))
    print(f'musiclm_jax {__version__} (jax {jax}, Python {python})')
    raise SystemExit(0)
  if not flags.FLAGS['verbosity'].present:
    # Orbax logs, with a traceback, what it raises in any case.
    logging.set_verbosity(logging.FATAL)
  if 'config' in flags.FLAGS and flags.FLAGS.config is not None:
    bounds.check_config(flags.FLAGS.config)


def _check_config(argv: list[str]) -> None:
  """Evaluates the config that `--config` names and looks up each override.

  Raises:
    UsageError: If the file is missing or no config, the size unknown or a key
      misspelt.
  """
  given = [a.partition('=')[2] for a in argv if a.startswith('--config=')]
  if 'config' not in flags.FLAGS or not given:
    return
  path, _, size = given[-1].partition(':')
  if not Path(path).is_file():
    raise UsageError(
      f'config file {path} does not exist: give one, or the name of one of '
      f'ours: {", ".join(configs.names())}'
    )
  keys = _keys(_evaluate(path, size))
  for argument in argv:
    match = re.match(r'--?(?:no)?config\.([\w.]*)', argument)
    if match and match.group(1) not in keys:
      raise UsageError(_unknown_key(match.group(1), keys))


def _evaluate(path: str, size: str) -> Mapping:
  """Runs a config file, which may be the user's own."""
  try:
    get_config = runpy.run_path(path).get('get_config')
    if get_config is None:
      raise UsageError(f'{path} has no function get_config')
    config = get_config(size) if size else get_config()
  except (UsageError, MemoryError):
    raise
  except ValueError as error:
    raise UsageError(f'{path}: {error}') from error
  except (Exception, SystemExit) as error:  # a user's file may raise anything
    lines = traceback.extract_tb(error.__traceback__)
    line = next((f'{t.lineno}' for t in lines[::-1] if t.filename == path), '')
    raise UsageError(
      f'{path}:{line} {type(error).__name__}: {error}: fix the file'
    ) from error
  if not hasattr(config, 'to_dict'):
    raise UsageError(
      f'{path}: get_config returned {type(config).__name__}, no ConfigDict'
    )
  if missing := [section for section in _SECTIONS if section not in config]:
    raise UsageError(f'{path}: the config has no {", ".join(missing)}')
  return config


def _unknown_key(key: str, keys: Sequence[str]) -> str:
  """Proposes the key that was probably meant, or says what there is."""
  last = key.rpartition('.')[2]
  same = [name for name in keys if name.rpartition('.')[2] == last]
  near = difflib.get_close_matches(key, same or keys, 1, 0.0 if same else 0.6)
  if near:
    return f"the config has no key '{key}': did you mean --config.{near[0]}?"
  sections = [name for name in keys if key.startswith(f'{name}.')]
  section = max(sections, key=len, default='')
  there = [name for name in keys if name.rpartition('.')[0] == section]
  return f"the config has no key '{key}': choose one of {', '.join(there)}"


def _keys(node: Mapping, prefix: str = '') -> list[str]:
  """The dotted names of all sections and values."""
  found = []
  for key, value in node.items():
    found.append(f'{prefix}{key}')
    if hasattr(value, 'keys'):
      found += _keys(value, f'{prefix}{key}.')
  return found
