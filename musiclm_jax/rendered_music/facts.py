"""What captions state and crops hold, as bits: a caption is true of a crop if
each bit of the caption is one of the crop.

So a device can compare all captions of a batch with all of its crops; see
`captions.fits`, which says the same of one of each.
"""

import functools
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np

from musiclm_jax.rendered_music import (
  captions,
  composer,
  programs,
  styles,
  theory,
  truth,
)

_BITS = 32  # of a word
_TEMPI = range(round(composer.MIN_BPM), round(composer.MAX_BPM) + 1)
# Attribute -> all values that a caption may state of it.
_VALUES: Mapping[str, tuple[Hashable, ...]] = {
  'near_silence': (True,),
  'style': tuple(style.name for style in styles.STYLES),
  'bpm': tuple(_TEMPI),
  'tempo_class': tuple(captions.TEMPO),
  'key': tuple(
    theory.key_name(tonic, mode)
    for mode in ('major', 'minor')
    for tonic in range(len(theory.NOTE_NAMES))
  ),
  'mode': tuple(theory.MODES),
  'metre': tuple(captions.METRE),
  'mood': tuple(moods[0] for moods in truth.MOODS.values()),
  'loudness': tuple(captions.LOUD),
  'brightness': tuple(captions.BRIGHT),
  'density': tuple(captions.DENSE),
  'lead_family': programs.LEAD_FAMILIES,
  'lead_program': tuple(programs.BY_NAME),
  'texture': tuple(captions.TEXTURE),
  'others': (*programs.BY_NAME, *programs.DRUM_NAMES),
}


@functools.cache
def _places() -> Mapping[tuple[str, Hashable], int]:
  """Attribute and value -> the number of their bit."""
  pairs = [(name, value) for name, of in _VALUES.items() for value in of]
  return {pair: place for place, pair in enumerate(pairs)}


@functools.cache
def num_words() -> int:
  """Counts the int32 that hold all bits, W."""
  return -(-len(_places()) // _BITS)


def of_caption(stated: Mapping[str, Hashable] | None) -> np.ndarray:
  """Encodes what a caption states.

  Args:
    stated: `captions.Caption.stated`, empty of near silence; None where it is
      not known what a caption states.

  Returns:
    int32 [W], all 0 for None: such a caption is known to be true of nothing.

  Raises:
    ValueError: If something is stated that no caption can state.
  """
  if stated is None:
    return _encode([])
  if not stated:
    return _encode([('near_silence', True)])
  found: list[tuple[str, Hashable]] = []
  for name, value in stated.items():
    if name == 'others':
      found += [(name, instrument) for instrument in value]
    else:
      found.append((name, round(value) if name == 'bpm' else value))
  unknown = [pair for pair in found if pair not in _places()]
  if unknown:
    raise ValueError(f'no caption can state {unknown[0]}')
  return _encode(found)


def of_crop(audible: Mapping[str, Any] | None) -> np.ndarray:
  """Encodes all that a caption could truly state of a crop.

  Args:
    audible: `truth.audible` of the crop; None where nothing is known.

  Returns:
    int32 [W], all 0 where nothing is known.
  """
  if audible is None:
    return _encode([])
  if audible['near_silence']:
    return _encode([('near_silence', True)])
  found = [
    (name, round(audible[name]) if name == 'bpm' else audible[name])
    for name in _VALUES
    if name not in ('others', 'near_silence')
  ]
  found += [('others', name) for name in audible['instruments']]
  # What no caption states has no bit, such as a moderate loudness.
  return _encode([pair for pair in found if pair in _places()])


def _encode(pairs: list[tuple[str, Hashable]]) -> np.ndarray:
  bits = np.zeros(num_words() * _BITS, np.uint8)
  bits[[_places()[pair] for pair in pairs]] = 1
  return np.packbits(bits, bitorder='little').view('<i4').astype(np.int32)
