"""Captions: what is audible in a crop -> a sentence, by a grammar.

Each caption states only a part of what is audible; words are drawn among
synonyms; a few training captions hold a typing error.
"""

import dataclasses
import functools
import re
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np

from musiclm_jax.rendered_music import (
  caption_templates,
  programs,
  splits,
  styles,
  theory,
  truth,
)

_KINDS = ('tags', 'single', 'short', 'long')
_WEIGHTS = (0.24, 0.1, 0.42, 0.24)
_TYPO_SHARE = 0.05
_MAX_OTHERS = 3
_FAMILY_WORD_SHARE = 0.5
_LEAD_FAVOUR = 4.0  # templates that name the lead are so much likelier
_WITHHELD_SHARE = 0.22  # of captions in which an attribute may not be said
_COUNTABLE = ('waltz', 'march', 'ballad', 'blues shuffle')
_NOUNS = ('piece', 'tune', 'track')

TEMPO = {
  'slow': ('slow', 'slow-paced', 'leisurely', 'unhurried'),
  'medium': ('medium-paced', 'mid-tempo', 'moderate', 'medium tempo'),
  'fast': ('fast', 'quick', 'fast-paced', 'lively', 'up-tempo'),
}
METRE = {
  '3/4': ('3/4 time', 'three four time', 'triple time'),
  '4/4': ('4/4 time', 'four four time', 'common time'),
  '6/8': ('6/8 time', 'six eight time', 'compound time'),
}
LOUD = {
  'soft': ('soft', 'quiet', 'gentle'),
  'loud': ('loud', 'powerful', 'forceful'),
}
BRIGHT = {
  'dark': ('dark', 'muffled', 'mellow'),
  'bright': ('bright', 'crisp', 'brilliant'),
}
DENSE = {
  'sparse': ('sparse', 'minimal', 'airy'),
  'busy': ('busy', 'dense', 'full'),
}
TEXTURE = {
  'solo': ('solo', 'unaccompanied'),
  'ensemble': ('ensemble', 'band', 'group'),
}
_SLOT = re.compile(r'\{(\w+)\}')
# Nouns without an article: plurals and what cannot be counted.
_BARE = ('strings', 'mallets', 'brass', 'vibes', 'voices', 'keys', 'percussion')


@dataclasses.dataclass(frozen=True)
class Caption:
  """A caption and what it says.

  Attributes:
    text: The caption.
    template: Whence it was made.
    stated: Attribute -> value, such as the caption names.
  """

  text: str
  template: str
  stated: Mapping[str, Hashable]


def write(
  audible: Mapping[str, Any], split: str, rng: np.random.Generator
) -> Caption:
  """Writes a caption on a crop.

  Args:
    audible: `truth.audible` of the crop.
    split: Whose templates are used.
    rng: Draws template, words and typing errors.
  """
  words, stated = _words(audible, rng)
  candidates = _candidates(audible, split, words, rng)
  favour = np.array([_LEAD_FAVOUR if 'lead}' in t else 1.0 for t in candidates])
  template = candidates[rng.choice(len(candidates), p=favour / favour.sum())]
  text = fill(template, words)
  if split == 'train' and rng.random() < _TYPO_SHARE:
    text = _mistype(text, rng)
  said = {}
  for slot in slots(template):
    said |= stated.get(slot, {})
  return Caption(text, template, said)


def fits(stated: Mapping[str, Hashable], audible: Mapping[str, Any]) -> bool:
  """Tells whether all that a caption states is true of a crop.

  Args:
    stated: Of the caption; nothing is stated of near silence alone.
    audible: `truth.audible` of any crop.
  """
  if not stated or audible['near_silence']:
    return not stated and audible['near_silence']

  def true(name: str, value: Any) -> bool:
    if name == 'others':
      return set(value) <= set(audible['instruments'])
    if name == 'bpm':
      return round(value) == round(audible['bpm'])
    return value == audible[name]

  return all(true(name, value) for name, value in stated.items())


def slots(template: str) -> list[str]:
  """Lists the slots of a template in their order."""
  return _SLOT.findall(template)


def fill(template: str, words: Mapping[str, str]) -> str:
  """Puts words into the slots of a template and corrects articles."""
  return _finish(_SLOT.sub(lambda match: words[match.group(1)], template))


def _candidates(
  audible: Mapping[str, Any], split: str, words, rng
) -> list[str]:
  """Templates of one kind that need nothing absent or withheld."""
  templates = caption_templates.templates(split)
  if audible['near_silence']:
    return list(templates['silence'])
  groups = ({'lead', 'a_lead'}, {'style', 'piece', 'use'}, {'bpm', 'bpm_tag'})
  grouped = set().union(*groups)
  groups = (*groups, *({slot} for slot in words if slot not in grouped))
  withheld = [g for g in groups if rng.random() < _WITHHELD_SHARE]
  sayable = words.keys() - set().union(*withheld)
  while True:
    kind = _KINDS[rng.choice(len(_KINDS), p=_WEIGHTS)]
    fitting = [t for t in templates[kind] if set(slots(t)) <= sayable]
    if fitting:
      return fitting
    sayable = words.keys()  # too little is left to say


def _words(audible: Mapping[str, Any], rng) -> tuple[dict, dict]:
  """Slot -> words, and slot -> what they state; absent slots cannot be said."""
  words, stated = {}, {}

  def say(slot: str, text: str, **facts: Hashable) -> None:
    words[slot], stated[slot] = text, facts

  def among(options) -> str:
    return options[rng.integers(len(options))]

  if audible['near_silence']:
    return words, stated
  if audible['lead_program']:
    lead, facts = _lead_word(audible, rng)
    say('lead', lead, **facts)
    say('a_lead', _with_article(lead), **facts)
  others = [n for n in audible['instruments'] if n != audible['lead_program']]
  if others:
    kept = [others[i] for i in rng.permutation(len(others))[:_MAX_OTHERS]]
    say(
      'others', _listing([among(_names(n)) for n in kept]), others=tuple(kept)
    )
  style = styles.BY_NAME[audible['style']]
  say('style', style.name, style=style.name)
  own = (
    style.name if style.name in _COUNTABLE else f'{style.name} {among(_NOUNS)}'
  )
  say('piece', among((own, own, *style.synonyms)), style=style.name)
  say('use', among(style.uses), style=style.name)
  tempo, bpm = audible['tempo_class'], round(audible['bpm'])
  say('tempo', among(TEMPO[tempo]), tempo_class=tempo)
  say('bpm', str(bpm), bpm=audible['bpm'])
  say('bpm_tag', f'{bpm} bpm', bpm=audible['bpm'])
  say('key', audible['key'], key=audible['key'])
  say('mode', audible['mode'], mode=audible['mode'])
  say('metre', among(METRE[audible['metre']]), metre=audible['metre'])
  major = audible['key'].endswith('major')
  say('mood', among(truth.MOODS[major, tempo]), mood=audible['mood'])
  say('texture', among(TEXTURE[audible['texture']]), texture=audible['texture'])
  for slot, name, table in (
    ('loud', 'loudness', LOUD),
    ('bright', 'brightness', BRIGHT),
    ('dense', 'density', DENSE),
  ):
    if audible[name] in table:
      say(slot, among(table[audible[name]]), **{name: audible[name]})
  return words, stated


def _lead_word(audible: Mapping[str, Any], rng) -> tuple[str, dict]:
  program = programs.BY_NAME[audible['lead_program']]
  facts = {'lead_family': audible['lead_family']}
  if rng.random() < _FAMILY_WORD_SHARE:
    options = programs.family_words(program)
  else:
    options = (program.name, *program.synonyms)
    facts['lead_program'] = program.name
  return options[rng.integers(len(options))], facts


def _names(name: str) -> tuple[str, ...]:
  """Words for an accompanying instrument."""
  if name in programs.DRUM_NAMES:
    return programs.DRUM_NAMES[name]
  program = programs.BY_NAME[name]
  return (program.name, *program.synonyms)


def _listing(names: list[str]) -> str:
  names = list(dict.fromkeys(names))
  if len(names) == 1:
    return names[0]
  return f'{", ".join(names[:-1])} and {names[-1]}'


def _with_article(noun: str) -> str:
  return noun if noun.endswith(_BARE) or noun[-1] == 's' else f'a {noun}'


def _finish(text: str) -> str:
  """Mends articles and capitals of sentences."""
  text = re.sub(r'\b([Aa])(?= (?:[aeio]|un[^i]|up|8))', r'\1n', text)
  sentence = re.compile(r'(^|(?<=\. ))[a-z]')
  return (
    sentence.sub(lambda m: m.group().upper(), text) if '. ' in text else text
  )


def _mistype(text: str, rng) -> str:
  """Swaps, drops or doubles a letter of one longer word."""
  places = [m.span() for m in re.finditer(r'[a-z]{4,}', text)]
  if not places:
    return text
  start, end = places[rng.integers(len(places))]
  at = int(rng.integers(start + 1, end - 1))
  change = rng.integers(3)
  if change == 0:
    return text[:at] + text[at + 1] + text[at] + text[at + 2 :]
  return text[:at] + ('' if change == 1 else text[at] * 2) + text[at + 1 :]


@functools.cache
def vocabulary() -> frozenset[str]:
  """All words, in lower case, that a caption can hold, typing errors apart.

  Words of a prompt that are not among them never occurred in training.
  """
  texts = [
    template
    for split in splits.SPLITS
    for kind in caption_templates.templates(split).values()
    for template in kind
  ]
  for table in (TEMPO, METRE, LOUD, BRIGHT, DENSE, TEXTURE, truth.MOODS):
    texts += [word for words in table.values() for word in words]
  for program in programs.PROGRAMS:
    texts += [program.name, *program.synonyms]
  for table in (programs.FAMILY_WORDS, programs.DRUM_NAMES):
    texts += [word for words in table.values() for word in words]
  for style in styles.STYLES:
    texts += [style.name, *style.synonyms, *style.uses]
  texts += [
    *_NOUNS,
    *theory.NOTE_NAMES,
    *theory.MODES,
    'an and major minor bpm',
  ]
  texts += [str(bpm) for bpm in range(60, 181)]
  cleaned = (_SLOT.sub(' ', text).lower() for text in texts)
  return frozenset(w for text in cleaned for w in re.findall(r"[\w'/]+", text))
