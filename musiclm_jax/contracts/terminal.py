"""The terminal: safe lines, standard streams that are open and of any encoding.

What others wrote (names, captions, library messages) -> one safe line.
"""

import io
import os
import select
import sys
import unicodedata
from collections.abc import Sequence

_OUTPUTS = (1, 2)

# Marks, embeddings, overrides and isolates that reorder what is beside them.
_BIDI_CONTROLS = frozenset(
  '\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069'
)
_ESCAPED = {'Cc', 'Cs', 'Zl', 'Zp'}  # controls, surrogates, line separators


def printable(text: object) -> str:
  r"""Escapes what would break a line, move a cursor or fail to be encoded.

  Control characters, line separators, bidirectional controls and surrogates
  become escapes as Python writes them; a byte that was no UTF-8 in a file's
  name (a surrogate of `os.fsdecode`) becomes `\x85`. All else stays as it is.

  Args:
    text: A string, or what `str` makes one of, such as a path or an error.

  Returns:
    One line, which any UTF-8 terminal can show.
  """
  return ''.join(
    _escape(character) if _is_unsafe(character) else character
    for character in str(text)
  )


def _is_unsafe(character: str) -> bool:
  return (
    unicodedata.category(character) in _ESCAPED or character in _BIDI_CONTROLS
  )


def _escape(character: str) -> str:
  code = ord(character)
  if 0xDC80 <= code <= 0xDCFF:
    return f'\\x{code - 0xDC00:02x}'
  return character.encode('unicode_escape').decode('ascii')


def first_few(items: Sequence[str], most: int = 5) -> str:
  """Lists the first of many; how many more there are is said."""
  more = len(items) - most
  return ', '.join(items[:most]) + (f' and {more} more' if more > 0 else '')


def size(count: float) -> str:
  """Bytes for readers, to three digits: `1.75 GB`."""
  for unit in ('B', 'kB', 'MB'):
    if count < 1000:
      return f'{count:.3g} {unit}'
    count /= 1000
  return f'{count:.3g} GB' if count < 1000 else f'{count:,.0f} GB'


def open_streams() -> None:
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
  for number, name in zip(_OUTPUTS, ('stdout', 'stderr'), strict=True):
    stream = getattr(sys, name)
    if stream is None:
      stream = open(number, 'w', encoding='utf-8', closefd=False)  # noqa: SIM115
      setattr(sys, name, stream)
    elif isinstance(stream, io.TextIOWrapper):
      stream.reconfigure(errors='backslashreplace')


def is_unread() -> bool:
  """Whether nobody reads standard output or error any more, as after `head`."""
  return any(map(_lost_reader, _OUTPUTS))


def let_go() -> None:
  """Writes what is printed; an output that cannot be written is given up.

  Python writes once more at its end, and would complain.
  """
  for number, stream in zip(_OUTPUTS, (sys.stdout, sys.stderr), strict=True):
    try:
      stream.flush()
      lost = _lost_reader(number)
    except OSError:
      lost = True
    if lost:
      with open(os.devnull, 'wb') as nowhere:
        os.dup2(nowhere.fileno(), number)


def _lost_reader(number: int) -> bool:
  ends = select.poll()
  ends.register(number, 0)
  return any(event & select.POLLERR for _, event in ends.poll(0))
