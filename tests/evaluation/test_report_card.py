"""The report card shows what was measured, and nothing that was not."""

import json
import re

import numpy as np
import pytest

from musiclm_jax.contracts import ownership
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.evaluation import comparison, page, run
from musiclm_jax.evaluation.page import Clip
from musiclm_jax.evaluation.report_card import ClipRow, ReportCard
from musiclm_jax.evaluation.results import Results, Side
from musiclm_jax.metrics.bootstrap import Interval

TONE = 0.1 * np.sin(np.arange(24_000) * 0.05).astype(np.float32)
FACTS = {
  'embedder': 'tagger',
  'sha256': '0123456789abcdef' * 4,
  'windowing': 'vggish: 0.96 s every 0.96 s',
  'label': 'not VGGish',
}
COUNTS = {
  **{'reference': 160, 'generated': 150},
  **{'reference_clips': 16, 'generated_clips': 15},
}
ROWS = ('codec', 'fine', 'coarse')


def results(shift=0.0):
  found = Results()
  songs = {f'{k}.wav': 10.0 - k + shift for k in range(8)}
  found.add(
    'fad_tagger',
    31.4 + shift,
    interval=Interval(31.4, 28.0, 36.0),
    remarks=['too few <embeddings>'],
    n=COUNTS,
    per_song={**songs, 'short.wav': None},
    **FACTS,
  )
  found.add('fadinf_tagger', None, remarks=['needs 10 clips'], **FACTS)
  found.add('kld_tagger_family', -0.5, n=8, qualified=False)
  found.add('new_measure', 1.25)
  for level in (1, 2):
    key = f'codec_perplexity_{level}'
    found.add(key, 200.0 / level, codebook_size=256)
  for place, row in enumerate(ROWS):
    for measure in ('joint_kad_tagger', 'kld_tagger_family'):
      for prefix in ('', 'cost_'):
        found.add(
          f'attribution_{prefix}{row}_{measure}',
          7.0 + place,
          interval=Interval(7.0, 6.0, 9.0),
          qualified=measure[0] != 'k',
        )
  found.details['attribution'] = {
    'weakest': 'coarse',
    'cost': {'value': 5.0, 'low': 4.0, 'high': 6.0},
    'deciding': 'joint_kad_tagger',
    'rows': list(ROWS),
    'remarks': ['no text row: there are no captions'],
  }
  found.details['files'] = {'reference': {'clips': 16}}
  return found


def card(*sides, **fields):
  rows = [ClipRow('1: “a <calm> piano”', [Clip('reference', TONE)])]
  return ReportCard(
    sides, {'seed': 0, 'reference': 'held-out'}, rows=rows, **fields
  )


@pytest.fixture(scope='module')
def one():
  facts = {'sha256': 'f' * 64, 'networks': {'coarse': {'numbers': 951_488}}}
  side = Side('tiny <b>', results(), facts)
  return card(side, left_out={'mcc': 'mcc: needs --bundle'})


@pytest.fixture(scope='module')
def html(one):
  return one.to_html()


def test_page_needs_nothing_from_outside(html):
  assert 'data:audio/flac;base64,' in html and 'data:image/png;base64,' in html
  sources = re.findall(r'(?:src|href)="([^"]{0,20})', html)
  assert sources and all(s.startswith('data:') for s in sources)
  assert 'a &lt;calm&gt; piano' in html and '<calm>' not in html
  assert 'tiny &lt;b&gt;' in html and 'too few &lt;embeddings&gt;' in html


def test_a_figure_has_bounds_n_and_what_measured_it(html):
  row = re.search(r'<tr><td>fad_tagger ↓.*?</tr>', html).group()
  for words in ('31.4', '[28, 36]', '160 : 150 windows', '16 : 15 clips'):
    assert words in row
  assert '0123456789ab' in row and '0.96 s every 0.96 s' in row
  assert 'tagger: not VGGish' in html
  row = re.search(r'<tr><td>fadinf_tagger.*?</tr>', html).group()
  assert '<td>–</td>' in row and 'needs 10 clips' in row
  assert 'new_measure' in html and 'Left out: mcc: needs --bundle.' in html


def test_facts_of_the_bundle_and_the_conditions_are_there(html):
  assert 'f' * 64 in html and '951,488' in html and 'held-out' in html


def test_attribution_is_a_table_of_rows_and_names_the_weakest(html):
  assert 'the stage that loses most is coarse, 5 [4, 6]' in html
  assert 'no text row: there are no captions' in html
  tables = re.findall(r'<table class="figures (\w+)">(.*?)</table>', html)
  assert [name for name, _ in tables] == ['attribution', 'costs']
  for _, table in tables:
    heads = re.findall(r'<th[^>]*>(\w+)</th>', table)
    assert heads == ['measure', *ROWS]
    assert table.count('<tr>') == 3 and 'joint_kad_tagger</b>' in table
    assert table.count('classifier not good enough') == 1
    assert table.count('class="weakest"') == 3
  figures = re.search(r'<table class="figures" id="figures">.*?</table>', html)
  assert 'attribution' not in figures.group()


def test_curves_are_drawn_of_what_there_is(html):
  assert html.count('<svg') == 2
  assert 'FAD of each song, tagger' in html and 'Codec: codes in use' in html
  bare = Results()
  bare.add('kad_tagger', 1.0)
  empty = ReportCard([Side('x', bare)], {}).to_html()
  assert '<svg' not in empty and 'Clips' not in empty and 'Bundle' not in empty


def test_json_has_flat_figures_and_is_sealed(one, tmp_path):
  one.write(tmp_path)
  record = json.loads((tmp_path / 'report.json').read_text())
  assert ownership.is_sealed(record)
  assert record['fad_tagger'] == 31.4 and record['fadinf_tagger'] is None
  assert record['details']['fad_tagger']['interval'] == [28.0, 36.0]
  assert record['bundle']['sha256'] == 'f' * 64
  assert record['left_out'] == {'mcc': 'mcc: needs --bundle'}
  one.write(tmp_path)  # it may be replaced, until a user changes it
  page.check_out(tmp_path, (page.HTML,))
  (tmp_path / 'report.html').write_text('mine')
  with pytest.raises(UsageError, match='--overwrite'):
    page.check_out(tmp_path, (page.HTML,))
  page.check_out(tmp_path, (page.HTML,), overwrite=True)


def test_two_bundles_stand_side_by_side(tmp_path):
  sides = [Side('first', results()), Side('second', results(2.0))]
  differences = comparison.compare(*(side.results for side in sides))
  both = card(*sides, differences=differences)
  html = both.to_html()
  assert 'second − first' in html and html.count('<svg') == 2
  row = re.search(r'<tr><td>song_fad_tagger.*?</tr>', html).group()
  assert '[2, 2]' in row and '8 pairs' in row
  assert html.count('the stage that loses most') == 2
  record = both.to_json()
  assert record['compare']['fad_tagger'] == 33.4
  assert record['differences']['song_fad_tagger']['difference'] == 2.0
  assert any('second less first' in line for line in both.lines())


def test_each_measure_of_the_command_has_a_heading_and_a_direction():
  """A figure that is not known stands last, under a heading of its own kind."""
  better = {'mcc', 'text_score'}
  for measure in set(run.MEASURES) - {'attribution'}:
    found = Results()
    found.add(f'{measure}_x', 1.0)
    page_of_it = card(Side('one', found)).to_html()
    assert 'Other' not in page_of_it, measure
    arrow = '↑' if measure in better else '↓'
    assert f'{measure}_x {arrow}' in page_of_it
  found = Results()
  for name in ('visqol', 'si_sdr', 'stft'):
    found.add(f'codec_{name}', 1.0)
  page_of_it = card(Side('one', found)).to_html()
  for name, arrow in (('visqol', '↑'), ('si_sdr', '↑'), ('stft', '↓')):
    assert f'codec_{name} {arrow}' in page_of_it
