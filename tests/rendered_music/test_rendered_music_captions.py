"""Claims on captions: grammar, splits, omissions, truth."""

import collections

import numpy as np

from musiclm_jax.rendered_music import (
  caption_templates,
  captions,
  composer,
  programs,
  splits,
  styles,
  truth,
)

AUDIBLE = {
  'style': 'rock',
  'bpm': 96.3,
  'tempo_class': 'medium',
  'key': 'E minor',
  'mode': 'dorian',
  'metre': '4/4',
  'mood': 'moody',
  'brightness': 'bright',
  'loudness': 'loud',
  'density': 'sparse',
  'lead_family': 'strings',
  'lead_program': 'violin',
  'instruments': ('violin', 'electric bass', 'drums'),
  'families': ('strings', 'bass', 'drums'),
  'texture': 'ensemble',
  'near_silence': False,
}
_ALL = 400


def _write(split='train', count=_ALL, **changes):
  rng = np.random.default_rng(0)
  return [captions.write(AUDIBLE | changes, split, rng) for _ in range(count)]


def _of(split):
  return {
    template
    for kind in caption_templates.templates(split).values()
    for template in kind
  }


def test_grammar_has_200_templates_in_disjoint_splits():
  assert sum(len(_of(split)) for split in splits.SPLITS) >= 200
  assert not _of('train') & _of('validation')
  assert not _of('train') & _of('test')
  assert not _of('validation') & _of('test')


def test_long_captions_of_splits_share_no_sentence():
  sentences = [
    {
      sentence
      for template in caption_templates.templates(split)['long']
      for sentence in template.split('. ')
    }
    for split in splits.SPLITS
  ]
  strip = [{s.rstrip('.') for s in group} for group in sentences]
  assert not strip[0] & strip[1] and not strip[0] & strip[2]


def test_evaluation_captions_come_from_held_out_templates_alone():
  for split in ('validation', 'test'):
    assert {c.template for c in _write(split)} <= _of(split)


def test_each_attribute_is_left_out_in_a_fifth_of_captions():
  for split in splits.SPLITS:
    counts = collections.Counter(k for c in _write(split) for k in c.stated)
    assert max(counts.values()) <= 0.8 * _ALL, counts
    assert counts['lead_family'] > 0.5 * _ALL


def test_every_attribute_is_stated_at_times():
  stated = {key for c in _write(count=2000) for key in c.stated}
  assert {
    *('style', 'bpm', 'tempo_class', 'key', 'mode', 'metre', 'mood'),
    *('brightness', 'loudness', 'density', 'lead_family', 'lead_program'),
    *('texture', 'others'),
  } <= stated


def test_what_is_stated_is_true():
  for caption in _write():
    for key, value in caption.stated.items():
      if key == 'others':
        assert set(value) <= {'electric bass', 'drums'}
      else:
        assert value == AUDIBLE[key]


def test_a_caption_fits_the_crops_of_which_it_is_true():
  other = AUDIBLE | {'lead_family': 'brass', 'lead_program': 'trumpet'}
  other |= {'instruments': ('trumpet', 'drums'), 'bpm': 97.0}
  silent = AUDIBLE | {'near_silence': True}
  assert captions.fits({}, silent) and not captions.fits({}, AUDIBLE)
  for caption in _write('test'):
    assert captions.fits(caption.stated, AUDIBLE)
    assert not captions.fits(caption.stated, silent)
    wrong = {'lead_family', 'lead_program', 'bpm'} & caption.stated.keys()
    wrong |= {n for n in caption.stated.get('others', ()) if 'bass' in n}
    assert captions.fits(caption.stated, other) == (not wrong)


def test_captions_name_only_audible_instruments():
  absent = [
    word
    for p in programs.PROGRAMS
    if p.name not in AUDIBLE['instruments']
    and p.family not in ('strings', 'bass')
    for word in (p.name, *p.synonyms)
  ]
  for caption in _write('validation'):
    words = f' {caption.text.lower()} '
    assert not any(f' {word} ' in words for word in absent), caption.text


def test_no_lead_no_lead_words():
  changes = {
    'lead_family': None,
    'lead_program': None,
    'instruments': ('electric bass', 'drums'),
    'families': ('bass', 'drums'),
  }
  for caption in _write('test', **changes):
    assert 'violin' not in caption.text and 'strings' not in caption.text
    assert 'lead_family' not in caption.stated


def test_silence_is_called_silence():
  changes = {
    'near_silence': True,
    'style': None,
    'lead_family': None,
    'lead_program': None,
    'instruments': (),
  }
  for caption in _write('validation', 20, **changes):
    assert caption.template in caption_templates.SILENCE
    assert not caption.stated


def test_texts_are_finished():
  for caption in _write('validation'):
    assert '{' not in caption.text and '  ' not in caption.text
    assert ' a a ' not in caption.text and ' a o' not in caption.text


def test_some_training_captions_are_mistyped_and_no_others():
  known = captions.vocabulary()

  def unknown(split):
    return sum(
      any(
        word.strip('.,:').lower() not in known
        for word in c.text.replace(',', ' ').split()
        if word.strip('.,:').replace("'", '').isalpha()
      )
      for c in _write(split, 600)
    )

  assert 6 < unknown('train') < 60
  assert unknown('validation') == 0 and unknown('test') == 0


def test_vocabulary_knows_every_style_and_instrument():
  known = captions.vocabulary()
  for style in styles.STYLES:
    assert set(style.name.split()) <= known | {'bossa', 'nova'}
  assert {'marimba', 'waltz', 'slow', '120', 'minor'} <= known
  assert 'zither' not in known


def test_lead_words_hold_the_family_name():
  for family, leads in programs.LEADS.items():
    parts = set(family.split('/'))
    for program in leads:
      words = ' '.join(programs.family_words(program))
      assert any(part in words for part in parts)


def test_composed_pieces_can_be_captioned_in_every_split():
  for split in splits.SPLITS:
    assert composer.compose(0, split, 0).split == split


def test_tempi_have_three_classes():
  bpm = (60.0, 83.9, 84.0, 124.0, 124.1, 160.0)
  classes = ['slow', 'slow', 'medium', 'medium', 'fast', 'fast']
  assert [truth.tempo_class(x) for x in bpm] == classes
