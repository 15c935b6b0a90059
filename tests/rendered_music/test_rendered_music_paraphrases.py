"""Paraphrases: true, and in words that no caption of any split holds."""

import re

import numpy as np
import pytest

from musiclm_jax.rendered_music import (
  caption_templates,
  captions,
  paraphrases,
  programs,
  splits,
  styles,
  truth,
)

AUDIBLE = {
  'style': 'rock',
  'tempo_class': 'medium',
  'mood': 'moody',
  'brightness': 'bright',
  'loudness': 'loud',
  'density': 'sparse',
  'lead_family': 'strings',
  'lead_program': 'violin',
  'near_silence': False,
}


def _words(phrase):
  return set(re.findall(r"[\w'/]+", phrase.lower()))


@pytest.mark.parametrize('attribute', sorted(paraphrases.WORDS))
def test_each_phrase_has_a_word_that_no_caption_has(attribute):
  known = captions.vocabulary()
  for phrases in paraphrases.WORDS[attribute].values():
    for phrase in phrases:
      assert _words(phrase) - known, phrase


def test_no_split_has_these_templates():
  theirs = {
    template
    for split in splits.SPLITS
    for kind in caption_templates.templates(split).values()
    for template in kind
  }
  assert not theirs & {*paraphrases.TEMPLATES, *paraphrases.SILENCE}


def test_every_value_can_be_said():
  words = paraphrases.WORDS
  assert words['style'].keys() == {style.name for style in styles.STYLES}
  assert words['mood'].keys() == {m[0] for m in truth.MOODS.values()}
  assert words['tempo_class'].keys() == captions.TEMPO.keys()
  assert words['loudness'].keys() == captions.LOUD.keys()
  assert words['brightness'].keys() == captions.BRIGHT.keys()
  assert words['density'].keys() == captions.DENSE.keys()
  assert words['lead'].keys() == {
    programs.family_words(lead)[0]
    for leads in programs.LEADS.values()
    for lead in leads
  }


def test_paraphrases_are_true_and_finished():
  rng = np.random.default_rng(0)
  known, seen = captions.vocabulary(), set()
  for _ in range(300):
    caption = paraphrases.write(AUDIBLE, rng)
    assert caption.stated
    for key, value in caption.stated.items():
      assert AUDIBLE[key] == value
    assert _words(caption.text) - known
    assert '{' not in caption.text
    assert not re.search(r'\ba [aeio]', caption.text), caption.text
    seen.add(caption.template)
  assert seen == set(paraphrases.TEMPLATES)


def test_what_is_inaudible_is_not_said():
  rng = np.random.default_rng(0)
  plain = AUDIBLE | {
    'lead_family': None,
    'lead_program': None,
    'loudness': 'moderate',
  }
  silent = AUDIBLE | {'near_silence': True}
  for _ in range(50):
    stated = paraphrases.write(plain, rng).stated
    assert not {'lead_family', 'loudness'} & stated.keys()
    assert paraphrases.write(silent, rng).text in paraphrases.SILENCE
