"""The window of a profile: from which step to which, and the trace of it."""

import dataclasses
import re
from pathlib import Path

import jax

from musiclm_jax.contracts.array_types import PyTree
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.paths import plain_file
from musiclm_jax.contracts.terminal import printable

FOLDER = 'profile'


@dataclasses.dataclass(frozen=True)
class Window:
  """Steps `first` to `last`, counted from 1, both included."""

  first: int
  last: int

  @classmethod
  def parse(cls, text: str, total_steps: int) -> 'Window':
    """Reads `FIRST:LAST`.

    Raises:
      UsageError: If it is no window, or not one of this training.
    """
    match = re.fullmatch(r'(\d+):(\d+)', text.strip())
    first, last = map(int, match.groups()) if match else (0, 0)
    if not 1 <= first <= last <= total_steps:
      raise UsageError(
        f"--profile='{text}' is no window of steps: give FIRST:LAST with "
        f'1 <= FIRST <= LAST <= {total_steps}, such as 10:15'
      )
    return cls(first, last)


class Tracer:
  """Writes what a window's steps do on host and device, for TensorBoard."""

  def __init__(self, window: Window | None, workdir: Path):
    """Traces nothing where `window` is None, else into `workdir`/profile."""
    self._window, self._folder = window, Path(workdir) / FOLDER
    self._running = False

  def before(self, step: int) -> None:
    """Begins the trace if `step` is in the window."""
    window = self._window
    if window and not self._running and window.first <= step <= window.last:
      jax.profiler.start_trace(str(plain_file(self._folder)))
      self._running = True

  def after(self, step: int, outcome: PyTree) -> None:
    """Ends the trace when the window's last step is done."""
    if self._running and step >= self._window.last:
      jax.block_until_ready(outcome)
      self.__exit__()
      where = printable(self._folder)
      print(f'profile of steps up to {step} in {where}', flush=True)

  def __enter__(self) -> 'Tracer':
    return self

  def __exit__(self, *_: object) -> None:
    if self._running:
      self._running = False
      jax.profiler.stop_trace()
