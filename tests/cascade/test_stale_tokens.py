"""A token store knows what it was made of, and is made again where that is new.

Four files of 1 s, a shard each; a network that only counts.
"""

import os
import shutil

import numpy as np
import pytest
import soundfile

from musiclm_jax.cascade.corpus import Cutting, SplitTokenizer
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.data.audio_folder import AudioFolder
from musiclm_jax.data.token_store import TokenStore

RATE = 24000
NAMES = tuple(f'{k}.wav' for k in range(4))


def write(path, level):
  samples = np.full(RATE, level, np.float32)
  soundfile.write(path, samples, RATE, subtype='FLOAT')


class Echo:
  """Tokens that tell the level of a crop; counts the crops."""

  crops = 0

  def encode(self, waveform, acoustic=True):
    self.crops += len(waveform)
    level = np.round(waveform[:, :1] * 100).astype(np.int32)
    return {
      'mulan': level.repeat(12, 1),
      'semantic': level.repeat(25, 1),
      'acoustic': level[:, :, None].repeat(50, 1).repeat(4, 2),
    }

  def encode_text(self, captions):
    return np.array([[len(text)] * 12 for text in captions], np.int32)


@pytest.fixture
def music(tmp_path, monkeypatch):
  monkeypatch.setattr('musiclm_jax.data.token_store.PIECES_PER_SHARD', 1)
  folder = tmp_path / 'music'
  folder.mkdir()
  for k, name in enumerate(NAMES):
    write(folder / name, 0.1 * (k + 1))
  rows = ''.join(f'{name},slow\n' for name in NAMES)
  (folder / 'captions.csv').write_text('path,caption\n' + rows)
  return folder


@pytest.fixture
def tokenize(tiny, tmp_path, music):
  """A function (split, folder, code) -> (crops encoded, lines)."""

  def run(split='all', folder=music, code='a'):
    echo, lines = Echo(), []
    source = AudioFolder(str(folder), 'all')
    cutting = Cutting(1.0, batch_size=1, min_dbfs=-60.0)
    corpus = SplitTokenizer(
      echo, source, split, cutting, report=lines.append, code=code
    )
    corpus.write(tmp_path / 'store', f'audio_folder:{folder}', tiny.contract)
    return echo.crops, lines

  return run


@pytest.fixture
def levels(tmp_path):
  """A function (split) -> piece -> its tokens."""

  def read(split='all'):
    store = TokenStore(tmp_path / 'store', split)
    records = [store.record(i) for i in range(len(store))]
    return {r.piece_id: int(r.semantic[0]) for r in records}

  return read


def test_a_file_replaced_under_its_name_is_tokenized_again_and_no_other(
  music, tokenize, levels
):
  assert tokenize() == (4, []) and tokenize() == (0, [])
  write(music / '1.wav', 0.7)
  crops, (line,) = tokenize()
  assert crops == 1 and '1 shard(s) are made again, as the music' in line
  assert "'1.wav'" in line
  assert levels() == {'0.wav': 10, '1.wav': 70, '2.wav': 30, '3.wav': 40}
  assert tokenize() == (0, [])


def test_a_replaced_file_of_the_same_size_and_time_is_found(
  music, tokenize, levels
):
  tokenize()
  old = (music / '1.wav').stat()
  write(music / '1.wav', 0.7)
  os.utime(music / '1.wav', ns=(old.st_atime_ns, old.st_mtime_ns))
  assert (music / '1.wav').stat().st_size == old.st_size
  assert tokenize()[0] == 1 and levels()['1.wav'] == 70


def test_new_times_of_the_same_content_change_nothing(
  music, tokenize, tmp_path
):
  tokenize()
  before = {p: p.stat().st_mtime_ns for p in tmp_path.glob('store/all/*record')}
  for name in NAMES:
    os.utime(music / name, ns=(1, 1))
  assert tokenize() == (0, [])
  shutil.copytree(music, tmp_path / 'moved')
  assert tokenize(folder=tmp_path / 'moved') == (0, [])
  after = {p: p.stat().st_mtime_ns for p in tmp_path.glob('store/all/*record')}
  assert before == after


def test_other_music_of_the_same_names_in_another_place_is_refused(
  music, tokenize, levels, tmp_path
):
  tokenize()
  before = levels()
  shutil.copytree(music, tmp_path / 'other')
  write(tmp_path / 'other' / '2.wav', 0.9)
  with pytest.raises(
    UsageError, match=r"same names \('2\.wav'\): give another"
  ):
    tokenize(folder=tmp_path / 'other')
  assert levels() == before


def test_a_changed_caption_makes_held_out_tokens_again(music, tokenize):
  for split in ('train', 'validation'):
    assert tokenize(split) == (4, [])
  path = music / 'captions.csv'
  path.write_text(path.read_text().replace('3.wav,slow', '3.wav,very fast'))
  assert tokenize('train') == (0, []), 'captions take no part'
  crops, (line,) = tokenize('validation')
  assert crops == 1 and "'3.wav'" in line


def test_a_store_that_does_not_know_stays_and_says_so(
  music, tokenize, tmp_path
):
  tokenize()
  for path in (tmp_path / 'store' / 'all').glob('0*.json'):
    path.unlink()
  write(music / '1.wav', 0.7)
  crops, (line,) = tokenize()
  assert crops == 0
  assert '4 shard(s) of an earlier version stay' in line and 'not known' in line


def test_shards_of_other_code_stay_and_are_named(tokenize):
  tokenize()
  crops, (line,) = tokenize(code='b')
  assert crops == 0 and '4 shard(s) were made by other code' in line


def test_what_an_interrupted_shard_kept_of_replaced_music_is_not_used(
  music, tokenize, levels, monkeypatch
):
  monkeypatch.setattr('musiclm_jax.data.token_store.PIECES_PER_SHARD', 64)
  encode = Echo.encode

  def interrupted(self, waveform, acoustic=True):
    if self.crops == 2:
      raise KeyboardInterrupt
    return encode(self, waveform)

  monkeypatch.setattr(Echo, 'encode', interrupted)
  with pytest.raises(KeyboardInterrupt):
    tokenize()
  monkeypatch.setattr(Echo, 'encode', encode)
  write(music / '0.wav', 0.7)
  assert tokenize()[0] == 4 and levels()['0.wav'] == 70
