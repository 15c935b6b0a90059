"""The report is self-contained, complete and honest about failures."""

import json
import re

import numpy as np
import pytest

from experiments.tiny_cascade import gates, report
from musiclm_jax.contracts import ownership
from musiclm_jax.metrics.bootstrap import Interval

KINDS = (gates.MACHINERY, gates.SIZE)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  out = tmp_path_factory.mktemp('demo')
  table = [
    gates.make(
      name,
      Interval(0.5, 0.4, 0.6),
      0.1,
      {'low > chance': name not in ('mulan_recall', 'cascade_music')},
    )
    for name in gates.STAGE_OF
  ]
  wave = 0.1 * np.sin(np.arange(24_000) * 0.05)
  report.EvaluationReport(
    gates=gates.in_order(table),
    stages=[{'name': 'mulan', 'seconds': 61.5, 'peak_bytes': 2_000_000_000}],
    token_hashes={'semantic': 'ab' * 32},
    baselines={
      'codec_distance': {'vocoder_db': np.float32(7.5), 'bad': float('nan')},
      'classifiers': {'family': Interval(0.9, 0.8, 1.0)},
    },
    clips={'Samples': [report.Clip('a <calm> piano', wave)]},
    curves={
      'mulan': [
        {'step': 1, 'loss': 4.0},
        {'step': 2, 'loss': 3, 'eval_loss': 3},
      ],
      'kmeans': [],
    },
  ).write(out)
  return out


def test_json_is_as_specified(folder):
  data = json.loads((folder / 'report.json').read_text())
  parts = {
    'stages',
    'gates',
    'token_hashes',
    'baselines',
    'files',
    ownership.SEAL,
  }
  assert set(data) == parts
  assert [g['name'] for g in data['gates']] == list(gates.STAGE_OF)
  for gate in data['gates']:
    assert list(gate) == [
      'name',
      'kind',
      'stage',
      'value',
      'chance',
      'low',
      'high',
      'passed',
    ]
  assert set(data['stages'][0]) == {'name', 'seconds', 'peak_bytes'}
  assert data['baselines']['codec_distance']['vocoder_db'] == 7.5
  assert data['baselines']['codec_distance']['bad'] is None
  assert data['baselines']['mulan_recall']['conditions'] == {
    'low > chance': False
  }


def test_page_needs_nothing_from_outside(folder):
  page = (folder / 'report.html').read_text()
  assert 'data:audio/flac;base64,' in page and 'data:image/png;base64,' in page
  sources = re.findall(r'(?:src|href)="([^"]{0,20})', page)
  assert sources and all(s.startswith('data:') for s in sources)
  assert 'a &lt;calm&gt; piano' in page and '<calm>' not in page


def test_page_names_the_failed_gate_and_its_stage(folder):
  page = (folder / 'report.html').read_text()
  assert (
    'The machinery fails in 1 of 13 gates: mulan_recall (look at mulan). Of 7 '
    'gates of size 6 are reached; not reached at this size: cascade_music.'
  ) in page
  machinery, size = (page.index(f'<table id="{k}">') for k in KINDS)
  assert machinery < page.index('<td>mulan_recall</td>') < size
  assert size < page.index('<td>cascade_music</td>')
  assert page.count('>failed</td>') == page.count('>not reached</td>') == 1


def test_picture_is_a_png(folder):
  assert (folder / 'picture.png').read_bytes().startswith(b'\x89PNG')


def test_a_gate_without_conditions_is_a_defect():
  with pytest.raises(ValueError, match='no condition'):
    gates.make('codec_usage', 1.0, 0.0, {})
