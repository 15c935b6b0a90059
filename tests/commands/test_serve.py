"""The page over HTTP: pieces, refusals, a full queue, a killed player."""

import contextlib
import http.client
import json
import re
import subprocess
import sys
import threading

import numpy as np
import pytest
import soundfile

from musiclm_jax import MusicLM
from musiclm_jax.cascade import provenance

SECONDS = 2.23
QUEUE = 3


class Site:
  """A server, and what a browser does with it."""

  def __init__(self, process):
    self.process = process
    self.lines = []
    found = None
    while found is None:
      line = process.stderr.readline()
      assert line, self.lines
      self.lines.append(line)
      found = re.search(r'http://127\.0\.0\.1:(\d+)', line)
    self.port = int(found[1])
    threading.Thread(target=process.stderr.read, daemon=True).start()

  @contextlib.contextmanager
  def request(self, method, path, body=None, **headers):
    connection = http.client.HTTPConnection('127.0.0.1', self.port, timeout=300)
    headers = {name.replace('_', '-'): v for name, v in headers.items()}
    connection.request(method, path, body, headers)
    with contextlib.closing(connection):
      yield connection.getresponse()

  def post(self, path, asked):
    body = asked if isinstance(asked, bytes) else json.dumps(asked)
    with self.request(
      'POST', path, body, Content_Type='application/json'
    ) as answer:
      return answer.status, json.loads(answer.read())

  def ask(self, text='slow piano', **more):
    asked = {'styles': [{'text': text}], 'seconds': SECONDS, 'seed': 7, **more}
    return self.post('/pieces', asked)

  def get(self, path):
    with self.request('GET', path) as answer:
      return answer.status, answer.read()

  def events(self, name):
    with self.request('GET', f'/pieces/{name}/events') as answer:
      for line in answer:
        if line.startswith(b'data: '):
          yield json.loads(line[6:])

  def player(self):
    """The number of the process that plays."""
    found = subprocess.run(
      ['pgrep', '-P', str(self.process.pid), '-f', 'spawn_main'],
      capture_output=True,
      text=True,
      check=True,
    )
    return int(found.stdout.split()[-1])


@pytest.fixture(scope='module')
def site(bundle):
  command = [sys.executable, '-m', 'musiclm_jax.serve', '--port=0']
  command += [f'--bundle={bundle[0]}', f'--queue={QUEUE}']
  with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
    try:
      yield Site(process)
    finally:
      process.terminate()
      process.wait(30)


@pytest.fixture(scope='module')
def piece(site):
  """A finished piece: its name and its events."""
  status, found = site.ask()
  assert status == 202
  return found['name'], list(site.events(found['name']))


def test_a_piece_is_what_the_api_makes(site, piece, bundle, tmp_path):
  name, events = piece
  assert events[-1]['kind'] == 'done'
  status, heard = site.get(f'/pieces/{name}/sound.wav')
  _, saved = site.get(f'/pieces/{name}/piece.wav')
  music = MusicLM.load(bundle[0]).generate(
    'slow piano', seconds=SECONDS, seed=7
  )
  samples = round(SECONDS * 24000)
  assert status == 200
  assert heard == provenance.wav_header(samples, 24000) + provenance.to_pcm(
    music.waveform
  )
  (tmp_path / 'x.wav').write_bytes(saved)
  record = provenance.read_provenance(tmp_path / 'x.wav')
  assert record['prompt'] == 'slow piano' and record['seed'] == 7


def test_the_page_begins_with_what_the_bundle_proposes(site, bundle):
  _, facts = site.get('/facts')
  assert json.loads(facts)['sampling'] == vars(MusicLM.load(bundle[0]).sampling)


def test_events_tell_progress_and_all_tokens(piece):
  _, events = piece
  stages = {e['stage'] for e in events if e['kind'] == 'progress'}
  assert {'semantic', 'coarse', 'fine'} <= stages
  made = [e['tokens'] for e in events if e['kind'] == 'chunk']
  assert len(made) == 3
  counts = {n: sum(len(m.get(n, ())) for m in made) for n in made[0]}
  assert counts == {'mulan': 12, 'semantic': 56, 'acoustic': 112}


def test_a_mix_with_an_uploaded_sound(site, tmp_path):
  tone = 0.3 * np.sin(np.arange(48_000) * 0.1)
  soundfile.write(tmp_path / 'x.wav', tone, 24_000)
  with site.request(
    'POST', '/sounds', (tmp_path / 'x.wav').read_bytes()
  ) as got:
    assert got.status == 201
    sound = json.loads(got.read())['sound']
  status, found = site.ask(sounds=[{'sound': sound, 'weight': 0.25}])
  assert status == 202
  assert list(site.events(found['name']))[-1]['kind'] == 'done'


@pytest.mark.parametrize(
  'more,words',
  [
    ({'styles': []}, '0 styles: give one to 4'),
    ({'styles': [{'text': 'x'}] * 5}, '5 styles'),
    ({'styles': [{'text': ' '}]}, 'empty'),
    ({'styles': [{'text': 'x' * 10_000}]}, '10,000 characters: 1,000 at most'),
    ({'styles': 'slow piano'}, 'styles is no list of objects'),
    ({'styles': [{'text': 'x', 'weight': float('nan')}]}, 'weight=nan'),
    ({'sounds': [{'sound': '../../etc/passwd'}]}, 'choose it again'),
    ({'seconds': 61}, 'ask for up to 60 s'),
    ({'seconds': -1}, '--seconds=-1'),
    ({'seed': 2**32}, '--seed'),
    ({'sampling': {'voice': 1}}, "no 'voice'"),
    ({'sampling': []}, 'no object'),
    ({'bundle': '/etc'}, 'leave other fields out'),
  ],
  ids=str,
)
def test_what_cannot_be_played_is_one_line(site, more, words):
  status, found = site.ask(**more)
  assert status == 422
  assert words in found['error'] and '\n' not in found['error']


@pytest.mark.parametrize('text', ['🎹 🎷', 'медленный вальс', 'x\x00\x1by'])
def test_what_nobody_expects_is_played(site, text):
  status, found = site.ask(text, seconds=0.5)
  assert status == 202
  assert list(site.events(found['name']))[-1]['kind'] == 'done'


def test_what_is_no_request_is_one_line(site):
  assert site.post('/pieces', b'{')[0] == 422
  assert site.post('/pieces', b'[' * 60_000)[0] == 422
  status, found = site.post('/pieces', b' ' * 70_000)
  assert status == 413 and '0.0625 MB at most' in found['error']
  with site.request('POST', '/pieces', '{}', Content_Type='text/plain') as got:
    assert got.status == 415, "another site's form"
  with site.request('GET', '/', Host='evil.example') as got:
    assert got.status == 400
  assert site.get('/pieces/nothing/events')[0] == 404
  assert site.get('/static/../app.py')[0] == 404


def test_a_sound_of_a_gigabyte_is_refused_before_it_is_read(site):
  connection = http.client.HTTPConnection('127.0.0.1', site.port, timeout=30)
  connection.putrequest('POST', '/sounds')
  connection.putheader('Content-Length', str(1 << 30))
  connection.endheaders()
  answer = connection.getresponse()
  assert answer.status == 413
  line = json.loads(answer.read())['error']
  assert line == 'a sound of 1,024 MB: 32 MB at most'
  with site.request('POST', '/sounds', b'no sound') as got:
    assert got.status == 422
    assert json.loads(got.read())['error'].startswith('the file')


def test_fifty_requests_fill_the_queue_and_no_more(site):
  answers = [site.ask() for _ in range(50)]
  taken = [found['name'] for status, found in answers if status == 202]
  refused = [found['error'] for status, found in answers if status == 503]
  assert QUEUE <= len(taken) < 50 and len(taken) + len(refused) == 50
  assert refused[0].startswith(f'{QUEUE} pieces wait already')
  last = list(site.events(taken[-1]))
  assert last[0]['kind'] == 'queued' and last[-1]['kind'] == 'done'
  assert site.ask()[0] == 202


def test_a_killed_player_loses_one_piece(site):
  _, found = site.ask(seconds=60)
  _, after = site.ask()
  events = site.events(found['name'])
  assert any(event['kind'] == 'chunk' for event in events)
  subprocess.run(['kill', '-9', str(site.player())], check=True)
  last = list(events)[-1]
  assert last['kind'] == 'failed' and 'ask for it again' in last['line']
  assert list(site.events(after['name']))[-1]['kind'] == 'done'


def test_the_prompt_changes_while_it_plays(site, tmp_path):
  _, found = site.ask(seconds=60)
  path = f'/pieces/{found["name"]}'
  events = site.events(found['name'])
  assert any(event['kind'] == 'chunk' for event in events)
  other = {'styles': [{'text': 'fast techno'}], 'seconds': 60}
  assert site.post(f'{path}/change', other)[0] == 202
  assert any(event['kind'] == 'changed' for event in events)
  with site.request('DELETE', path) as answer:
    assert answer.status == 200
  assert list(events)[-1]['kind'] == 'stopped'
  assert site.post(f'{path}/change', other)[0] == 422
  assert site.get(f'{path}/piece.wav')[0] == 404
