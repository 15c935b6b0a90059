"""Music from weights of fewer bits, and with drafts that guess tokens."""

import json
import shutil

import numpy as np
import pytest

from musiclm_jax import MusicLM, UsageError

OPTIONS = {'seconds': 1.23, 'seed': 7}


@pytest.fixture(scope='module')
def plain(bundle):
  return MusicLM.load(bundle[0]).generate('slow piano', **OPTIONS)


def of_the_tokens(folder, write_stage, tokens, stage, **changes):
  """A workdir of an LM that was trained on the bundle's tokens."""
  contract = (tokens / 'contract.json').read_text()
  write_stage(folder / stage, stage, contract, **changes)


def test_drafts_change_no_token(bundle, tokens, write_stage, plain, tmp_path):
  folder = tmp_path / 'drafts'
  for stage in ('coarse', 'fine'):
    of_the_tokens(folder, write_stage, tokens[0], stage, **{'model.mlp_dim': 8})
  model = MusicLM.load(bundle[0], drafts=folder)
  guessed = model.generate('slow piano', **OPTIONS)
  for name, codes in plain.tokens.items():
    np.testing.assert_array_equal(guessed.tokens[name], codes)
  np.testing.assert_array_equal(guessed.waveform, plain.waveform)


def test_a_draft_of_other_sequences_is_refused(
  bundle, tokens, write_stage, tmp_path
):
  folder = tmp_path / 'drafts'
  of_the_tokens(
    folder, write_stage, tokens[0], 'coarse', **{'layout.coarse_levels': 1}
  )
  with pytest.raises(UsageError, match='train it with the config of that one'):
    MusicLM.load(bundle[0], drafts=folder).generate('slow piano', **OPTIONS)
  shutil.rmtree(folder)
  contract = json.loads((tokens[0] / 'contract.json').read_text())
  contract['networks']['soundstream'] = 'another'
  write_stage(folder / 'fine', 'fine', json.dumps(contract))
  with pytest.raises(UsageError, match=r"the draft '.*another"):
    MusicLM.load(bundle[0], drafts=folder).generate('slow piano', **OPTIONS)
  with pytest.raises(UsageError, match='no workdir of semantic, coarse, fine'):
    MusicLM.load(bundle[0], drafts=tmp_path).generate('slow piano', **OPTIONS)


def test_a_file_of_weights_in_int8_is_made_again_by_them(
  bundle, call, tmp_path
):
  made, again = tmp_path / 'x.wav', tmp_path / 'again.wav'
  code, _, error = call(
    'generate',
    f'--bundle={bundle[0]}',
    '--text=slow piano',
    '--seconds=1.23',
    '--weights=int8',
    f'--out={made}',
  )
  assert not code, error
  assert json.loads(made.with_suffix('.json').read_text())['weights'] == 'int8'
  code, _, error = call(
    'regenerate', f'--file={made}', f'--bundle={bundle[0]}', f'--out={again}'
  )
  assert not code and 'the same samples' in error.splitlines()[-1]


def test_devices_that_cannot_be_split_so_are_refused(bundle, call, tmp_path):
  code, _, error = call(
    'generate',
    f'--bundle={bundle[0]}',
    '--text=slow piano',
    '--tensor=3',
    f'--out={tmp_path / "x.wav"}',
  )
  assert code and error.splitlines()[-1].endswith(
    '--tensor=3: jax has 1 devices here, choose one of 1'
  )
