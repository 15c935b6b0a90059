"""What MuLan reads: its word pieces come from where its weights do."""

import dataclasses

import numpy as np
import pytest
import soundfile
from bert_checkpoints import drawn_tensors, write_checkpoint

from musiclm_jax.cascade import stage_data
from musiclm_jax.contracts.errors import UsageError

OPTIONS = {
  'batch_size': 2,
  'crop_seconds': 0.5,
  'text_length': 8,
  'captions_per_crop': 1,
  'vocabulary_size': 40,
  'eval_batches': 1,
}


@pytest.fixture
def inputs(tmp_path):
  """Three captioned tones and an empty workdir."""
  music = tmp_path / 'music'
  music.mkdir()
  for k in range(3):
    soundfile.write(music / f'{k}.wav', np.full(24000, 0.1 * k), 24000)
  rows = ''.join(f'{k}.wav,piece3 piano\n' for k in range(3))
  (music / 'captions.csv').write_text('path,caption\n' + rows)
  (tmp_path / 'w').mkdir()
  options = {**OPTIONS, 'source': f'audio_folder:{music}'}
  return stage_data.Inputs(options, 0, tmp_path / 'w')


def test_a_pretrained_text_tower_reads_its_own_word_pieces(inputs, tmp_path):
  folder = write_checkpoint(tmp_path / 'bert', drawn_tensors())
  with_bert = dataclasses.replace(inputs, init_text=str(folder))
  data = stage_data.open_data('mulan', with_bert)
  copied = inputs.workdir / 'vocab.txt'
  assert copied.read_text() == (folder / 'vocab.txt').read_text()
  ids = next(data.train(0))['text_ids']
  # [CLS] piece3 [UNK] [SEP], the line numbers of vocab.txt.
  np.testing.assert_array_equal(ids[0, 0], [2, 8, 1, 3, 0, 0, 0, 0])


def test_a_workdir_with_other_word_pieces_is_refused(inputs, tmp_path):
  stage_data.open_data('mulan', inputs)  # learns those of the captions
  folder = write_checkpoint(tmp_path / 'bert', drawn_tensors())
  with_bert = dataclasses.replace(inputs, init_text=str(folder))
  with pytest.raises(UsageError, match=r'another vocabulary .* --workdir'):
    stage_data.open_data('mulan', with_bert)
