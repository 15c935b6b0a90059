"""Every way to ask for music: mix, story, continuation, takes, again."""

import functools
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from musiclm_jax import MusicLM, UsageError
from musiclm_jax.cascade import provenance, repetition, request
from musiclm_jax.cascade.prompts import Mixture, SoundPrompt, Story

LENGTH = 1.23  # as in test_musiclm, so that programs are compiled once
OPTIONS = {'seconds': LENGTH, 'seed': 7}


@pytest.fixture(scope='module')
def model(bundle):
  assert bundle[1].returncode == 0, bundle[1].stderr
  return MusicLM.load(bundle[0], lambda line: None)


@pytest.fixture(scope='module')
def plain(model):
  return model.generate('slow piano', **OPTIONS)


def tone(seconds, pitch=0.1):
  n = np.arange(round(seconds * 24000))
  return (0.3 * np.sin(n * pitch)).astype(np.float32)


def test_a_mix_of_one_is_it_and_weights_are_shares(model, plain):
  one, two = (
    model.generate(Mixture([('slow piano', weight)]), **OPTIONS)
    for weight in (1.0, 3.0)
  )
  np.testing.assert_array_equal(one.tokens['mulan'], two.tokens['mulan'])
  np.testing.assert_array_equal(one.waveform, two.waveform)
  np.testing.assert_array_equal(one.tokens['mulan'], plain.tokens['mulan'])
  facts = one.metadata['prompts']
  assert facts == [{'mix': [['slow piano', 1.0]]}]


def test_a_sound_is_a_prompt_of_all_its_levels(model):
  sound = tone(1.5)
  music = model.generate(SoundPrompt(sound), **OPTIONS)
  np.testing.assert_array_equal(
    music.tokens['mulan'], model.tokenize(sound)['mulan']
  )
  assert music.metadata['sound_levels'] == 12
  fewer = request.read(
    SoundPrompt(sound),
    recording=None,
    sampling=None,
    proposed=model.sampling,
    changes={'mulan_levels': 2},
    all_levels=12,
    **OPTIONS,
  )
  assert fewer.metadata()['sound_levels'] == 2, 'as was asked for'


def test_a_story_says_what_it_tells_and_is_as_long_as_asked(model):
  story = Story([(0.0, 'slow piano'), (0.64, SoundPrompt(tone(1.5)))])
  music = model.generate(story, **OPTIONS)
  assert music.waveform.shape == (round(LENGTH * 24000),)
  begins, then = music.metadata['prompts'][0]['story']
  assert begins == [0.0, 'slow piano'] and then[0] == 0.64


def test_a_recording_goes_on_and_stays_as_it_is(model):
  recording = tone(0.7)
  music = model.generate('slow piano', continue_from=recording, **OPTIONS)
  assert music.waveform.shape == (round(LENGTH * 24000),)
  np.testing.assert_array_equal(music.waveform[: len(recording)], recording)
  given = model.tokenize(recording)
  for stream in ('semantic', 'acoustic'):
    codes = music.tokens[stream]
    np.testing.assert_array_equal(codes[: len(given[stream])], given[stream])
    assert len(codes) > len(given[stream])
  jump = abs(music.waveform[len(recording)] - recording[-1])
  steps = np.abs(np.diff(music.waveform))
  assert jump <= np.delete(steps, len(recording) - 1).max() + 1e-6
  style = model.generate(continue_from=recording, **OPTIONS)
  np.testing.assert_array_equal(style.tokens['mulan'], given['mulan'])
  other = model.generate('slow piano', continue_from=tone(0.7, 0.3), **OPTIONS)
  assert (other.tokens['acoustic'][36:] != music.tokens['acoustic'][36:]).any()


def test_the_best_take_is_what_its_seed_makes(model, tmp_path):
  texts = ['slow piano', 'fast techno']
  options = {'best_of': 2, 'seconds': LENGTH, 'seed': np.int64(7)}
  music = model.generate(texts, out=tmp_path / 'x.flac', **options)
  assert music.waveform.shape[0] == 2
  seeds, scores = music.metadata['seeds'], music.metadata['text_scores']
  for row, text in enumerate(texts):
    takes = [
      model.generate(text, seconds=LENGTH, seed=seed, first_row=row)
      for seed in (7, 8)
    ]
    heard = model.embed_audio(np.stack([take.waveform for take in takes]))
    heard = model.tokenizer.centre(heard, 'audio')
    asked = model.tokenizer.centre(model.embed_text([text]), 'text')[0]
    best = int(np.argmax(heard @ asked))
    assert seeds[row] == 7 + best
    assert scores[row] == pytest.approx(max(heard @ asked), abs=1e-4)
    np.testing.assert_array_equal(
      music.tokens['acoustic'][row], takes[best].tokens['acoustic']
    )
    about = provenance.read_provenance(tmp_path / f'x_{row}.flac')
    assert (about['seed'], about['row']) == (seeds[row], row)
    assert about['best_of'] == 2 and about['prompt'] == text


def test_a_negative_prompt_changes_what_guidance_pushes_away_from(model):
  options = OPTIONS | {'guidance': 8.0}
  guided, one = (
    model.generate('slow piano', negative=text, **options)
    for text in (None, 'fast techno')
  )
  assert (guided.tokens['semantic'] != one.tokens['semantic']).any()
  assert one.metadata['negative'] == 'fast techno'
  nothing = model.generate('slow piano', negative='slow piano', **options)
  unguided = model.generate('slow piano', **OPTIONS)
  np.testing.assert_array_equal(
    nothing.tokens['acoustic'], unguided.tokens['acoustic']
  )


def test_a_file_is_made_again_from_what_it_says(model, tmp_path, run_command):
  hum, made = tmp_path / 'hum.wav', tmp_path / 'x.flac'
  soundfile.write(hum, tone(0.5), 24000)
  asked = Mixture([('slow piano', 0.7), (SoundPrompt(hum), 0.3)])
  options = {'guidance': 8.0, 'negative': 'drums', 'first_row': 1, **OPTIONS}
  model.generate(asked, out=made, **options)
  again, bundle = tmp_path / 'again.wav', f'--bundle={model.bundle.path}'
  done = run_command(
    'regenerate', str(made), bundle, f'--sound={hum}', f'--out={again}'
  )
  assert done.returncode == 0, done.stderr
  assert 'the same samples' in done.stderr.splitlines()[-1]
  np.testing.assert_array_equal(
    soundfile.read(again)[0], soundfile.read(made)[0]
  )
  about = provenance.read_provenance(made)
  told = json.loads((tmp_path / 'again.json').read_text())
  assert {**told, 'musiclm_jax_seal': 0} == {**about, 'musiclm_jax_seal': 0}
  with pytest.raises(UsageError, match=r"'hum\.wav', which is not given"):
    repetition.arguments(about, model.bundle.sha256)
  with pytest.raises(UsageError, match='was made by the bundle'):
    repetition.arguments(about, 'another', [hum])


def test_what_generate_has_not_written_is_not_made_again(model, call, tmp_path):
  bundle, out = f'--bundle={model.bundle.path}', f'--out={tmp_path}/again.wav'
  soundfile.write(tmp_path / 'foreign.wav', tone(0.5), 24000)
  facts = {'bundle_sha256': model.bundle.sha256}
  provenance.write_sound(tmp_path / 'less.wav', tone(0.5), 24000, facts)
  for name, words in (
    ('nowhere.wav', 'nowhere.wav'),
    ('foreign.wav', 'carries no provenance'),
    ('less.wav', 'does not say how it was made'),
  ):
    code, _, errors = call(
      'regenerate', f'--file={tmp_path / name}', bundle, out
    )
    assert code == 2 and words in errors.strip().splitlines()[-1]
  code, _, errors = call('regenerate', bundle, out)
  assert code == 2 and '--file is missing' in errors
  assert not (tmp_path / 'again.wav').exists()


@pytest.mark.parametrize(
  ('arguments', 'prompt', 'given'),
  [
    (['--text=a'], 'a', {}),
    (['--text=a', '--text=b'], ['a', 'b'], {}),
    (['--prompts={tmp}/texts'], ['piano', 'techno'], {}),
    (
      ['--mix=in 4:4:2', '--mix_audio={tmp}/hum.wav:0.5'],
      {'mix': [['in 4:4', 2.0], ['hum.wav', 0.5]]},
      {},
    ),
    (['--style={tmp}/hum.wav'], 'hum.wav', {}),
    (
      ['--story={tmp}/story.yaml'],
      {'story': [[0.0, 'piano'], [2, 'rock']]},
      {},
    ),
    (['--continue={tmp}/hum.wav'], None, {'continue_from': 'hum.wav'}),
    (
      ['--text=a', '--continue={tmp}/hum.wav', '--negative=b', '--best_of=3'],
      'a',
      {'continue_from': 'hum.wav', 'negative': 'b', 'best_of': 3},
    ),
  ],
)
def test_flags_ask_for_what_the_api_takes(
  arguments, prompt, given, bundle, call, tmp_path, monkeypatch
):
  (tmp_path / 'texts').write_text('piano\n\ntechno\n')
  (tmp_path / 'story.yaml').write_text(
    '- {start: 0, text: piano}\n- {start: 2, text: rock}\n'
  )
  soundfile.write(tmp_path / 'hum.wav', tone(0.5), 24000)
  asked = []
  monkeypatch.setattr(
    MusicLM,
    'generate',
    lambda self, text, **options: asked.append((text, options)),
  )
  out = '--out={tmp}/x.flac'
  code, _, errors = call('generate', f'--bundle={bundle[0]}', out, *arguments)
  assert code == 0, errors
  ((text, options),) = asked
  assert told(text) == prompt
  for name in ('continue_from', 'negative', 'best_of'):
    plain = {'best_of': 1}.get(name)
    assert told(options[name]) == given.get(name, plain)


def told(prompt):
  """A prompt as JSON, a sound as the name of its file alone."""
  match prompt:
    case Path():
      return prompt.name
    case SoundPrompt(audio):
      return Path(audio).name
    case Mixture(parts=rows):
      return {'mix': [[told(part), weight] for part, weight in rows]}
    case Story(sections=rows):
      return {'story': [[start, told(part)] for start, part in rows]}
  return prompt


@pytest.mark.parametrize(
  ('call', 'words'),
  [
    (lambda make: make('a', continue_from=tone(2)), 'alone has 2.00 s'),
    (lambda make: make('a', continue_from=0 * tone(1)), 'is silent'),
    (lambda make: make('a', continue_from=tone(0.01)), 'at least 0.04'),
    (lambda make: make('a', best_of=0), '--best_of=0'),
    (lambda make: make('a', first_row=-1), 'first_row=-1'),
    (lambda make: make('a', first_row='2'), "first_row='2': .* whole"),
    (lambda make: make('a', best_of=2.5), 'best_of=2.5: .* whole'),
    (lambda make: make('a', negative='b'), 'guidance, which is off'),
    (lambda make: make('a', negative=' ', guidance=3), 'negative is empty'),
    (lambda make: make(SoundPrompt(0 * tone(1))), 'the sound is silent'),
    (lambda make: make(Story([(0, 'a'), (3, 'b')])), 'a start at 3 s'),
    (lambda make: make(['a', Story([(0, 'a'), (1, 'b')])]), 'same starts'),
  ],
)
def test_bad_input_is_refused_in_a_line(model, call, words):
  with pytest.raises(UsageError, match=words) as caught:
    call(functools.partial(model.generate, seconds=LENGTH))
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
  ('arguments', 'words'),
  [
    (['--text=a', '--style=b.wav'], '--style and --text: give one of them'),
    (['--mix=jazz'], 'a colon and a weight'),
    (['--style=nowhere.wav'], "no file 'nowhere.wav'"),
    (['--story=nowhere.yaml'], 'cannot be read'),
    (['--prompts=nowhere.txt'], 'cannot be read'),
    (['--continue=nowhere.wav'], "no file 'nowhere.wav'"),
  ],
)
def test_bad_calls_are_refused_in_a_line(
  arguments, words, bundle, call, tmp_path
):
  out = '--out={tmp}/x.wav'
  code, _, errors = call('generate', f'--bundle={bundle[0]}', out, *arguments)
  assert code == 2 and words in errors.strip().splitlines()[-1]
  assert list(tmp_path.iterdir()) == []
