"""Words of captions: what is known, what is compared with, a file of them."""

import pytest

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.data import caption_words
from musiclm_jax.data.caption_words import CaptionWords

CAPTIONS = ('A slow PIANO waltz, 97 bpm', 'slow strings', 'a Flûte melody')


def test_words_are_counted_as_the_text_tower_reads_them():
  counts = CaptionWords.of(CAPTIONS).counts
  assert list(counts)[:2] == ['a', 'slow'] and counts['slow'] == 2
  assert {'piano', 'flute', 'bpm'} < counts.keys()
  assert not {'97', ','} & counts.keys()


def test_only_words_that_no_caption_held_are_unknown():
  words = CaptionWords.of(CAPTIONS)
  prompt = 'The Theremin, and a theremin: 3 pianos, string in d with zithers'
  assert words.unknown(prompt) == ['theremin', 'zithers']
  assert words.unknown("the flute's melodies would be waltzes") == []
  assert words.unknown('琴 🎹') == ['琴'], 'a letter that is a word'


def test_words_of_grammar_and_typing_errors_are_compared_with_nothing():
  counts = {'with': 9_000, 'piano': 20_000, 'paino': 2, 'd': 40, 'harp': 30}
  assert CaptionWords(counts).common == ('piano', 'harp')
  assert CaptionWords.of(CAPTIONS[:1]).common == (
    'bpm', 'piano', 'slow', 'waltz',
  )  # fmt: skip


def test_words_survive_their_file_and_add_up():
  words = CaptionWords.of(CAPTIONS)
  again = CaptionWords.parse(words.to_text())
  assert list(again.counts.items()) == list(words.counts.items())
  assert words.plus(again).counts['slow'] == 4
  assert CaptionWords.parse('').unknown('piano') == ['piano']


def test_the_most_frequent_are_kept(monkeypatch):
  monkeypatch.setattr(caption_words, 'MAX_WORDS', 2)
  assert CaptionWords({'c': 1, 'b': 1, 'a': 2}).counts == {'a': 2, 'b': 1}


@pytest.mark.parametrize('line', ['piano', 'piano x', '\x1b[31m 3', 'a 1 2'])
def test_what_is_no_list_of_words_is_refused_with_its_line(line):
  with pytest.raises(UsageError, match='line 2: expected a word'):
    CaptionWords.parse(f'slow 3\n{line}\n')
