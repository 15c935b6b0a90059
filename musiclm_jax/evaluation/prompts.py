"""Prompts of clips, and what they state of family, style and tempo.

captions.csv of the folder, else the provenance inside a WAV -> prompt
"""

import functools
import re
from collections.abc import Mapping

from musiclm_jax.cascade.provenance import read_provenance
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.evaluation.clips import ClipFolder
from musiclm_jax.rendered_music import programs, styles
from musiclm_jax.rendered_music.truth import tempo_class

_BPM = re.compile(r'\b(\d{2,3}) ?bpm\b')
_TEMPO_WORDS = {
  'slow': ('slow', 'slowly', 'adagio', 'largo', 'unhurried'),
  'medium': ('moderate', 'andante', 'mid-tempo', 'medium'),
  'fast': ('fast', 'quick', 'allegro', 'presto', 'rapid', 'up-tempo'),
}


def prompt_of(folder: ClipFolder, index: int) -> str | None:
  """The prompt of a clip, None where nothing tells it.

  Raises:
    UsageError: If captions.csv cannot be read as it was meant.
  """
  if caption := folder.caption(index):
    return caption
  file = folder.source(16_000).path(folder.place(index))
  try:
    prompt = read_provenance(file).get('prompt')
  except (UsageError, OSError, AttributeError):
    return None
  return prompt if isinstance(prompt, str) and prompt else None


def stated(prompt: str) -> dict[str, str]:
  """What a prompt states, by head of the tagger; what it leaves open is not in.

  A word that names two classes, or two words that disagree, state nothing.
  """
  text = prompt.lower()
  found = {}
  for head, table in (
    ('family', _family_words()),
    ('style', _style_words()),
    ('tempo', _TEMPO_WORDS),
  ):
    named = {
      name
      for name, words in table.items()
      if any(re.search(rf'\b{re.escape(word)}\b', text) for word in words)
    }
    if head == 'tempo' and (bpm := _BPM.search(text)):
      named = {tempo_class(float(bpm[1]))}
    if len(named) == 1:
      found[head] = named.pop()
  return found


@functools.cache
def _family_words() -> Mapping[str, tuple[str, ...]]:
  """Lead families and the words for their instruments."""
  found: dict[str, set[str]] = {}
  for program in programs.PROGRAMS:
    if program.family not in programs.LEAD_FAMILIES:
      continue
    words = {program.name, *program.synonyms, *program.family.split('/')}
    found.setdefault(program.family, set()).update(words)
  return {family: tuple(sorted(words)) for family, words in found.items()}


@functools.cache
def _style_words() -> Mapping[str, tuple[str, ...]]:
  return {style.name: (style.name,) for style in styles.STYLES}
