"""A corpus becomes records: aligned, complete, captions held out only."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from small_layouts import small_layout

from musiclm_jax.cascade import stage_data
from musiclm_jax.cascade.corpus import Cutting, LeftOut, SplitTokenizer
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.data.batches import token_batches
from musiclm_jax.data.token_store import TokenStore


class Ramp:
  """Pieces of 0.4, 2, 3.9 and 5 s whose samples tell piece and second."""

  sample_rate = 24000
  seconds = (0.4, 2.0, 3.9, 5.0)
  said = 0

  def __len__(self):
    return len(self.seconds)

  def piece_id(self, i):
    return f'piece {i}'

  def num_samples(self, i):
    return round(self.seconds[i] * 24000)

  def read(self, i, start=0, num_samples=None):
    return i + np.arange(start, start + num_samples) / 24000 / 100

  def describe(self, i, start_seconds, end_seconds, rng):
    self.said += 1
    return (None if i == 1 else f'{i} {rng.integers(1000)}'), None

  def attributes(self, i, start_seconds, end_seconds):
    return None

  def path(self, i):
    return Path(__file__)

  def written_captions(self, i):
    return ()


class Echo:
  """Tokens that tell which waveform they were made of.

  Attributes:
    calls: Of `encode`, so far.
    dies_at: Call that is interrupted.
  """

  calls = 0
  dies_at = None

  def encode(self, waveform, acoustic=True):
    self.calls += 1
    if self.calls == self.dies_at:
      raise KeyboardInterrupt
    assert waveform.shape == (4, 48000), 'one shape, one program'
    first = np.round(waveform[:, :1] * 100).astype(int)
    tokens = {'mulan': first.repeat(12, 1), 'semantic': first.repeat(50, 1)}
    codes = first[:, :, None].repeat(100, 1).repeat(4, 2)
    return tokens | ({'acoustic': codes} if acoustic else {})

  def encode_text(self, captions):
    assert len(captions) == 16
    tokens = [int(c.split()[-1]) if c else 0 for c in captions]
    return np.asarray(tokens)[:, None].repeat(12, 1)


def tokenize(
  folder,
  tiny,
  split='train',
  crop=2.0,
  max_pieces=None,
  min_dbfs=-120.0,
  echo=None,
  acoustic=True,
  **options,
):
  source, events = Ramp(), []
  corpus = SplitTokenizer(
    echo or Echo(),
    source,
    split,
    Cutting(crop, None, 4, max_pieces, min_dbfs),
    progress=events.append,
    acoustic=acoustic,
  )
  left_out = corpus.write(folder, 'ramp:x', tiny.contract, **options)
  return source, left_out, events


def test_no_more_pieces_than_asked_for_the_first_ones(tiny, tmp_path):
  source, _, _ = tokenize(tmp_path, tiny, max_pieces=2)
  store = TokenStore(tmp_path, 'train')
  found = {store.record(i).piece_id for i in range(len(store))}
  assert found == {source.piece_id(1)}  # piece 0 is too short


def test_each_crop_is_a_record_that_knows_its_piece(tiny, tmp_path):
  source, left_out, events = tokenize(tmp_path, tiny)
  store = TokenStore(tmp_path, 'train')
  found = {}
  for i in range(len(store)):
    record = store.record(i)
    piece = int(record.piece_id[-1])
    # Sample value: piece + seconds / 100, times 100.
    expected = 100 * piece + round(record.start_seconds)
    for stream in (record.mulan, record.semantic, record.acoustic):
      assert (stream == expected).all()
    assert record.mulan_text is None
    np.testing.assert_array_equal(
      record.piece_mulan[:, 0], 100 * piece + np.round(record.piece_starts)
    )
    found.setdefault(piece, []).append(record.start_seconds)
  assert found == {1: [0.0], 2: [0.0, 1.88], 3: [0.0, 2.0]}
  assert left_out == LeftOut(short_pieces=1, soft_crops=0)
  assert source.said == 0, 'captions never enter the train split'
  assert (events[-1].done, events[-1].total) == (5, 5)


def test_soft_crops_teach_silence_and_are_left_out(tiny, tmp_path):
  """Mistake 33, mostly silence; the pieces are at 0, 6 and 9 dBFS."""
  _, left_out, events = tokenize(tmp_path, tiny, min_dbfs=5.0)
  assert left_out == LeftOut(short_pieces=1, soft_crops=1)
  store = TokenStore(tmp_path, 'train')
  found = [store.record(i) for i in range(len(store))]
  assert {record.piece_id for record in found} == {'piece 2', 'piece 3'}
  # The crops that remain do not depend on the others.
  assert all(len(record.piece_mulan) == 2 for record in found)
  assert (events[-1].done, events[-1].total) == (5, 5)


def test_silence_at_both_ends_of_a_piece_is_no_music(
  tiny, tmp_path, monkeypatch
):
  """Renderers and recordings end in it: every last crop would teach to stop."""
  ramp = Ramp.read

  def read(self, i, start=0, num_samples=None):
    seconds = np.arange(start, start + num_samples) / self.sample_rate
    heard = (seconds >= 0.9) & (seconds < self.seconds[i] - 0.5)
    silent = 1e-4 * np.sin(400 * seconds)
    return np.where(heard, ramp(self, i, start, num_samples), silent)

  monkeypatch.setattr(Ramp, 'read', read)
  _, left_out, events = tokenize(tmp_path, tiny, min_dbfs=-50.0)
  store = TokenStore(tmp_path, 'train')
  found = [store.record(i) for i in range(len(store))]
  starts = {(r.piece_id, r.start_seconds) for r in found}
  # 0.88 to 3.4 s of piece 2, 0.88 to 4.52 s of piece 3; little of piece 1.
  assert starts == {('piece 2', 0.88), ('piece 3', 0.88), ('piece 3', 2.52)}
  assert left_out == LeftOut(short_pieces=1, soft_crops=2)
  assert (events[-1].done, events[-1].total) == (5, 5)


def test_tokens_of_another_level_are_not_mixed(tiny, tmp_path):
  tokenize(tmp_path, tiny)
  with pytest.raises(UsageError, match='with min_dbfs'):
    tokenize(tmp_path, tiny, min_dbfs=-50.0)


def test_a_store_without_acoustic_tokens_serves_the_semantic_stage(
  tiny, tmp_path
):
  tokenize(tmp_path, tiny, acoustic=False)
  store = TokenStore(tmp_path, 'train')
  assert 'acoustic' not in store.specs
  assert store.contract == tiny.contract, 'what semantic tokens mean stays'
  assert store.record(0).acoustic is None
  options = dict(batch_size=2, other_window_probability=0.0, seed=0)
  crops = token_batches(
    store, crop_seconds=1.0, streams=('semantic',), **options
  )
  assert next(crops).keys() == {'mulan', 'semantic'}
  stage_data.read_contract(str(tmp_path), small_layout('semantic', 0.8))
  with pytest.raises(UsageError, match='without --noacoustic'):
    stage_data.read_contract(str(tmp_path), small_layout('coarse', 0.4))
  with pytest.raises(UsageError, match='begun with acoustic False'):
    tokenize(tmp_path, tiny)


def test_the_parallel_lm_reads_all_levels_however_they_are_shared(
  tiny, tmp_path
):
  tokenize(tmp_path, tiny)
  layout = small_layout('parallel', 0.4)
  assert stage_data.read_contract(str(tmp_path), layout) == tiny.contract
  mulan, semantic, acoustic = layout.segments
  fewer = dataclasses.replace(acoustic, num_levels=3)
  layout = dataclasses.replace(layout, segments=(mulan, semantic, fewer))
  with pytest.raises(UsageError, match=r'num_levels is 4 .* and 3 in the conf'):
    stage_data.read_contract(str(tmp_path), layout)


def test_held_out_crops_keep_several_captions(tiny, tmp_path):
  tokenize(tmp_path / 'a', tiny, 'validation')
  tokenize(tmp_path / 'b', tiny, 'validation')
  first, again = (TokenStore(tmp_path / x, 'validation') for x in 'ab')
  for i in range(len(first)):
    record = first.record(i)
    if record.piece_id == 'piece 1':
      assert record.mulan_text is None
    else:
      assert record.mulan_text.shape == (4, 12)
      assert len(set(record.mulan_text[:, 0])) > 1
      np.testing.assert_array_equal(
        record.mulan_text, again.record(i).mulan_text
      )


def test_two_processes_write_one_store(tiny, tmp_path, monkeypatch):
  monkeypatch.setattr('musiclm_jax.data.token_store.PIECES_PER_SHARD', 1)
  for index in (1, 0):
    tokenize(tmp_path, tiny, process_index=index, process_count=2)
  assert len(TokenStore(tmp_path, 'train')) == 5


def test_a_corpus_of_snippets_is_refused(tiny, tmp_path):
  with pytest.raises(UsageError, match='no piece of the train split'):
    tokenize(tmp_path, tiny, crop=20.0)


@pytest.mark.parametrize('split', ['train', 'validation'])
def test_an_interrupted_shard_goes_on_with_the_crops_it_has(
  tiny, tmp_path, split, monkeypatch
):
  """Of eight crops one is too soft, in the middle of the last piece."""
  ramp = Ramp.read

  def read(self, i, start=0, num_samples=None):
    rest = i == 4 and start == 2 * self.sample_rate
    return ramp(self, i, start, num_samples) * (not rest)

  monkeypatch.setattr(Ramp, 'seconds', (*Ramp.seconds, 6.0))
  monkeypatch.setattr(Ramp, 'read', read)
  _, left_out, _ = tokenize(tmp_path / 'whole', tiny, split, min_dbfs=-50.0)
  assert left_out == LeftOut(short_pieces=1, soft_crops=1)
  first, again = Echo(), Echo()
  first.dies_at = 2
  with pytest.raises(KeyboardInterrupt):
    tokenize(tmp_path / 'cut', tiny, split, min_dbfs=-50.0, echo=first)
  tokenize(tmp_path / 'cut', tiny, split, min_dbfs=-50.0, echo=again)
  assert again.calls == 1, 'of two batches one was kept'
  whole, cut = (
    {p.name: p.read_bytes() for p in (tmp_path / x / split).iterdir()}
    for x in ('whole', 'cut')
  )
  assert whole == cut, 'the same shard, and nothing else is left'
