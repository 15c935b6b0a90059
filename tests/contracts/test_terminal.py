"""Claims on what is printed of texts that others wrote."""

import os
from pathlib import Path

import pytest

from musiclm_jax.contracts.terminal import printable


@pytest.mark.parametrize(
  ('text', 'shown'),
  [
    ('two\nlines\r\n', r'two\nlines\r\n'),
    ('red\x1b[31mtext\x07', r'red\x1b[31mtext\x07'),
    ('\x85\x9b31m\u2028', r'\x85\x9b31m\u2028'),
    (os.fsdecode(b'mod\x85.wav'), r'mod\x85.wav'),
    ('\ud800', r'\ud800'),
    ('evil\u202egpj.exe', r'evil\u202egpj.exe'),
  ],
)
def test_what_breaks_a_line_or_a_terminal_is_escaped(text, shown):
  assert printable(text) == shown


@pytest.mark.parametrize(
  'text',
  ['', 'señal 🎶.wav', '音楽', 'נעימה', 'e\u0301', '👩\u200d🎤', r'a\b "c"'],
)
def test_ordinary_unicode_stays(text):
  assert printable(text) == text


def test_paths_and_errors_are_taken_as_their_text():
  assert printable(Path('a\tb')) == r'a\tb'
  assert printable(ValueError('no\nway')) == r'no\nway'


def test_every_character_becomes_one_line_of_utf8():
  everything = ''.join(map(chr, range(0x110000)))
  shown = printable(everything)
  assert len(shown.splitlines()) == 1
  assert shown.encode()
