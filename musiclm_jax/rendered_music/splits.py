"""Which pieces, themes and captions belong to which split.

Splits are disjoint three times over: in piece seed, in chord loop x melody
motif, and in caption template, so that no music and no wording of an evaluation
has been trained on.
"""

import zlib

SPLITS = ('train', 'validation', 'test')
_PARTS = 10  # train 8, validation 1, test 1


def of_number(number: int) -> str:
  """Split of a non-negative number: of ten, eight train, one each other."""
  part = number % _PARTS
  return {8: 'validation', 9: 'test'}.get(part, 'train')


def of_theme(loop: int, motif: int) -> str:
  """Split of a chord loop played with a melody motif, both by index."""
  return of_number(zlib.crc32(f'{loop}x{motif}'.encode()))


def sizes(pieces: int) -> dict[str, int]:
  """Pieces in each split of a corpus: 10 % validation, 10 % test.

  At least one each where there are three pieces or more.
  """
  held_out = max(pieces // _PARTS, 1)
  return {
    'train': pieces - 2 * held_out,
    'validation': held_out,
    'test': held_out,
  }
