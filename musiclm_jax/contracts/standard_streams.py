"""Standard input, output and error: open, of any encoding, read by anyone?"""

import io
import os
import select
import sys

OUTPUTS = (1, 2)


def open_all() -> None:
  """Lets any text be printed, and nowhere but where it belongs.

  Where a standard stream is closed, the next file that is opened would get
  its number, and what a library prints would go into that file. A letter that
  the terminal's encoding does not have is shown as an escape.
  """
  for number in range(3):
    try:
      os.fstat(number)
    except OSError:
      os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
  for number, name in zip(OUTPUTS, ('stdout', 'stderr'), strict=True):
    stream = getattr(sys, name)
    if stream is None:
      stream = open(number, 'w', encoding='utf-8', closefd=False)  # noqa: SIM115
      setattr(sys, name, stream)
    elif isinstance(stream, io.TextIOWrapper):
      stream.reconfigure(errors='backslashreplace')


def are_unread() -> bool:
  """Whether nobody reads standard output or error any more, as after `head`."""
  return any(map(_is_unread, OUTPUTS))


def let_go() -> None:
  """Writes what is printed; an output that cannot be written is given up.

  Python writes once more at its end, and would complain.
  """
  for number, stream in zip(OUTPUTS, (sys.stdout, sys.stderr), strict=True):
    try:
      stream.flush()
      lost = _is_unread(number)
    except OSError:
      lost = True
    if lost:
      with open(os.devnull, 'wb') as nowhere:
        os.dup2(nowhere.fileno(), number)


def _is_unread(number: int) -> bool:
  ends = select.poll()
  ends.register(number, 0)
  return any(event & select.POLLERR for _, event in ends.poll(0))
