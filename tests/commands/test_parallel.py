"""Music with a parallel LM: trained, played, made again, refused."""

import json

import numpy as np
import pytest

from musiclm_jax import MusicLM, UsageError

OPTIONS = {'seconds': 1.23, 'seed': 7}


@pytest.fixture(scope='module')
def parallel(tmp_path_factory, tokens, write_stage):
  """The workdir of a parallel LM of the bundle's tokens."""
  folder = tmp_path_factory.mktemp('parallel') / 'parallel'
  contract = (tokens[0] / 'contract.json').read_text()
  write_stage(folder, 'parallel', contract)
  return folder


def test_it_trains_on_the_same_tokens_and_plays_from_its_export(
  bundle, tokens, call, command_flags, tmp_path
):
  changes = {
    'schedule.total_steps': 2,
    'schedule.log_every': 1,
    'data.batch_size': 2,
    'data.eval_batches': 1,
  }
  export = tmp_path / 'parallel.safetensors'
  code, out, error = call(
    'train',
    *command_flags('parallel', **changes),
    f'--tokens={tokens[0]}',
    f'--workdir={tmp_path / "w"}',
    f'--export={export}',
  )
  assert not code, error
  assert 'eval_nll_level_4' in out
  model = MusicLM.load(bundle[0], parallel=export)
  music = model.generate('slow piano', **OPTIONS)
  assert np.isfinite(music.waveform).all()
  assert music.tokens['acoustic'].shape == (62, 4)


def test_a_file_is_made_again_with_the_same_one_alone(
  bundle, parallel, call, tmp_path
):
  made, again = tmp_path / 'x.wav', tmp_path / 'again.wav'
  common = f'--bundle={bundle[0]}', f'--parallel={parallel}'
  code, _, error = call(
    *('generate', *common, '--text=slow piano', '--seconds=1.23'),
    f'--out={made}',
  )
  assert not code, error
  record = json.loads(made.with_suffix('.json').read_text())
  model = MusicLM.load(bundle[0], parallel=parallel)
  assert record['parallel'] == model.networks['parallel'].sha256
  other = f'--file={made}', f'--out={again}'
  code, _, error = call('regenerate', common[0], *other)
  assert code and error.splitlines()[-1].endswith('name that one by --parallel')
  code, _, error = call('regenerate', *common, *other)
  assert not code and 'the same samples' in error.splitlines()[-1]


def test_a_stream_is_the_whole(bundle, parallel):
  model = MusicLM.load(bundle[0], parallel=parallel)
  whole = model.generate('slow piano', **OPTIONS)
  chunks = [*model.stream('slow piano', **OPTIONS)]
  np.testing.assert_array_equal(np.concatenate(chunks), whole.waveform)
  plain = MusicLM.load(bundle[0]).generate('slow piano', **OPTIONS)
  for name in ('mulan', 'semantic'):
    np.testing.assert_array_equal(whole.tokens[name], plain.tokens[name])
  assert (whole.tokens['acoustic'] != plain.tokens['acoustic']).any()
  assert 'parallel' not in plain.metadata


def test_what_does_not_fit_is_refused_in_a_line(
  bundle, tokens, write_stage, call, tmp_path
):
  contract = json.loads((tokens[0] / 'contract.json').read_text())
  contract['networks']['soundstream'] = 'another'
  write_stage(tmp_path / 'other', 'parallel', json.dumps(contract))
  for folder, words in (
    (tmp_path / 'other', r"the parallel LM '.*another"),
    (tmp_path / 'missing', 'there is no workdir .*: train that stage first'),
  ):
    with pytest.raises(UsageError, match=words):
      MusicLM.load(bundle[0], parallel=folder).generate('piano', **OPTIONS)
  code, _, error = call(
    'generate',
    f'--bundle={bundle[0]}',
    '--text=slow piano',
    f'--parallel={tmp_path / "missing"}',
    f'--out={tmp_path / "x.wav"}',
  )
  assert code and 'train that stage first' in error.splitlines()[-1]
