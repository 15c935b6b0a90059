"""What stages read: MuLan's word pieces, what frozen networks read."""

import dataclasses
import types
from pathlib import Path

import jax.numpy as jnp
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
  """Four captioned tones and an empty workdir."""
  music = tmp_path / 'music'
  music.mkdir()
  for k in range(4):
    soundfile.write(music / f'{k}.wav', np.full(24000, 0.1 * k), 24000)
  rows = ''.join(f'{k}.wav,piece3 piano\n' for k in range(4))
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


def test_every_window_of_a_crop_is_a_row_of_the_melody_fit(inputs, monkeypatch):
  shapes = []

  class Melody:
    embed_dim = 3

    def embed_audio(self, params, collections, waveform):
      shapes.append(waveform.shape)
      return params + jnp.arange(12.0).reshape(2, 2, 3)

  frozen = types.SimpleNamespace(model=Melody(), params=10.0, collections={})
  loaded = []
  monkeypatch.setattr(
    stage_data.networks,
    'load',
    lambda path, stage: loaded.append((path, stage)) or frozen,
  )
  kept = ('batch_size', 'crop_seconds', 'eval_batches', 'source')
  options = {name: inputs.options[name] for name in kept}
  fit = dataclasses.replace(inputs, options=options, network='runs/melody')
  data = stage_data.open_data('melody_rvq', fit)
  assert loaded == [('runs/melody', 'melody')]
  for batch in (next(data.train(0)), next(iter(data.evaluation()))):
    np.testing.assert_array_equal(
      batch['audio'], 10 + np.arange(12).reshape(4, 3)
    )
  assert shapes[0] == (2, 12_000)


def test_a_workdir_with_other_word_pieces_is_refused(inputs, tmp_path):
  stage_data.open_data('mulan', inputs)  # learns those of the captions
  (inputs.workdir / 'checkpoints' / '1').mkdir(parents=True)
  folder = write_checkpoint(tmp_path / 'bert', drawn_tensors())
  with_bert = dataclasses.replace(inputs, init_text=str(folder))
  with pytest.raises(UsageError, match=r'another vocabulary .* --workdir'):
    stage_data.open_data('mulan', with_bert)


def test_a_vocabulary_that_no_checkpoint_depends_on_follows_the_captions(
  inputs,
):
  captions = Path(inputs.options['source'].partition(':')[2]) / 'captions.csv'
  stage_data.open_data('mulan', inputs)
  captions.write_text(captions.read_text().replace('piano', 'zither'))
  stage_data.open_data('mulan', inputs)
  learned = (inputs.workdir / 'vocab.txt').read_text().split()
  assert 'zither' in learned and 'piano' not in learned
  (inputs.workdir / 'checkpoints' / '1').mkdir(parents=True)
  captions.write_text(captions.read_text().replace('zither', 'piano'))
  stage_data.open_data('mulan', inputs)
  assert (inputs.workdir / 'vocab.txt').read_text().split() == learned


def test_the_words_of_the_captions_stay_with_what_is_learned_of_them(
  inputs, tmp_path
):
  """Also those that the weights had learned of with which it begins."""
  stage_data.open_data('mulan', inputs)
  kept = inputs.workdir / 'caption_words.txt'
  counted = kept.read_text()
  count = counted.split()[1]
  assert counted == f'piano {count}\n' and int(count) > 1
  (inputs.workdir / 'checkpoints' / '1').mkdir(parents=True)
  kept.write_text('zither 3\n')
  stage_data.open_data('mulan', inputs)
  assert kept.read_text() == 'zither 3\n', 'of what is learned already'
  before = tmp_path / 'before'
  inputs.workdir.rename(before)
  inputs.workdir.mkdir()
  again = dataclasses.replace(inputs, init_from=str(before))
  stage_data.open_data('mulan', again)
  assert set(kept.read_text().split()) == {'piano', 'zither', count, '3'}
  (before / 'caption_words.txt').unlink()
  stage_data.open_data('mulan', again)
  assert not kept.exists(), 'nobody knows what those weights know'


def test_captions_that_are_drawn_are_drawn_all_over_the_pieces(monkeypatch):
  class Pieces:
    sample_rate = 10

    def captioned(self):
      return range(4)

    def written_captions(self, i):
      return ('one', 'two') if i == 1 else ()

    def num_samples(self, i):
      return 600

    def describe(self, i, start, end, rng):
      assert 0 <= start < end <= 60 and end - start == pytest.approx(10)
      return f'piece {i} at {start}', None

  monkeypatch.setattr(stage_data, '_MOST_DESCRIBED', 2)
  found = list(stage_data._training_captions(Pieces(), 10.0))
  assert found[:2] == ['one', 'two']
  assert [text.split()[1] for text in found[2:]] == [*'00003333']
  assert len(set(found)) == 10


@pytest.mark.parametrize('stage', ['mulan', 'mulan_rvq'])
def test_too_few_captions_are_refused_before_the_work_with_their_counts(
  inputs, stage
):
  captions = Path(inputs.options['source'].partition(':')[2]) / 'captions.csv'
  splits = stage_data._sources(
    dataclasses.replace(inputs, options=dict(inputs.options))
  )
  names = [source.piece_id(0) for source in splits]
  for named, counts in (
    (names[:1], r'train: 1 of 2, validation: 0 of 1'),
    (names[1:], r'train: 0 of 2, validation: 1 of 1'),
  ):
    captions.write_text('path,caption\n' + ''.join(f'{n},x\n' for n in named))
    with pytest.raises(UsageError, match=counts):
      stage_data.open_data(stage, inputs)
