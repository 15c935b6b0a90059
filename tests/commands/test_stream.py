"""Music that is heard while it is made: the same samples, and changes."""

import io
import json
import sys

import numpy as np
import pytest

from musiclm_jax import MusicLM, UsageError
from musiclm_jax.cascade import provenance, repetition
from musiclm_jax.cascade.prompts import SoundPrompt, Story

OPTIONS = {'seconds': 2.23, 'seed': 7}


@pytest.fixture(scope='module')
def model(bundle):
  assert bundle[1].returncode == 0, bundle[1].stderr
  return MusicLM.load(bundle[0], lambda line: None)


def tone(seconds, pitch=0.1):
  n = np.arange(round(seconds * 24000))
  return (0.3 * np.sin(n * pitch)).astype(np.float32)


@pytest.mark.parametrize('joint', [None, 0.7, 1.0 - 1 / 24000, 1.0])
def test_a_stream_is_the_music_itself(model, joint):
  """With a recording, too, wherever it ends in a chunk."""
  more = {} if joint is None else {'continue_from': tone(joint)}
  whole = model.generate('slow piano', **OPTIONS, **more)
  stream = model.stream('slow piano', **OPTIONS, **more)
  assert stream.samples == len(whole.waveform)
  chunks = list(stream)
  assert len(chunks) == 3
  assert np.abs(whole.waveform).max() < 1, 'else all would be alike'
  np.testing.assert_array_equal(np.concatenate(chunks), whole.waveform)
  heard = stream.music()
  assert heard.metadata == whole.metadata
  np.testing.assert_array_equal(heard.waveform, whole.waveform)
  for name, codes in whole.tokens.items():
    np.testing.assert_array_equal(heard.tokens[name], codes)


def test_a_prompt_changes_while_it_plays(model, tmp_path):
  stream = model.stream('slow piano', **OPTIONS, guidance=4.0)
  chunks = [next(iter(stream))]
  assert len(stream.music().waveform) == 24000, 'as far as it was heard'
  second = stream.change(SoundPrompt(tone(1.0)), guidance_semantic=6.0)
  assert 1.0 <= second < 2.23
  chunks += stream
  assert sum(map(len, chunks)) == stream.samples
  (changed,) = stream.changes
  assert changed['second'] == second and 'sound' in changed['prompt']
  assert changed['settings']['guidance_semantic'] == 6.0
  (path,) = stream.music().save(tmp_path / 'x.wav')
  record = provenance.read_provenance(path)
  assert record['changes'] == json.loads(json.dumps(stream.changes))
  with pytest.raises(UsageError, match='changed while it was made'):
    repetition.arguments(record, model.bundle.sha256)


@pytest.mark.parametrize(
  'text, changes, says',
  [
    ('', {}, '--text is empty'),
    (['a', 'b'], {}, '2 prompts: a stream plays one'),
    (Story([(0.0, 'a'), (0.2, 'b')]), {}, 'a story cannot begin'),
    (None, {'top_p_fine': 1.5}, '--top_p_fine=1.5'),
    (None, {'loudness': 3}, 'loudness'),
  ],
)
def test_a_change_that_cannot_be_is_refused_and_it_plays_on(
  model, text, changes, says
):
  stream = model.stream('slow piano', seconds=0.5)
  with pytest.raises(UsageError, match=says):
    stream.change(text, **changes)
  assert sum(map(len, stream)) == 12000 and not stream.changes


def test_a_list_is_no_stream(model):
  with pytest.raises(UsageError, match='a stream plays one'):
    model.stream(['slow piano', 'fast piano'], seconds=0.5)


def test_the_command_writes_a_wav_while_it_is_made(
  call, bundle, model, tmp_path, monkeypatch
):
  out = io.TextIOWrapper(io.BytesIO())
  monkeypatch.setattr(sys, 'stdout', out)
  code, _, errors = call(
    'generate',
    f'--bundle={bundle[0]}',
    '--text=slow piano',
    '--seconds=2.23',
    '--seed=7',
    '--stream',
  )
  assert code == 0 and 'the first sound after' in errors
  data = out.buffer.getvalue()
  music = model.generate('slow piano', **OPTIONS)
  assert data[:44] == provenance.wav_header(len(music.waveform), 24000)
  assert data[44:] == provenance.to_pcm(music.waveform)
  # Of a header that others read: all sizes are those of a whole file.
  import soundfile

  waveform, rate = soundfile.read(io.BytesIO(data))
  assert rate == 24000 and waveform.shape == music.waveform.shape


@pytest.mark.parametrize(
  'more, says',
  [
    (['--text=a', '--out={tmp}/x.wav'], '--stream and --out: give one'),
    (['--text=a', '--text=b'], 'plays one prompt and one take'),
    (['--text=a', '--best_of=2'], 'plays one prompt and one take'),
    (['--text='], '--text is empty'),
  ],
)
def test_what_a_stream_cannot_do_is_one_line(call, more, says):
  code, printed, errors = call('generate', '--stream', *more)
  assert code == 2 and says in errors and not printed
  assert errors.count('\n') == 1
