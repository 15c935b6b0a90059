"""What a browser may ask for, checked before anything is queued."""

import json
import math
from collections.abc import Mapping
from typing import Any

from musiclm_jax.cascade import inputs, sampling
from musiclm_jax.contracts.errors import UsageError

MAX_BODY_BYTES = 64 << 10
MAX_STYLES = 4
MAX_CHARACTERS = 1000
_FIELDS = {'styles', 'sounds', 'seconds', 'seed', 'negative', 'sampling'}


def read(
  body: bytes, sounds: Mapping[str, str], most_seconds: float
) -> dict[str, Any]:
  """Reads a request.

  Args:
    body: JSON with `styles`, a list of `text` and `weight`; `sounds`, one of
      `sound` and `weight`; `seconds`, `seed`, `negative` and `sampling`.
    sounds: Name of an uploaded sound -> its file.
    most_seconds: Longest piece.

  Returns:
    What the player takes.

  Raises:
    UsageError: Saying what is expected.
  """
  try:
    asked = json.loads(body)
  except (ValueError, RecursionError) as error:
    raise UsageError('the request is no JSON: send an object') from error
  if not isinstance(asked, dict) or not asked.keys() <= _FIELDS:
    raise UsageError(
      f'the request is no object of {", ".join(sorted(_FIELDS))}: leave other '
      'fields out'
    )
  styles = [
    {'text': _text(style, 'text'), 'weight': _weight(style)}
    for style in _list(asked, 'styles')
  ]
  heard = [
    {'file': _sound(sound, sounds), 'weight': _weight(sound)}
    for sound in _list(asked, 'sounds')
  ]
  if not 0 < len(styles) + len(heard) <= MAX_STYLES:
    raise UsageError(
      f'{len(styles) + len(heard)} styles: give one to {MAX_STYLES}'
    )
  seconds, seed = asked.get('seconds', 10.0), asked.get('seed', 0)
  inputs.check_seconds(seconds)
  inputs.check_seed(seed)
  if seconds > most_seconds:
    raise UsageError(
      f'{seconds:g} s are too long for this page: ask for up to '
      f'{most_seconds:g} s'
    )
  changes = asked.get('sampling', {})
  if not isinstance(changes, dict):
    raise UsageError('sampling is no object: give settings by name')
  sampling.check(changes)
  negative = asked.get('negative')
  return {
    'styles': styles,
    'sounds': heard,
    'seconds': float(seconds),
    'seed': seed,
    'negative': _text(asked, 'negative') if negative else None,
    'sampling': changes,
  }


def _list(asked: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
  found = asked.get(name, [])
  if not isinstance(found, list) or not all(isinstance(x, dict) for x in found):
    raise UsageError(f'{name} is no list of objects')
  return found


def _text(entry: Mapping[str, Any], name: str) -> str:
  text = entry.get(name)
  if isinstance(text, str) and len(text) > MAX_CHARACTERS:
    raise UsageError(
      f'a text of {len(text):,} characters: {MAX_CHARACTERS:,} at most'
    )
  return inputs.read_text(text, 'say what to play')


def _weight(entry: Mapping[str, Any]) -> float:
  weight = entry.get('weight', 1.0)
  number = isinstance(weight, (int, float)) and not isinstance(weight, bool)
  if not number or not math.isfinite(weight) or not 0 < weight <= 1:
    raise UsageError(f'weight={weight!r}: expected a number above 0, up to 1')
  return float(weight)


def _sound(entry: Mapping[str, Any], sounds: Mapping[str, str]) -> str:
  name = entry.get('sound')
  if not isinstance(name, str) or name not in sounds:
    raise UsageError('the sound is not here any more: choose it again')
  return sounds[name]
