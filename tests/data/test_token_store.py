"""The token store: whole shards or none, and nothing mixed."""

import dataclasses

import numpy as np
import pytest

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.token_contract import TokenContract, TokenSpec
from musiclm_jax.data.batches import crop_starts, token_batches
from musiclm_jax.data.token_store import (
  Plan,
  TokenRecord,
  TokenStore,
  TokenStoreWriter,
)

CONTRACT = TokenContract(
  sample_rate=24000,
  streams={
    'mulan': TokenSpec(32, 12, 0.0),
    'semantic': TokenSpec(1024, 1, 25.0),
    'acoustic': TokenSpec(1024, 4, 50.0),
  },
  coarse_levels=2,
  mulan_audio_mean=(0.0, 1.0),
  mulan_text_mean=(1.0, 0.0),
  networks={'mulan': 'a'},
)
PIECES = tuple(f'piece {k}' for k in range(130))
PLAN = Plan(PIECES, 2.0, 2.0, -50.0, 'audio_folder:x')


def record(piece, text=False):
  rng = np.random.default_rng(piece)
  return TokenRecord(
    piece_id=PLAN.pieces[piece],
    start_seconds=2.0,
    crop_seconds=2.0,
    mulan=rng.integers(32, size=12),
    piece_mulan=rng.integers(32, size=(3, 12)),
    piece_starts=np.asarray([0.0, 2.0, 4.0]),
    semantic=rng.integers(1024, size=50),
    acoustic=rng.integers(1024, size=(100, 4)),
    mulan_text=rng.integers(32, size=(2, 12)) if text else None,
  )


def write_shard(writer, shard, **options):
  writer.write(shard, (record(p, **options) for p in PLAN.shard_pieces(shard)))


@pytest.fixture
def store(tmp_path):
  writer = TokenStoreWriter(tmp_path, 'train', PLAN, CONTRACT)
  for shard in writer.missing():
    write_shard(writer, shard)
  return tmp_path


def test_a_record_survives_bytes_exactly():
  for text in (False, True):
    before = record(7, text)
    after = TokenRecord.from_bytes(before.to_bytes())
    for field in dataclasses.fields(before):
      a, b = getattr(before, field.name), getattr(after, field.name)
      assert (a is None) == (b is None)
      if a is not None:
        np.testing.assert_array_equal(a, b)
    assert after.semantic.dtype == np.int32


def test_a_piece_whose_name_is_no_utf8_survives(tmp_path):
  name = 'mod\udc85.wav'
  before = dataclasses.replace(record(7), piece_id=name)
  assert TokenRecord.from_bytes(before.to_bytes()).piece_id == name
  plan = dataclasses.replace(PLAN, pieces=(name,))
  writer = TokenStoreWriter(tmp_path, 'train', plan, CONTRACT)
  writer.write(0, [before])
  assert TokenStore(tmp_path, 'train').read(0)


def test_a_store_holds_each_piece_once_and_feeds_batches(store):
  split = TokenStore(store, 'train')
  assert split.contract == CONTRACT
  pieces = [split.record(i).piece_id for i in range(len(split))]
  assert sorted(pieces) == sorted(PLAN.pieces)
  batch = next(
    token_batches(
      split,
      batch_size=4,
      crop_seconds=1.0,
      other_window_probability=0.5,
      seed=0,
    )
  )
  assert batch['acoustic'].shape == (4, 50, 4)
  assert 'mulan_text' not in split.read(0)


def test_an_interrupted_store_continues_with_what_is_missing(tmp_path):
  writer = TokenStoreWriter(tmp_path, 'train', PLAN, CONTRACT)
  write_shard(writer, 1)
  first = (tmp_path / 'train' / '00001-of-00003.array_record').read_bytes()

  def dies(shard):
    yield record(shard)
    raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    writer.write(0, dies(0))
  names = {p.name for p in (tmp_path / 'train').iterdir()}
  assert names == {'plan.json', '00001-of-00003.array_record'}
  with pytest.raises(UsageError, match=r'2 of 3 shards.*run tokenize again'):
    TokenStore(tmp_path, 'train')
  writer = TokenStoreWriter(tmp_path, 'train', PLAN, CONTRACT)
  assert writer.missing() == [0, 2]
  assert writer.missing(1, 2) == []
  write_shard(writer, 1)
  again = (tmp_path / 'train' / '00001-of-00003.array_record').read_bytes()
  assert first == again, 'a shard is a function of its index'


@pytest.mark.parametrize(
  'text', ['', '[]', '7', 'null', '{}', '{"num_shards": 3}', b'\xff\xfe']
)
@pytest.mark.parametrize('name', ['contract.json', 'train/plan.json'])
def test_a_damaged_description_is_named(store, name, text):
  (store / name).write_bytes(text if isinstance(text, bytes) else text.encode())
  with pytest.raises(UsageError, match=name):
    TokenStore(store, 'train')
  with pytest.raises(UsageError, match=name):
    TokenStoreWriter(store, 'train', PLAN, CONTRACT)


def test_tokens_of_other_networks_do_not_enter(store):
  other = dataclasses.replace(CONTRACT, networks={'mulan': 'b'})
  with pytest.raises(UsageError, match=r'networks\.mulan'):
    TokenStoreWriter(store, 'test', PLAN, other)


def test_another_plan_does_not_continue_a_split(store):
  longer = dataclasses.replace(PLAN, crop_seconds=4.0)
  with pytest.raises(UsageError, match=r'crop_seconds 2\.0, now it is 4\.0'):
    TokenStoreWriter(store, 'train', longer, CONTRACT)
  moved = dataclasses.replace(PLAN, source='audio_folder:y')
  TokenStoreWriter(store, 'train', moved, CONTRACT)


@pytest.mark.parametrize('kept', [0, 100, 70_000])
def test_a_truncated_shard_is_named(store, kept):
  path = store / 'train' / '00002-of-00003.array_record'
  path.write_bytes(path.read_bytes()[:kept])
  with pytest.raises(UsageError, match=r'00002-of-00003.*cut short'):
    TokenStore(store, 'train')


def test_a_flipped_bit_is_found_and_its_shard_named(store):
  path = store / 'train' / '00001-of-00003.array_record'
  data = bytearray(path.read_bytes())
  data[len(data) // 3] ^= 255
  path.write_bytes(data)
  split = TokenStore(store, 'train')
  with pytest.raises(UsageError, match='00001-of-00003'):
    for i in range(len(split)):
      split.record(i)


def test_missing_stores_and_splits_say_what_to_run(store, tmp_path):
  with pytest.raises(UsageError, match=r'musiclm_jax\.tokenize'):
    TokenStore(tmp_path / 'nowhere', 'train')
  with pytest.raises(UsageError, match='--splits=test'):
    TokenStore(store, 'test')


@pytest.mark.parametrize(
  'seconds, starts',
  [
    (0.9, []),
    (1.0, [0.0]),
    (1.9, [0.0]),
    (4.0, [0.0, 2.0]),
    (4.9, [0.0, 2.0]),
    (5.13, [0.0, 2.0, 3.12]),
  ],
)
def test_crops_cover_a_piece_without_silence(seconds, starts):
  """Mistake 33: no crop is mostly padding."""
  np.testing.assert_allclose(crop_starts(seconds, 2.0, 2.0, 0.04), starts)


@pytest.mark.parametrize(
  ('pieces', 'said'),
  [
    (PLAN.pieces[:-1], rf'{len(PLAN.pieces)} pieces, now it is .* of them'),
    ((*PLAN.pieces[:-1], 'other'), 'other pieces'),
  ],
)
def test_pieces_that_come_or_go_are_said_in_words(store, pieces, said):
  with pytest.raises(UsageError, match=said):
    TokenStoreWriter(
      store, 'train', dataclasses.replace(PLAN, pieces=pieces), CONTRACT
    )
