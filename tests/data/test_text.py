"""Word pieces: BERT's format, deterministic, honest about unknown words."""

import subprocess
import sys

import numpy as np
import pytest

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.terminal import printable
from musiclm_jax.data.text import SPECIALS, WordPiece

TEXTS = (
  'A calm piano solo, slow and tender.',
  'Fast rock with electric guitar and drums at 140 bpm',
  'a cheerful FLUTE waltz in D major',
  'slow strings, film music; calm',
)


@pytest.fixture(scope='module')
def tokenizer():
  return WordPiece.train(TEXTS * 3, 400)


def test_ids_begin_with_cls_end_with_sep_and_are_padded_with_zero(tokenizer):
  ids = tokenizer.encode('calm piano', 8)
  assert ids.dtype == np.int32 and ids.shape == (8,)
  assert [tokenizer.pieces[i] for i in ids] == [
    '[CLS]', 'calm', 'piano', '[SEP]', *['[PAD]'] * 4,
  ]  # fmt: skip


def test_long_text_is_cut_and_still_closed(tokenizer):
  ids = tokenizer.encode('calm piano ' * 20, 6)
  assert tokenizer.pieces[ids[-1]] == '[SEP]' and (ids > 0).all()


def test_case_and_accents_do_not_matter(tokenizer):
  np.testing.assert_array_equal(
    tokenizer.encode('CALM Flüte', 8), tokenizer.encode('calm flute', 8)
  )


def test_greedy_match_spells_new_words_with_known_pieces(tokenizer):
  ids = tokenizer.encode('drumming', 12)
  pieces = [tokenizer.pieces[i] for i in ids[ids > 0]][1:-1]
  assert ''.join(p.removeprefix('##') for p in pieces) == 'drumming'


def test_foreign_letters_become_unknown(tokenizer):
  assert tokenizer.pieces[tokenizer.encode('жук', 4)[1]] == '[UNK]'


def test_unknown_words_are_named_once_and_numbers_are_not_words(tokenizer):
  text = 'Calm theremin, theremin and zither at 97 bpm!'
  assert tokenizer.unknown_words(text) == ['theremin', 'zither']


def test_what_is_cut_off_is_named(tokenizer):
  text = 'Calm theremin, theremin and zither at 97 bpm!'
  assert tokenizer.unread_part(text, 64) == ''
  for length in range(3, 12):
    rest = tokenizer.unread_part(text, length)
    assert rest and text.endswith(rest)
    read = text.removesuffix(rest)
    whole = tokenizer.encode(text, length)
    np.testing.assert_array_equal(tokenizer.encode(read, length), whole)


def test_remarks_name_what_is_unknown_and_what_is_cut_off(tokenizer):
  unknown, unread = tokenizer.remarks('calm theremin, calm calm calm', 8)
  assert "'calm theremin" in unknown and ': theremin;' in unknown
  assert "calm calm' is not read" in unread
  assert tokenizer.remarks('calm piano', 8) == []


def test_words_of_no_caption_are_told_with_what_is_nearest(tokenizer):
  text = 'calm theremin and sitar'
  taken = {'theremin': ('flute', 'guitar'), 'sitar': ()}
  assert tokenizer.remarks(text, 64, taken) == [
    "in 'calm theremin and sitar' the model does not know: theremin "
    '(nearest: flute, guitar), sitar; no caption that it learned from has '
    'such words'
  ]
  assert tokenizer.remarks(text, 64, {}) == [], 'nor are they guessed'


def test_words_that_are_cut_off_are_not_read(tokenizer):
  text = 'calm piano theremin, calm zither'
  assert tokenizer.read_words(text, 64) == [
    'calm', 'piano', 'theremin', ',', 'zither',
  ]  # fmt: skip
  assert tokenizer.read_words(text, 5) == ['calm', 'piano']


@pytest.mark.parametrize(
  'text',
  [
    'x' * 10_000,
    'theremin ' * 2_000,
    '🎹' * 3_000,
    '\x1b[31m\n\u202etheremin ' * 99,
    'ритм 琴 ' * 999,
  ],
)
def test_remarks_on_any_text_are_short_and_safe(tokenizer, text):
  words = tokenizer.read_words(text, 64)
  known_or_not = (None, {word: (text, 'flute') for word in words})
  for unknown in known_or_not:
    for line in tokenizer.remarks(text, 64, unknown):
      assert len(line) < 999 and line == printable(line)


def test_a_vocabulary_survives_its_file(tokenizer, tmp_path):
  tokenizer.save(tmp_path / 'vocab.txt')
  loaded = WordPiece.load(tmp_path / 'vocab.txt')
  assert loaded.pieces == tokenizer.pieces
  assert loaded.pieces[: len(SPECIALS)] == SPECIALS


def test_vocabulary_is_the_same_in_another_process():
  """Ties between pairs would otherwise depend on the seed of a hash."""
  program = (
    'from musiclm_jax.data.text import WordPiece;'
    "texts = ['qwxz lkjh mnbv poiu ytre asdf ghjk zxcv'] * 2;"
    'print(*WordPiece.train(texts, 45).pieces)'
  )
  outputs = {
    subprocess.run(
      [sys.executable, '-c', program],
      env={'PYTHONHASHSEED': seed, 'PYTHONPATH': ':'.join(sys.path)},
      capture_output=True,
      text=True,
      check=True,
    ).stdout
    for seed in ('1', '2')
  }
  assert len(outputs) == 1 and len(outputs.pop().split()) == 45


def test_size_is_a_limit_and_words_come_out_whole_where_it_allows():
  small = WordPiece.train(TEXTS, 60)
  assert len(small) == 60
  large = WordPiece.train(TEXTS, 4000)
  assert len(large) < 4000
  for text in TEXTS:
    assert large.unknown_words(text) == []


def test_bad_vocabularies_are_refused_in_one_line(tmp_path):
  with pytest.raises(UsageError, match=r'no vocabulary'):
    WordPiece.load(tmp_path / 'nothing.txt')
  (tmp_path / 'bad.txt').write_text('hello\nworld\n')
  with pytest.raises(UsageError, match=r'\[PAD\]'):
    WordPiece.load(tmp_path / 'bad.txt')
  with pytest.raises(UsageError, match='no captions'):
    WordPiece.train([], 100)
  with pytest.raises(UsageError, match='letters'):
    WordPiece.train(TEXTS, 10)


def test_what_cannot_even_be_spelt_is_said_to_be_passed_over(tokenizer):
  lines = tokenizer.remarks('🎹🎵, slow qpiano!', 16)
  assert lines[0] == (
    "in '🎹🎵, slow qpiano!' the model does not know: 🎹🎵, qpiano, nor the "
    'letters: nothing of it is read'
  )
  assert len(lines) == 1, 'and not that it is guessed from its parts'
