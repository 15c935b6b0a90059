"""What others wrote (names, captions, library messages) -> one safe line."""

import unicodedata

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
