"""A sentence from the command line: bytes of any terminal -> text."""

import os
import unicodedata

from musiclm_jax.contracts.errors import UsageError

_SILENT = ('Cc', 'Cf', 'Zl', 'Zp', 'Zs')  # nothing that is read


def read(text: str | None, example: str) -> str:
  """Checks that a prompt says something, in Unicode.

  Where the locale is not UTF-8, Python keeps the letters it does not know as
  surrogates; they are taken as the UTF-8 they mostly are.

  Args:
    text: Of the flag `--text`.
    example: What `--text` is for, and a sentence.

  Raises:
    UsageError: If it is empty or holds bytes that are no text.
  """
  text = text or ''
  if any(unicodedata.category(letter) == 'Cs' for letter in text):
    try:
      text = os.fsencode(text).decode()
    except UnicodeError as error:
      raise UsageError(
        f"--text='{text}' holds bytes that are no UTF-8: write it anew, in a "
        'terminal that uses UTF-8'
      ) from error
  if all(unicodedata.category(letter) in _SILENT for letter in text):
    raise UsageError(f'--text is empty: {example}')
  return text
