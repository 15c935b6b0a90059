"""The finetune command: songs in, a bundle and what has changed out."""

import itertools
import shutil

import numpy as np
import pytest
import soundfile

from musiclm_jax import cli
from musiclm_jax.cascade import bundle as bundles
from musiclm_jax.cascade.musiclm import MusicLM
from musiclm_jax.contracts import ownership
from musiclm_jax.finetuning import measures, run

RATE = 24_000
QUICK = ('--steps=2', '--clips=2', '--seconds=1')
ONE_STAGE = (*QUICK, '--stages=semantic', '--learning_rate_scale=1')


@pytest.fixture(scope='module')
def songs(tmp_path_factory):
  """Four songs of 6 s."""
  folder = tmp_path_factory.mktemp('songs')
  for k in range(4):
    n = np.arange(6 * RATE)
    tone = 0.3 * np.sin(n * (0.02 + 0.01 * k)) * np.sin(n / 9000) ** 2
    soundfile.write(folder / f'{k}.wav', tone, RATE)
  return folder


@pytest.fixture
def finetune(call, bundle, songs):
  """A function (out, *flags) -> exit code, output, errors."""
  assert bundle[1].returncode == 0

  def run(out, *more):
    given = {'bundle': bundle[0], 'songs': songs, 'out': out}
    flags = [f'--{name}={value}' for name, value in given.items()]
    named = [flag.partition('=')[0] for flag in more]
    flags = [f for f in flags if f.partition('=')[0] not in named]
    return call('finetune', *flags, *more)

  return run


@pytest.fixture(scope='module')
def fine_tuning(tmp_path_factory, run_command, bundle, songs):
  """One stage, by the command; (folder, finished process)."""
  assert bundle[1].returncode == 0
  out = tmp_path_factory.mktemp('tuned') / 'out'
  given = {'bundle': bundle[0], 'songs': songs, 'out': out}
  flags = [f'--{name}={value}' for name, value in given.items()]
  return out, run_command('finetune', *flags, *ONE_STAGE)


@pytest.fixture
def tuned(fine_tuning, tmp_path):
  """A copy of that folder."""
  shutil.copytree(fine_tuning[0], tmp_path / 'tuned')
  return tmp_path / 'tuned'


def hashes(folder):
  return {
    path.relative_to(folder): path.read_bytes()
    for path in folder.rglob('*')
    if path.is_file()
  }


def assert_refused(outcome, words):
  code, out, err = outcome
  assert (code, out) == (cli.USAGE, ''), outcome
  assert err.splitlines()[-1].startswith('error: ')
  assert words in err.splitlines()[-1], err


def test_songs_make_a_bundle_and_a_report(bundle, fine_tuning):
  tuned, done = fine_tuning
  assert done.returncode == 0, done.stderr
  old, new = bundles.read(bundle[0]), bundles.read(tuned / 'bundle')
  assert new.contract == old.contract and new.settings == old.settings
  for name in (bundles.VOCABULARY, bundles.CAPTION_WORDS):
    assert (new.path / name).read_bytes() == (old.path / name).read_bytes()
  changed = {
    stage
    for stage in old.stages
    if new.weights(stage).sha256() != old.weights(stage).sha256()
  }
  assert changed == {'semantic'}
  assert (
    new.weights('semantic').config['model']
    == old.weights('semantic').config['model']
  )
  record = ownership.object_in(tuned / 'report.json')
  assert ownership.is_sealed(record)
  assert record['differences']['nll_semantic']['difference'] < 0
  assert record['compare']['nll_semantic'] < record['nll_semantic']
  facts = record['details']['nll_semantic']
  assert facts['n'] == {'songs': 2} and len(facts['interval']) == 2
  assert record['differences']['kad_tagger']['interval']
  songs = record['conditions']['songs']
  assert len(songs['train']) == 2, 'of four, two are held out'
  assert set(facts['per_song']) == {*songs['validation'], *songs['test']}
  said = record['conditions']['language models']['semantic']
  assert said.startswith('2 steps (as many as were asked for); step ')
  page = (tuned / 'report.html').read_text()
  assert 'Held-out loss, semantic' in page and page.count('<audio') == 6
  assert 'kad_tagger' in done.stdout
  assert 'training the semantic stage, 2 steps at most' in done.stderr
  assert '5/5, music after, fine: ' in done.stderr


def test_the_same_command_again_does_what_is_missing(finetune, tuned):
  before = hashes(tuned)
  code, out, err = finetune(tuned, *ONE_STAGE)
  assert (code, out) == (0, '') and 'are whole' in err
  assert hashes(tuned) == before
  shutil.rmtree(tuned / 'bundle')
  (tuned / 'report.html').unlink()
  code, _, err = finetune(tuned, *ONE_STAGE)
  assert code == 0 and 'training the' not in err, 'which is done'
  assert hashes(tuned) == before


def test_another_fine_tuning_is_not_continued(finetune, songs, tuned, tmp_path):
  before = hashes(tuned / 'bundle'), hashes(tuned / 'workdirs')
  assert_refused(
    finetune(tuned, '--steps=3', '--learning_rate_scale=1'),
    'was begun with steps 2, now it is 3: give another --out, or --overwrite',
  )
  shutil.copytree(songs, tmp_path / 'songs')
  soundfile.write(tmp_path / 'songs' / '1.wav', np.ones(6 * RATE) * 0.1, RATE)
  outcome = finetune(tuned, *ONE_STAGE, f'--songs={tmp_path}/songs')
  assert_refused(outcome, 'is other music of the same names')
  assert (hashes(tuned / 'bundle'), hashes(tuned / 'workdirs')) == before


def test_overwrite_begins_again(bundle, songs, tuned):
  asked = run.FineTuning(bundle[0], songs, tuned, steps=3, overwrite=True)
  run.check(asked)
  record = run._begin(asked, MusicLM.load(bundle[0]))
  assert record['asked']['steps'] == 3 and record['stages'] == {}
  for made in ('tokens', 'workdirs/semantic'):
    assert [path.name for path in (tuned / made).iterdir()] == [ownership.MARK]


def test_a_stage_that_only_loses_keeps_its_weights(
  finetune, bundle, tuned, monkeypatch
):
  """The stand-in calls the new weights worse, whichever stage is asked."""
  costs = itertools.count()
  monkeypatch.setattr(
    measures,
    'song_losses',
    lambda network, songs: {name: float(next(costs)) for name in songs},
  )
  (tuned / 'report.html').unlink()
  code, _, err = finetune(tuned, *ONE_STAGE)
  assert code == 0, err
  assert 'no step was better than the bundle, whose weights stay' in err
  old, new = bundles.read(bundle[0]), bundles.read(tuned / 'bundle')
  for stage in old.stages:
    assert new.weights(stage).sha256() == old.weights(stage).sha256()


@pytest.mark.soak
def test_all_language_models_learn(finetune, bundle, tmp_path):
  code, _, err = finetune(tmp_path / 'out', *QUICK, '--learning_rate_scale=1')
  assert code == 0, err
  old, new = bundles.read(bundle[0]), bundles.read(tmp_path / 'out' / 'bundle')
  record = ownership.object_in(tmp_path / 'out' / 'report.json')
  for stage in bundles.LANGUAGE_MODELS:
    assert new.weights(stage).sha256() != old.weights(stage).sha256()
    assert record['differences'][f'nll_{stage}']['difference'] < 0
  assert '7/7, music after, fine: ' in err


@pytest.mark.parametrize(
  ('flag', 'words'),
  [
    ('--songs=', 'is no path: name a file or a folder'),
    ('--songs={tmp}/nowhere', 'nowhere'),
    ('--songs={tmp}/two', 'cannot be divided into train, validation and test'),
    ('--songs={tmp}/short', 'use longer music'),
    ('--bundle={tmp}', 'is no bundle'),
    ('--bundle={tmp}/out/bundle', 'is what would be written'),
    ('--stages=coarse,mulan', '--stages=coarse,mulan: name one or more of'),
    ('--stages=fine,fine', 'each once'),
    ('--stages=', 'name one or more'),
    ('--steps=0', 'steps'),
    ('--minutes=nan', 'minutes'),
    ('--learning_rate_scale=0', 'learning_rate_scale'),
    ('--clips=1', 'clips'),
    ('--out={tmp}/taken', "holds 'mine.txt', which stays as it is"),
    ('--out={tmp}/taken/mine.txt', 'mine.txt'),
  ],
)
def test_what_cannot_be_done_is_refused_in_a_line(
  flag, words, finetune, songs, tmp_path
):
  (tmp_path / 'taken').mkdir()
  (tmp_path / 'taken' / 'mine.txt').write_text('mine')
  for name, count in (('two', 2), ('short', 3)):
    (tmp_path / name).mkdir()
    for k in range(count):
      tone = 0.1 * np.sin(np.arange(RATE) * (0.05 + 0.01 * k))
      soundfile.write(tmp_path / name / f'{k}.wav', tone, RATE)
  assert_refused(finetune('{tmp}/out', *QUICK, flag), words)
  assert (tmp_path / 'taken' / 'mine.txt').read_text() == 'mine'
  assert not (tmp_path / 'out' / 'bundle').exists()
