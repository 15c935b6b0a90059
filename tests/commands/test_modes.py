"""Every way to ask for music: mix, story, continuation, takes, again."""

import functools
import json

import numpy as np
import pytest
import soundfile

from musiclm_jax import MusicLM, UsageError
from musiclm_jax.cascade import provenance
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
  fewer = model.generate(SoundPrompt(sound), mulan_levels=2, **OPTIONS)
  assert fewer.metadata['sound_levels'] == 2


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
  music = model.generate(texts, best_of=3, seconds=LENGTH, seed=np.int64(7))
  seeds, scores = music.metadata['seeds'], music.metadata['text_scores']
  assert set(seeds) <= {7, 8, 9} and music.waveform.shape[0] == 2
  takes = [model.generate(texts, seconds=LENGTH, seed=s) for s in (7, 8, 9)]
  for row, text in enumerate(texts):
    fits = []
    for take in takes:
      audio = model.embed_audio(take.waveform[row])[None]
      audio = model.tokenizer.centre(audio, 'audio')[0]
      asked = model.tokenizer.centre(model.embed_text([text]), 'text')[0]
      fits.append(float(audio @ asked))
    assert seeds[row] == 7 + int(np.argmax(fits))
    assert scores[row] == pytest.approx(max(fits), abs=1e-4)
    np.testing.assert_array_equal(
      music.tokens['acoustic'][row],
      takes[seeds[row] - 7].tokens['acoustic'][row],
    )
  music.save(tmp_path / 'x.wav')
  about = provenance.read_provenance(tmp_path / 'x_1.wav')
  assert about['seed'] == seeds[1] and about['best_of'] == 3


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


@pytest.mark.parametrize('name', ['x.wav', 'x.flac'])
def test_a_file_is_made_again_from_what_it_says(
  name, model, tmp_path, run_command
):
  hum = tmp_path / 'hum.wav'
  soundfile.write(hum, tone(0.5), 24000)
  asked = Mixture([('slow piano', 0.7), (SoundPrompt(hum), 0.3)])
  model.generate(
    [asked, 'fast techno'],
    out=tmp_path / name,
    guidance=2.0,
    negative='drums',
    **OPTIONS,
  )
  made = tmp_path / name.replace('.', '_0.')
  again = tmp_path / 'again.wav'
  call = ('regenerate', str(made), f'--out={again}')
  bundle = f'--bundle={model.bundle.path}'
  done = run_command(*call, bundle, f'--sound={hum}')
  assert done.returncode == 0, done.stderr
  np.testing.assert_allclose(
    soundfile.read(again)[0], soundfile.read(made)[0], atol=2e-4
  )
  about = json.loads((tmp_path / 'again.json').read_text())
  assert about['prompt'] == provenance.read_provenance(made)['prompt']
  refused = run_command(*call, bundle)
  assert refused.returncode == 2
  assert "'hum.wav', which is not given" in refused.stderr
  refused = run_command(*call)
  assert refused.returncode == 2 and 'was made by the bundle' in refused.stderr


def test_what_generate_has_not_written_is_not_made_again(
  model, run_command, tmp_path
):
  bundle, out = f'--bundle={model.bundle.path}', f'--out={tmp_path}/again.wav'
  soundfile.write(tmp_path / 'foreign.wav', tone(0.5), 24000)
  facts = {'bundle_sha256': model.bundle.sha256}
  provenance.write_sound(tmp_path / 'less.wav', tone(0.5), 24000, facts)
  for name, words in (
    ('nowhere.wav', 'nowhere.wav'),
    ('foreign.wav', 'carries no provenance'),
    ('less.wav', 'does not say how it was made'),
  ):
    done = run_command('regenerate', str(tmp_path / name), bundle, out)
    assert done.returncode == 2 and 'Traceback' not in done.stderr
    assert words in done.stderr.strip().splitlines()[-1]
  done = run_command('regenerate', bundle, out)
  assert done.returncode == 2 and '--file is missing' in done.stderr
  assert not (tmp_path / 'again.wav').exists()


def test_a_file_of_texts_is_a_list(model, run_command, tmp_path):
  (tmp_path / 'texts').write_text('slow piano\n\nfast techno\n')
  done = run_command(
    'generate',
    f'--bundle={model.bundle.path}',
    f'--prompts={tmp_path}/texts',
    f'--seconds={LENGTH}',
    f'--out={tmp_path}/x.flac',
  )
  assert done.returncode == 0, done.stderr
  assert soundfile.info(tmp_path / 'x_1.flac').format == 'FLAC'
  assert not (tmp_path / 'x_2.flac').exists()


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
  arguments, words, bundle, run_command, tmp_path
):
  done = run_command(
    'generate', f'--bundle={bundle[0]}', f'--out={tmp_path}/x.wav', *arguments
  )
  assert done.returncode == 2 and 'Traceback' not in done.stderr
  assert words in done.stderr.strip().splitlines()[-1]
  assert list(tmp_path.iterdir()) == []
