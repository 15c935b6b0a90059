"""The demo's page: what each piece was made of, in one file."""

import json
import re

import numpy as np
import pytest

from experiments.first_minute import report
from musiclm_jax.cascade.musiclm import Music
from musiclm_jax.contracts.errors import UsageError

PROMPTS = ['a "loud" <march>', 'rain']


def music(texts):
  rng = np.random.default_rng(0)
  shape = () if isinstance(texts, str) else (len(texts),)
  tokens = {
    'mulan': rng.integers(32, size=(*shape, 12)),
    'semantic': rng.integers(64, size=(*shape, 25)),
    'acoustic': rng.integers(256, size=(*shape, 50, 8)),
  }
  waveform = 0.1 * rng.standard_normal((*shape, 24_000))
  prompts = [texts] if isinstance(texts, str) else texts
  return Music(waveform, tokens, {'prompts': prompts}, 24_000)


@pytest.fixture
def made():
  four = music(PROMPTS)
  return report.Report(
    pieces=[
      *(report.Piece.of(four, 3, row) for row in range(2)),
      report.Piece.of(music('alone'), 3),
    ],
    seconds={'2 pieces': 12.3},
    question='a <piano>',
    found=[('piece_1.wav', 0.51), ('piece_0.wav', 0.2)],
    bundle_sha256='ab',
    curve=[(5, 9.0), (10, 7.0)],
    distances={'real': {'fad': 1.25, 'kad': 0.5}},
  )


def test_a_piece_has_its_own_row_and_its_levels_by_stage():
  four = music(PROMPTS)
  piece = report.Piece.of(four, 3, 1)
  assert piece.clip.title == 'rain'
  np.testing.assert_array_equal(piece.clip.waveform, four.waveform[1])
  shapes = {name: codes.shape for name, codes in piece.streams.items()}
  assert shapes == {
    'MuLan': (1, 12),
    'semantic': (25, 1),
    'coarse': (50, 3),
    'fine': (50, 5),
  }
  np.testing.assert_array_equal(
    np.concatenate([piece.streams['coarse'], piece.streams['fine']], 1),
    four.tokens['acoustic'][1],
  )


def test_a_cascade_without_semantic_tokens_shows_none():
  alone = music('alone')
  del alone.tokens['semantic']
  assert 'semantic' not in report.Piece.of(alone, 3).streams


def test_the_page_needs_no_other_file_and_escapes_what_it_is_told(
  made, tmp_path
):
  made.write(tmp_path)
  text = (tmp_path / 'report.html').read_text()
  assert text.count('<audio') == 3
  assert text.count('<img') == 3 * (4 + 1)  # streams and a spectrogram
  assert '<march>' not in text and '<piano>' not in text
  assert not re.search(r'(src|href)="(?!data:)', text)
  record = json.loads((tmp_path / 'report.json').read_text())
  assert record['prompts'] == [*PROMPTS, 'alone']
  assert record['search']['found'][0] == ['piece_1.wav', 0.51]
  assert record['distances'] == {'real': {'fad': 1.25, 'kad': 0.5}}
  assert '<td>1.250<td>0.500' in text
  assert record['curve'] == [[5, 9.0], [10, 7.0]]


def test_a_page_that_was_changed_is_not_replaced(made, tmp_path):
  made.write(tmp_path)
  report.check_out(tmp_path)
  (tmp_path / 'report.html').write_text('mine')
  with pytest.raises(UsageError, match='the demo did not write it'):
    report.check_out(tmp_path)
