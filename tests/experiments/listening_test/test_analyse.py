"""Answers of raters: refused, joined with the key, analysed."""

import json

import numpy as np
import pytest
from listening_clips import SYSTEMS

from experiments.listening_test import (
  analyse,
  answers,
  build,
  mushra,
  preferences,
)
from musiclm_jax.contracts.errors import UsageError


def _page(tmp_path, systems, **settings):
  out = tmp_path / 'page'
  build.build(systems, out, **settings)
  return answers.read_key(tmp_path / 'page.key.json')


def _clip(key, system, name):
  return next(k for k, owner in key.clips.items() if owner == (system, name))


def _write(path, key, rater, given, **changes):
  """A file as the page saves it."""
  content = {
    'format': answers.FORMAT,
    'page': key.page,
    'kind': key.kind,
    'rater': rater,
    'trials': len(given),
    'answers': given,
  }
  path.write_text(json.dumps(content | changes))
  return path


def _pair(key, a, b, name, preference):
  clips = [_clip(key, SYSTEMS[a], name), _clip(key, SYSTEMS[b], name)]
  return {'clips': clips, 'preference': preference}


def test_wins_of_all_raters_are_counted(tmp_path, systems):
  key = _page(tmp_path, systems)
  files = [
    _write(
      tmp_path / 'anna.json',
      key,
      'anna',
      [
        _pair(key, 0, 1, 'piece1', -2),
        _pair(key, 1, 0, 'piece2', 1),
        _pair(key, 2, 1, 'piece2', 0),
      ],
    ),
    _write(
      tmp_path / 'ben.json',
      key,
      'ben',
      [_pair(key, 2, 0, 'piece1', -1)],
      trials=9,
    ),
  ]
  found = analyse.analyse(key, answers.read_all(files, key))
  systems_found = found['systems']
  assert {name: s['wins'] for name, s in systems_found.items()} == {
    'our_secret': 2,
    'their_secret': 0,
    'real_secret': 1,
  }
  assert systems_found['their_secret']['comparisons'] == 3
  assert found['left_preferred'] == 2 and found['right_preferred'] == 1
  assert found['unfinished'] == {'ben': '1 of 9'}
  pair = next(
    p for p in found['pairs'] if p['systems'] == ['our_secret', 'their_secret']
  )
  assert pair['wins'] == [2, 0] and pair['ties'] == 0
  text = '\n'.join(analyse.lines(found))
  assert 'ben has not finished: 1 of 9 trials' in text
  assert 'our_secret against their_secret: 2 to 0, 0 ties' in text
  json.dumps(found, allow_nan=False)


def _reversed_preference(one):
  return {'clips': one['clips'][::-1], 'preference': -one['preference']}


def test_sides_do_not_matter(tmp_path, systems):
  key = _page(tmp_path, systems)
  given = [
    _pair(key, 0, 1, 'piece1', -2),
    _pair(key, 1, 2, 'piece2', 1),
    _pair(key, 0, 2, 'piece2', 1),
  ]
  found = []
  for k, rows in enumerate((given, list(map(_reversed_preference, given)))):
    file = _write(tmp_path / f'{k}.json', key, 'anna', rows)
    found.append(analyse.analyse(key, answers.read_all([file], key)))
  sides = ('left_preferred', 'right_preferred')
  assert found[0].pop(sides[0]) == found[1].pop(sides[1])
  assert found[0].pop(sides[1]) == found[1].pop(sides[0])
  assert found[0] == found[1]


def test_answers_of_another_page_are_refused(tmp_path, systems):
  key = _page(tmp_path, systems)
  file = _write(tmp_path / 'a.json', key, 'anna', [], page='f' * 64)
  with pytest.raises(UsageError, match='page of hash ffffffff, the key of'):
    answers.read_all([file], key)


def test_a_rater_counts_once(tmp_path, systems):
  key = _page(tmp_path, systems)
  folder = tmp_path / 'answers'
  folder.mkdir()
  for name in ('a', 'b'):
    rows = [_pair(key, 0, 1, 'piece1', 1)]
    _write(folder / f'{name}.json', key, 'anna', rows)
  with pytest.raises(UsageError, match=r"b\.json.*a\.json.*of rater 'anna'"):
    answers.read_all([folder], key)


@pytest.mark.parametrize(
  'change, message',
  [
    ({'preference': 3}, "answer 1: the preference is '3'"),
    ({'preference': None}, "the preference is 'None'"),
    ({'clips': ['0', '1']}, "the page has no clip '0'"),
    ({'clips': []}, 'expected 2 clips of one name'),
    ({'clips': 'ab'}, 'expected clips and what was answered'),
  ],
)
def test_answers_that_the_page_cannot_have_saved_are_refused(
  tmp_path, systems, change, message
):
  key = _page(tmp_path, systems)
  given = [_pair(key, 0, 1, 'piece1', 1) | change]
  file = _write(tmp_path / 'a.json', key, 'anna', given)
  with pytest.raises(UsageError, match=message):
    answers.read_all([file], key)


def test_the_same_trial_twice_is_refused(tmp_path, systems):
  key = _page(tmp_path, systems)
  given = [_pair(key, 0, 1, 'piece1', 1), _pair(key, 1, 0, 'piece1', 1)]
  file = _write(tmp_path / 'a.json', key, 'anna', given)
  with pytest.raises(UsageError, match=r'answer 2: .* answered before'):
    answers.read_all([file], key)


@pytest.mark.parametrize(
  'text, message',
  [
    ('no JSON', 'is no JSON'),
    ('[]', 'holds no answers of a listening test'),
    ('{"format": "other"}', 'holds no answers of a listening test'),
  ],
)
def test_other_files_are_refused(tmp_path, systems, text, message):
  key = _page(tmp_path, systems)
  file = tmp_path / 'a.json'
  file.write_text(text)
  with pytest.raises(UsageError, match=message):
    answers.read_all([file], key)
  with pytest.raises(UsageError, match=r'is no JSON|is no key'):
    answers.read_key(file)


def _scored(key, rng, name, reference, rest):
  order = rng.permutation(len(key.systems))
  names = [key.systems[k] for k in order]
  return {
    'clips': [_clip(key, system, name) for system in names],
    'scores': [
      reference if system == key.reference else rest[system] for system in names
    ],
  }


def test_who_misses_the_hidden_reference_is_left_out_by_name(tmp_path, systems):
  key = _page(tmp_path, systems, kind='mushra', reference=SYSTEMS[2])
  rng = np.random.default_rng(0)
  rest = {SYSTEMS[0]: 70, SYSTEMS[1]: 50, 'anchor 3500 Hz': 20}
  wild = {name: 100 for name in rest}
  names = ('piece1', 'piece2', 'sub/piece3')
  files = [
    _write(
      tmp_path / f'{rater}.json',
      key,
      rater,
      [_scored(key, rng, name, *given) for name in names],
    )
    for rater, given in {
      'anna': (100, rest),
      'ben': (95, rest),
      'carl': (40, wild),
    }.items()
  ]
  found = analyse.analyse(key, answers.read_all(files, key))
  assert found['excluded'] == {'carl': 1.0}
  scores = {name: s['score']['value'] for name, s in found['systems'].items()}
  assert scores == rest | {SYSTEMS[2]: 97.5}
  assert 'carl is left out: hidden reference below 90 in 100 %' in (
    '\n'.join(analyse.lines(found)).replace('100%', '100 %')
  )
  with pytest.raises(UsageError, match='no rater is left: all 1 scored'):
    analyse.analyse(key, answers.read_all(files[2:], key))


def test_one_missed_reference_of_many_is_forgiven():
  values = np.full((20, 2), 100.0)
  values[[1, 12, 13], 0] = 10.0
  raters = ['anna'] * 10 + ['ben'] * 10
  scores = answers.Scores(('real', 'ours'), values, ['x'] * 20, raters)
  missed = mushra.missed_references(scores, 'real')
  assert missed == {'anna': 0.1, 'ben': 0.2}
  assert missed['anna'] <= mushra.MOST_MISSED < missed['ben']


def test_a_command_prints_wins_and_refuses_in_one_line(
  tmp_path, systems, monkeypatch, capsys
):
  key = _page(tmp_path, systems)
  given = [
    _pair(key, a, b, name, -1)
    for a, b in ((0, 1), (0, 2), (1, 2))
    for name in ('piece1', 'piece2', 'sub/piece3')
  ]
  file = _write(tmp_path / 'a.json', key, 'anna', given)
  out = tmp_path / 'found.json'
  arguments = ['analyse', f'--key={tmp_path}/page.key.json', f'--json={out}']
  monkeypatch.setattr('sys.argv', [*arguments, str(file)])
  analyse.main()
  assert 'our_secret' in capsys.readouterr().out.splitlines()[1]
  assert json.loads(out.read_text())['systems']['our_secret']['wins'] == 6
  monkeypatch.setattr('sys.argv', [*arguments, '--alpha=2', str(file)])
  with pytest.raises(UsageError, match='--alpha must be'):
    analyse.main()


def test_raters_without_preference_give_no_strengths(tmp_path, systems):
  key = _page(tmp_path, systems)
  given = [
    _pair(key, a, b, name, 0)
    for a, b in ((0, 1), (0, 2), (1, 2))
    for name in ('piece1', 'piece2')
  ]
  file = _write(tmp_path / 'a.json', key, 'anna', given)
  found = analyse.analyse(key, answers.read_all([file], key))
  for facts in found['systems'].values():
    assert facts['wins'] == 0
    assert facts['strength']['value'] == pytest.approx(0.0, abs=1e-9)
  assert not any(pair['significant'] for pair in found['pairs'])
  assert {pair['threshold'] for pair in found['pairs']} == {
    preferences.ALPHA / 3
  }
