"""Paraphrases: what is audible in a crop, in words that no caption holds.

Captions of all splits draw from the same synonyms, so a held-out template
still speaks in words that training has shown. Here each attribute is named by
at least one word that `captions.vocabulary` lacks: only a text tower that
knows English from elsewhere can read it. For evaluation alone.
"""

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np

from musiclm_jax.rendered_music import captions, programs

# Attribute -> value -> phrases. Leads go by `lead_word`, moods by the
# likeliest mood of `truth.MOODS`.
WORDS: dict[str, dict[str, tuple[str, ...]]] = {
  'lead': {
    'piano': ('pianist', 'pianoforte'),
    'mallets': ('glockenspiel', 'set of tuned chimes'),
    'organ': ('organist', 'organ virtuoso'),
    'guitar': ('guitarist', 'plucked six-string'),
    'strings': ('violinist or cellist', 'string virtuoso'),
    'brass': ('brass player', 'bugler'),
    'reed instrument': ('saxophonist or clarinettist', 'bassoon-like reed'),
    'flute': ('flautist', 'piccolo'),
    'synth': ('synthesizer oscillator', 'electronic keyboardist'),
    'choir': ('choral vocalist', 'chorus of singers'),
  },
  'style': {
    'waltz': ('Viennese whirl', 'Johann Strauss number'),
    'blues shuffle': ('Chicago twelve-bar', 'Mississippi delta song'),
    'techno': ('warehouse rave', 'EDM banger'),
    'ambient': ('drifting drone', 'weightless chill-out texture'),
    'bossa nova': ('Brazilian samba', 'Rio de Janeiro serenade'),
    'march': ('soldiers parading by', 'regimental drill'),
    'ballad': ('heartfelt torch song', 'power-ballad for sweethearts'),
    'folk': ('bluegrass hoedown', 'rustic village singalong'),
    'rock': ('grunge number', 'hard-hitting headbanger'),
    'chiptune': ('Nintendo soundtrack', 'Gameboy melody'),
    'funk': ('James Brown groove', 'disco strut'),
    'film strings': ('Hollywood underscore', 'orchestral blockbuster cue'),
    'reggae': ('Jamaican ska', 'Bob Marley song'),
    'swing jazz': ('bebop number', 'Duke Ellington big-band chart'),
  },
  'tempo_class': {
    'slow': ('sluggish', 'languid', 'plodding'),
    'medium': ('strolling', 'neither hurried nor dragging'),
    'fast': ('rapid', 'speedy', 'frantic'),
  },
  'mood': {
    'peaceful': ('serene', 'soothing', 'tranquil'),
    'cheerful': ('light-hearted', 'good-natured'),
    'happy': ('jubilant', 'exuberant', 'elated'),
    'sad': ('sorrowful', 'mournful', 'gloomy'),
    'moody': ('brooding', 'enigmatic'),
    'tense': ('agitated', 'anxious', 'nervous'),
  },
  'loudness': {
    'soft': ('hushed', 'whispering'),
    'loud': ('thunderous', 'deafening'),
  },
  'brightness': {
    'dark': ('murky', 'dull'),
    'bright': ('glittering', 'sparkling'),
  },
  'density': {
    'sparse': ('bare-bones', 'uncluttered'),
    'busy': ('crowded', 'hectic'),
  },
}
SILENCE = ('dead air', 'mute recording', 'total stillness')
TEMPLATES = (
  'find me a {tempo_class} {style}',
  'a {lead} performing a {style}',
  'a {mood} {style}, starring a {lead}',
  'looking for a {style} that feels {mood}',
  'a {tempo_class}, {mood} {style}',
  'a {lead} out front, {tempo_class}',
  '{mood} and {loudness}, a {lead}',
  'a {lead} in a {density} setting',
  'a {brightness} {lead}',
  '{loudness} {style}',
  'the {style} of a {mood} {lead}',
  'imagine a {tempo_class} {style} by a {lead}',
  '{density}, {brightness} {style}',
  'just a {lead}',
  'nothing but {style}',
  '{tempo_class}, {density} and {loudness}: a {lead}',
  'think of a {style} with a {lead}, {mood} and {tempo_class}',
)


def lead_word(audible: Mapping[str, Any]) -> str | None:
  """Names the lead's family as captions do; None where no lead is audible."""
  name = audible['lead_program']
  return name and programs.family_words(programs.BY_NAME[name])[0]


def sayable(audible: Mapping[str, Any]) -> dict[str, str]:
  """Attributes of a crop that `WORDS` can name, with their values."""
  values = {name: audible.get(name) for name in WORDS}
  values['lead'] = lead_word(audible)
  return {k: v for k, v in values.items() if v in WORDS[k]}


def write(
  audible: Mapping[str, Any], rng: np.random.Generator
) -> captions.Caption:
  """Writes a paraphrase on a crop.

  Args:
    audible: `truth.audible` of the crop.
    rng: Draws template and words.
  """
  if audible['near_silence']:
    return captions.Caption(SILENCE[rng.integers(len(SILENCE))], 'silence', {})
  values = sayable(audible)
  fitting = [t for t in TEMPLATES if set(captions.slots(t)) <= values.keys()]
  template = fitting[rng.integers(len(fitting))]
  slots = captions.slots(template)
  words = {
    slot: WORDS[slot][values[slot]][
      rng.integers(len(WORDS[slot][values[slot]]))
    ]
    for slot in slots
  }
  stated: dict[str, Hashable] = {
    slot: values[slot] for slot in slots if slot != 'lead'
  }
  if 'lead' in slots:
    stated['lead_family'] = audible['lead_family']
  return captions.Caption(captions.fill(template, words), template, stated)
