"""The Python API: each method, what is refused, the script of the README."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import soundfile

from musiclm_jax import MusicLM, SamplingConfig, UsageError
from musiclm_jax.cascade import networks, provenance
from musiclm_jax.contracts.kept_parts import KeptParts

ROOT = Path(__file__).parents[2]
TEXTS = ['slow piano', 'fast techno']
LENGTH = 1.23  # as in test_pinned, so that programs are compiled once


@pytest.fixture(scope='module')
def model(bundle):
  assert bundle[1].returncode == 0, bundle[1].stderr
  return MusicLM.load(bundle[0])


@pytest.fixture(scope='module')
def pair(model):
  """Two pieces, and the events of making them."""
  events = []
  music = model.generate(TEXTS, seconds=LENGTH, seed=7, progress=events.append)
  return music, events


def tone(seconds, pitch=0.1):
  n = np.arange(round(seconds * 24000))
  return (0.3 * np.sin(n * pitch)).astype(np.float32)


def test_importing_the_package_loads_no_jax(run_python):
  code = (
    'import sys, time; begun = time.monotonic(); import musiclm_jax; '
    'print(time.monotonic() - begun, sorted(sys.modules)); '
    'assert "MusicLM" in dir(musiclm_jax)'
  )
  printed = run_python(code)
  seconds, _, modules = printed.partition(' ')
  assert float(seconds) < 0.2
  assert "'musiclm_jax'" in modules
  assert not re.search("'(jax|numpy|flax|absl)'", modules)


def test_the_package_says_what_it_does_not_have():
  import musiclm_jax

  with pytest.raises(AttributeError, match="no attribute 'MusicML'"):
    _ = musiclm_jax.MusicML


def test_a_list_of_texts_is_a_batch_of_pieces(pair, model):
  music, events = pair
  assert music.waveform.shape == (2, round(LENGTH * 24000))
  assert music.waveform.dtype == np.float32 and music.sample_rate == 24000
  assert np.abs(music.waveform).max() <= 1
  shapes = {stream: codes.shape for stream, codes in music.tokens.items()}
  assert shapes == {
    'mulan': (2, 12),
    'semantic': (2, 31),
    'acoustic': (2, 62, 4),
  }
  assert music.metadata['prompts'] == TEXTS
  assert music.metadata['bundle_sha256'] == model.bundle.sha256
  stages = list(dict.fromkeys(event.stage for event in events))
  assert stages == ['semantic', 'coarse', 'fine', 'decoding']
  assert all(0 <= event.done <= event.total for event in events)


def test_a_text_is_a_piece_and_sounds_as_the_command_makes_it(
  model, pair, run_command, tmp_path
):
  """The same as the pinned one of test_pinned."""
  music = model.generate('slow piano', seconds=LENGTH, seed=7)
  assert music.waveform.shape == (round(LENGTH * 24000),)
  for stream, codes in music.tokens.items():
    np.testing.assert_array_equal(codes, pair[0].tokens[stream][0])
  done = run_command(
    'generate',
    f'--bundle={model.bundle.path}',
    '--text=slow piano',
    f'--seconds={LENGTH}',
    '--seed=7',
    f'--out={tmp_path}/command.wav',
  )
  assert done.returncode == 0, done.stderr
  assert music.save(tmp_path / 'api.wav') == [tmp_path / 'api.wav']
  api, command = (
    soundfile.read(tmp_path / f'{name}.wav')[0] for name in ('api', 'command')
  )
  np.testing.assert_array_equal(api, command)
  about = [
    json.loads((tmp_path / f'{name}.json').read_text())
    for name in ('api', 'command')
  ]
  assert about[0] == about[1], 'nor do their files differ in anything'


def test_words_of_no_caption_are_told_with_what_they_are_taken_for(model):
  found = model.unknown_words('a slow Whistle, harps and 🎹')
  assert list(found) == ['whistle', '🎹'] and found['🎹'] == ()
  assert len(found['whistle']) == 2
  assert model.unknown_words('the fast piano') == {}
  with pytest.raises(UsageError, match='--text is empty'):
    model.unknown_words(' ')


def test_sampling_may_be_changed_by_field_or_as_a_whole(model):
  options = {'seconds': LENGTH, 'seed': 7}
  fields = {'temperature_semantic': 0.5, 'top_k_coarse': 3, 'top_p_fine': 0.5}
  one = model.generate('slow piano', **options, **fields)
  whole = SamplingConfig(**fields, mulan_levels=model.sampling.mulan_levels)
  two = model.generate('slow piano', **options, sampling=whole)
  np.testing.assert_array_equal(one.waveform, two.waveform)
  three = model.generate('slow piano', **options, sampling=fields)
  assert three.metadata == one.metadata
  assert one.metadata['settings']['top_k_coarse'] == 3


def test_files_are_written_as_they_are_made(model, tmp_path):
  lines = []
  told = MusicLM.load(model.bundle.path, lines.append)
  music = told.generate(
    TEXTS, seconds=LENGTH, seed=np.int64(7), out=tmp_path / 'x.wav'
  )
  names = {path.name for path in tmp_path.iterdir()}
  assert names == {'x_0.wav', 'x_0.json', 'x_1.wav', 'x_1.json'}
  about = provenance.read_provenance(tmp_path / 'x_1.wav')
  assert (about['prompt'], about['row']) == (TEXTS[1], 1)
  assert f'wrote {tmp_path}/x_1.wav' in lines
  (tmp_path / 'x_0.wav').write_bytes(b'mine')
  with pytest.raises(UsageError, match=r'x_0\.wav'):
    music.save(tmp_path / 'x.wav')
  assert len(music.save(tmp_path / 'x.wav', overwrite=True)) == 2


def test_an_interrupted_call_goes_on(model, pair, tmp_path, monkeypatch):
  from musiclm_jax.cascade import musiclm

  def full(*_):
    raise OSError(28, 'No space left on device')

  options = {'seconds': LENGTH, 'seed': 7, 'out': tmp_path / 'x.wav'}
  with monkeypatch.context() as patch:
    patch.setattr(musiclm.provenance, 'write_sound', full)
    with pytest.raises(OSError, match='No space'):
      model.generate(TEXTS, **options)
  (kept,) = tmp_path.iterdir()
  events = []
  music = model.generate(TEXTS, progress=events.append, **options)
  np.testing.assert_array_equal(music.waveform, pair[0].waveform)
  assert not kept.exists() and (tmp_path / 'x_1.wav').exists()


def test_finished_parts_are_kept_where_the_caller_says(model, pair, tmp_path):
  options = {'seconds': LENGTH, 'seed': 7}
  with KeptParts(tmp_path / 'kept', 'a key') as kept:
    model.generate(TEXTS, keep=kept, **options)

    def keep(part, make):
      assert part in kept, 'made again'
      return kept(part, make)

    music = model.generate(TEXTS, keep=keep, **options)
  np.testing.assert_array_equal(music.waveform, pair[0].waveform)


def test_what_is_not_heard_is_a_warning_where_nobody_takes_reports(model):
  with pytest.warns(UserWarning, match='шарманка'):
    model.generate('piano шарманка', seconds=LENGTH)
  lines = []
  model.generate('piano', seconds=LENGTH, mulan_levels=0, report=lines.append)
  assert len(lines) == 1 and 'the text changes nothing' in lines[0]


def test_a_path_may_begin_at_home(model, tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path))
  (tmp_path / 'bundle').symlink_to(model.bundle.path)
  soundfile.write(tmp_path / 'a.wav', tone(1.0), 24000, 'FLOAT')
  opened = MusicLM.load('~/bundle')
  assert opened.bundle.sha256 == model.bundle.sha256
  found = model.tokenize('~/a.wav')['semantic']
  np.testing.assert_array_equal(found, model.tokenize(tone(1.0))['semantic'])
  model.generate('slow piano', seconds=LENGTH, seed=7, out='~/x.wav')
  assert (tmp_path / 'x.wav').exists()


def test_music_becomes_tokens(model, tmp_path):
  waveform = tone(2.0)
  tokens = model.tokenize(waveform)
  shapes = {stream: codes.shape for stream, codes in tokens.items()}
  assert shapes == {'mulan': (12,), 'semantic': (50,), 'acoustic': (100, 4)}
  both = model.tokenize(jnp.stack([waveform, tone(2.0, 0.2)]))
  assert both['acoustic'].shape == (2, 100, 4)
  np.testing.assert_array_equal(both['semantic'][0], tokens['semantic'])
  soundfile.write(tmp_path / 'a.wav', waveform[:-100], 24000, 'FLOAT')
  read = model.tokenize(tmp_path / 'a.wav')
  assert read['semantic'].shape == (49,), 'whole frames alone'


def test_texts_and_music_share_a_space(model, tmp_path):
  texts = model.embed_text(TEXTS)
  assert texts.shape == (2, 128)
  np.testing.assert_allclose(model.embed_text(TEXTS[0]), texts[0], atol=1e-5)
  audio = model.embed_audio(np.stack([tone(2.0), tone(2.0, 0.2)]))
  assert audio.shape == (2, 128)
  np.testing.assert_allclose(np.linalg.norm(audio, axis=1), 1, atol=1e-5)
  soundfile.write(tmp_path / 'a.wav', tone(2.0), 24000, 'FLOAT')
  one = model.embed_audio(str(tmp_path / 'a.wav'))
  np.testing.assert_allclose(one, audio[0], atol=1e-5)


def test_songs_are_found_by_a_sentence(model, music_folder, tmp_path):
  songs = shutil.copytree(music_folder, tmp_path / 'songs')
  events = []
  found = model.search(songs, 'slow piano', top=3, progress=events.append)
  assert len(found) == 3 and {name for name, _ in found} < set(
    os.listdir(songs)
  )
  cosines = [cosine for _, cosine in found]
  assert cosines == sorted(cosines, reverse=True)
  assert events[-1].done == events[-1].total
  assert model.search(str(songs), 'slow piano', top=3) == found


def test_a_network_is_loaded_when_it_is_needed(bundle, monkeypatch):
  built, build = [], networks.build
  monkeypatch.setattr(
    networks,
    'build',
    lambda weights, mesh: (
      built.append(weights.config['stage']) or build(weights)
    ),
  )
  model = MusicLM.load(bundle[0])
  assert built == []
  model.embed_text('slow piano')
  assert built == ['mulan']
  model.tokenize(tone(2.0))
  assert len(built) == 5 and 'semantic' not in built


@pytest.mark.parametrize(
  ('call', 'words'),
  [
    (lambda m: m.generate(''), '--text is empty'),
    (lambda m: m.generate(None), '--text is empty'),
    (lambda m: m.generate([]), r'list of texts, got \[\]'),
    (lambda m: m.generate([TEXTS[0], 3]), '--text=3 is no text'),
    (lambda m: m.generate('a', seconds=0), '--seconds=0'),
    (lambda m: m.generate('a', seconds='2'), '--seconds=2'),
    (lambda m: m.generate('a', seed=-1), '--seed=-1'),
    (lambda m: m.generate('a', seed=0.5), '--seed=0.5: choose a whole'),
    (lambda m: m.generate('a', top_k_fine=0), '--top_k_fine=0'),
    (lambda m: m.generate('a', top_k_fine=2.5), 'top_k_fine=2.5: .* whole'),
    (lambda m: m.generate('a', top_p_fine=1.5), '--top_p_fine=1.5'),
    (lambda m: m.generate('a', temperature_fine=None), 'temperature_fine=None'),
    (lambda m: m.generate('a', temperature_fine='x'), "temperature_fine='x'"),
    (lambda m: m.generate('a', mulan_levels=13), 'mulan_levels=13: .* 0 to 12'),
    (lambda m: m.generate('a', warmth=1), "sampling has no 'warmth'"),
    (lambda m: m.generate('a', melody=tone(2)), 'has no melody networks'),
    (lambda m: m.generate('a', out='x.mp3'), r'must end in \.wav'),
    (lambda m: m.tokenize(tone(0.03)), '0.04 s of sound or more, got 720'),
    (lambda m: m.tokenize(np.zeros((1, 1, 9))), r'shape \(1, 1, 9\)'),
    (lambda m: m.tokenize(np.zeros((2, 0))), r'shape \(2, 0\)'),
    (lambda m: m.tokenize(np.zeros(9, np.int16)), 'float samples .* int16'),
    (lambda m: m.tokenize([tone(1), tone(2)]), 'rows of unequal length'),
    (lambda m: m.embed_audio(['a.wav', 'b.wav']), 'path of a sound file'),
    (lambda m: m.embed_audio(np.zeros((9, 2))), 'average the channels'),
    (lambda m: m.tokenize(np.full(9, np.nan)), 'not finite'),
    (lambda m: m.tokenize(np.full(9, 32767.0)), r'in \[-1, 1\], got 32767'),
    (lambda m: m.tokenize('nowhere.wav'), "no file 'nowhere.wav'"),
    (lambda m: m.embed_audio('.'), 'is a folder'),
    (lambda m: m.embed_text([]), 'list of texts'),
    (lambda m: m.search('nowhere', 'piano'), 'nowhere'),
    (lambda m: m.search('.', 'piano', top=0), '--top=0'),
    (lambda m: m.search('.', 'piano', top=0.5), 'a whole number'),
    (lambda m: m.search('.', ' '), '--text is empty'),
    (lambda m: MusicLM.load('nowhere'), "'nowhere' is no bundle"),
  ],
)
def test_bad_input_is_refused_in_a_line(model, call, words, tmp_path):
  before = os.getcwd()
  os.chdir(tmp_path)
  try:
    with pytest.raises(UsageError, match=words) as caught:
      call(model)
  finally:
    os.chdir(before)
  assert '\n' not in str(caught.value)
  assert list(tmp_path.iterdir()) == []


def test_the_script_of_the_readme_plays(tmp_path):
  readme = (ROOT / 'README.md').read_text()
  script, _ = re.findall(r'```python\n(.*?)```', readme, re.DOTALL)
  lines = [line for line in script.splitlines() if line.strip()]
  assert len(lines) <= 10
  length = 'seconds=10'
  assert 'MusicLM.load()' in script and length in script
  script = script.replace(length, f'seconds={LENGTH}')
  done = subprocess.run(
    [sys.executable, '-c', script],
    cwd=tmp_path,
    env=os.environ | {'PYTHONPATH': str(ROOT)},
    capture_output=True,
    text=True,
    timeout=600,
  )
  assert done.returncode == 0, done.stderr
  sounds = sorted(tmp_path.glob('*.wav'))
  assert [soundfile.info(s).frames for s in sounds] == [
    round(LENGTH * 24000)
  ] * 2
  assert 'fine' in done.stderr and '100%' in done.stderr


def test_the_readmes_stream_is_heard_and_changed(model, tmp_path):
  readme = (ROOT / 'README.md').read_text()
  _, script = re.findall(r'```python\n(.*?)```', readme, re.DOTALL)
  heard, bored = [], iter([True, False, False])
  for words, others in (
    ('seconds=60', 'seconds=2.5'),
    ("'heard.wav'", repr(str(tmp_path / 'heard.wav'))),
    ('MusicLM.load()', 'model'),
  ):
    assert words in script
    script = script.replace(words, others)
  exec(
    script,
    {'model': model, 'play': heard.append, 'bored': lambda: next(bored)},
  )
  assert sum(map(len, heard)) == 60000
  assert soundfile.info(tmp_path / 'heard.wav').frames == 60000
