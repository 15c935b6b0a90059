"""The page in a real browser: keys answer, a reload goes on, nothing betrays.

Needs Debian's `chromium`.
"""

import contextlib
import functools
import http.server
import json
import threading
import time

import pytest
from listening_clips import SYSTEMS

from experiments.listening_test import analyse, answers, browser, build

pytestmark = [
  pytest.mark.soak,
  pytest.mark.skipif(
    browser.find() is None,
    reason='no Chromium is installed: apt-get install chromium',
  ),
]


@pytest.fixture
def tab(tmp_path):
  """A tab whose downloads go to a folder of their own."""
  downloads = tmp_path / 'downloads'
  downloads.mkdir()
  with browser.tab(browser.find(), downloads) as found:
    yield found


def _text(tab):
  return tab.run('document.documentElement.outerHTML')


def _begin(tab, rater):
  tab.wait('!document.getElementById("start").hidden')
  tab.run('document.getElementById("rater").focus()')
  tab.type(rater)
  tab.press('Enter')
  tab.wait('!document.getElementById("trial").hidden')


def _shown(tab):
  """Ids of the clips on the screen, in their order."""
  return tab.run('players.map((player) => player.id)')


def _play(tab, key, place):
  tab.press(key)
  tab.wait(f'players[{place}].started')


def _saved(tab, folder):
  tab.press('e')
  limit = time.monotonic() + 10
  while not (found := list(folder.glob('*.json'))):
    assert time.monotonic() < limit, 'nothing was saved'
    time.sleep(0.05)
  content = json.loads(found[0].read_text())
  return found[0], content


def _check_blinded(tab, address):
  text = _text(tab)
  for name in (*SYSTEMS, 'piece', 'anchor'):
    assert name not in text
    assert not any(name in asked for asked in tab.requests)
  local = (address, 'blob:', 'data:')
  assert all(asked.startswith(local) for asked in tab.requests)
  assert tab.problems == []


@contextlib.contextmanager
def _address(folder, served):
  """Where a page is opened: on the disk, or of a simple file server."""
  if not served:
    yield folder.as_uri()
    return
  handler = functools.partial(
    http.server.SimpleHTTPRequestHandler, directory=folder
  )
  with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}'
    server.shutdown()


@pytest.mark.parametrize('served', [False, True])
def test_keys_answer_comparisons_and_a_reload_goes_on(
  tmp_path, systems, tab, served
):
  out = tmp_path / 'page'
  build.build(systems, out)
  with _address(out, served) as address:
    given = _answer_pairs(tab, address)
    _check_blinded(tab, address)
  file, content = _saved(tab, tmp_path / 'downloads')
  found = [(a['clips'], a['preference']) for a in content['answers']]
  assert found == given
  assert content['rater'] == 'anna'
  assert all(a['seconds'] > 0 for a in content['answers'])
  key = answers.read_key(tmp_path / 'page.key.json')
  result = analyse.analyse(key, answers.read_all([file], key))
  assert result['ratings'] == 9 and not result['unfinished']
  expected = dict.fromkeys(SYSTEMS, 0)
  for clips, preference in given:
    if preference:
      expected[key.clips[clips[preference > 0]][0]] += 1
  wins = {name: facts['wins'] for name, facts in result['systems'].items()}
  assert wins == expected


def _answer_pairs(tab, address):
  """Answers all trials by keys; returns (clips, preference) of each."""
  tab.open(f'{address}/index.html')
  _begin(tab, 'anna')
  # An answer without listening, or no answer, does not go on.
  tab.press('3')
  tab.press('Enter')
  assert 'listen first: A, B' in tab.run('find("message").textContent')
  given = []
  for number in range(9):
    assert tab.run('find("progress").textContent') == f'{number + 1} of 9'
    clips = _shown(tab)
    _play(tab, 'a', 0)
    _play(tab, 'b', 1)
    assert tab.run('players[0].audio.paused')
    if number == 2:
      tab.press('5')
      _check_blinded(tab, address)
      # Everything is as it was: the trial, the sides, and the half answer.
      tab.open(f'{address}/index.html')
      tab.wait('!document.getElementById("trial").hidden')
      assert tab.run('find("progress").textContent') == '3 of 9'
      assert _shown(tab) == clips
      assert tab.run('state.draft.preference') == 2
      _play(tab, 'a', 0)
      _play(tab, 'b', 1)
    preference = number % 5 - 2
    tab.press(str(preference + 3))
    tab.press('Enter')
    given.append((clips, preference))
    if number == 4:  # back, and another answer
      tab.press('Backspace')
      assert _shown(tab) == clips
      _play(tab, 'a', 0)
      _play(tab, 'b', 1)
      tab.press('1')
      tab.press('Enter')
      given[-1] = (clips, -2)
  assert tab.run('!find("done").hidden')
  return given


def test_order_and_sides_are_of_each_rater(tmp_path, systems, tab):
  out = tmp_path / 'page'
  build.build(systems, out, trials_per_rater=6)
  tab.open(f'{out.as_uri()}/index.html')
  orders = {}
  for rater in ('anna', 'ben', 'anna again'):
    tab.open(f'{out.as_uri()}/index.html?rater={rater.split()[0]}')
    tab.wait('order.length === 6')
    orders[rater] = tab.run('order.map((trial) => trial.shown)')
  assert orders['anna'] == orders['anna again'] != orders['ben']
  key = answers.read_key(tmp_path / 'page.key.json')
  # Of 300 raters: each side holds each system as often, to 4 deviations.
  left = tab.run(
    'Array.from({length: 300}, (_, k) => orderOf(`r${k}`)'
    '.map((trial) => trial.shown[0])).flat()'
  )
  for system in SYSTEMS:
    count = sum(key.clips[clip][0] == system for clip in left)
    assert abs(count - 600) < 4 * (1800 * 2 / 9) ** 0.5
  # Six of nine trials: two blocks of all three pairs.
  pairs = [{key.clips[clip][0] for clip in trial} for trial in orders['ben']]
  assert all(pairs.count(pair) == 2 for pair in pairs)


@pytest.mark.parametrize('served', [False, True])
def test_keys_score_a_mushra_trial(tmp_path, systems, tab, served):
  out = tmp_path / 'page'
  build.build(systems, out, kind='mushra', reference=SYSTEMS[2])
  key = answers.read_key(tmp_path / 'page.key.json')
  worth = {SYSTEMS[0]: 71, SYSTEMS[1]: 49, 'anchor 3500 Hz': 20}
  with _address(out, served) as address:
    _score_all(tab, address, key, worth)
    _check_blinded(tab, address)
  file, _ = _saved(tab, tmp_path / 'downloads')
  result = analyse.analyse(key, answers.read_all([file], key))
  scores = {name: s['score']['value'] for name, s in result['systems'].items()}
  assert scores == worth | {SYSTEMS[2]: 100}
  assert result['excluded'] == {}


def _score_all(tab, address, key, worth):
  """Scores all trials by keys, the reference at 100."""
  tab.open(f'{address}/index.html')
  _begin(tab, 'ben')
  for number in range(3):
    reference, *clips = _shown(tab)
    assert key.clips[reference][0] == f'open {SYSTEMS[2]}'
    _play(tab, '0', 0)
    if number == 0:  # the next one goes on where this one is
      tab.wait('players[0].audio.currentTime > 0.3')
      tab.press('1')
      tab.wait('players[1].started')
      assert tab.run('players[1].audio.currentTime') > 0.3
    for place, clip in enumerate(clips, 1):
      _play(tab, str(place), place)
      score = worth.get(key.clips[clip][0], 100)
      tens, ones = divmod(score - 50, 10)
      for _ in range(abs(tens)):
        tab.press('PageUp' if tens > 0 else 'PageDown')
      for _ in range(ones):
        tab.press('ArrowUp')
      if number == 1 and place == 2:
        tab.open(f'{address}/index.html')
        tab.wait('!document.getElementById("trial").hidden')
        assert _shown(tab) == [reference, *clips]
        for again, label in enumerate(['0', '1', '2'][: place + 1]):
          _play(tab, label, again)
    tab.press('Enter')
  assert tab.run('!find("done").hidden')


def test_another_rater_begins_anew_and_the_first_one_goes_on(
  tmp_path, systems, tab
):
  out = tmp_path / 'page'
  build.build(systems, out)
  tab.open(f'{out.as_uri()}/index.html')
  _begin(tab, 'anna')
  _play(tab, 'a', 0)
  _play(tab, 'b', 1)
  tab.press('1')
  tab.press('Enter')
  tab.run('find("another").click()')
  _begin(tab, 'ben')
  assert tab.run('find("progress").textContent') == '1 of 9'
  tab.run('find("another").click()')
  _begin(tab, 'anna')
  assert tab.run('find("progress").textContent') == '2 of 9'


def test_a_clip_that_cannot_be_played_is_said(tmp_path, systems, tab):
  out = tmp_path / 'page'
  build.build(systems, out)
  for path in (out / 'audio').iterdir():
    path.write_bytes(b'no sound')
  tab.open(f'{out.as_uri()}/index.html')
  _begin(tab, 'anna')
  tab.wait('find("warning").textContent.includes("cannot be played")')
