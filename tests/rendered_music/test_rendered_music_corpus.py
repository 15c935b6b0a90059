"""Claims on the corpus on disk: TFDS opens it, it continues, it is refused."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.data import sources
from musiclm_jax.rendered_music import captions, shards, splits

CORPUS = shards.Corpus(pieces=4, seed=3)


def _build(folder: Path, corpus: shards.Corpus = CORPUS) -> Path:
  with shards.hold(folder, corpus) as missing:
    for shard in missing:
      shards.write(folder, corpus, shard)
    shards.finish(folder, corpus)
  return folder


def _hashes(folder: Path) -> dict[str, str]:
  return {
    p.name: hashlib.sha256(p.read_bytes()).hexdigest()
    for p in folder.glob('*.array_record*')
  }


@pytest.fixture(scope='module')
def corpus(tmp_path_factory):
  return _build(tmp_path_factory.mktemp('corpora') / 'corpus')


def test_split_sizes_are_80_10_10():
  assert splits.sizes(800) == {'train': 640, 'validation': 80, 'test': 80}
  assert sum(splits.sizes(4).values()) == 4


def test_reading_imports_no_tensorflow(corpus):
  code = (
    'import sys, numpy as np\n'
    'from musiclm_jax.data import sources\n'
    f'for split in sources.SPLITS:\n'
    f'  s = sources.open_source("rendered_music:{corpus}", split)\n'
    '  s.read(0, 0, 100); s.caption(0, 0.0, 10.0, np.random.default_rng(0))\n'
    'print(any(m.split(".")[0] == "tensorflow" for m in sys.modules),\n'
    '      "jax" in sys.modules)\n'
  )
  run = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=True
  )
  assert run.stdout.split() == ['False', 'False']


def test_equal_pieces_are_equal_bytes_in_any_process():
  code = (
    'import numpy as np, hashlib\n'
    'from musiclm_jax.rendered_music import builder\n'
    'row = {"id": "a", "waveform": np.arange(9, dtype=np.int16),\n'
    '       "truth": "{}", "notes": "[]"}\n'
    'print(hashlib.sha256(builder.serialize(row)).hexdigest())\n'
  )
  digests = {
    subprocess.run(
      [sys.executable, '-c', code],
      capture_output=True,
      text=True,
      check=True,
      env={**os.environ, 'PYTHONHASHSEED': str(seed)},
    ).stdout
    for seed in range(3)
  }
  assert len(digests) == 1


def test_tfds_opens_the_folder(corpus):
  import tensorflow_datasets as tfds

  made = tfds.builder_from_directory(corpus)
  assert made.name == 'rendered_music'
  assert {k: v.num_examples for k, v in made.info.splits.items()} == {
    'train': 2,
    'validation': 1,
    'test': 1,
  }


def test_tfds_own_generation_makes_the_same_examples(corpus, tmp_path):
  import tensorflow_datasets as tfds

  from musiclm_jax.rendered_music import builder

  config = builder.RenderedMusicConfig(
    name='tests', pieces=CORPUS.pieces, seed=CORPUS.seed
  )
  made = builder.RenderedMusic(
    config=config, data_dir=tmp_path, file_format='array_record'
  )
  made.download_and_prepare()
  ours = tfds.builder_from_directory(corpus).as_data_source('train')
  theirs = made.as_data_source('train')
  assert len(theirs) == len(ours)
  for a, b in zip(theirs, ours, strict=True):
    assert a['truth'] == b['truth'] and a['notes'] == b['notes']
    np.testing.assert_array_equal(a['waveform'], b['waveform'])


def test_crop_equals_slice_and_is_padded_past_the_end(corpus):
  source = sources.open_source(f'rendered_music:{corpus}', 'train')
  whole = source.read(1)
  assert whole.dtype == np.float32 and len(whole) == source.num_samples(1)
  np.testing.assert_array_equal(source.read(1, 5000, 700), whole[5000:5700])
  tail = source.read(1, len(whole) - 10, 30)
  np.testing.assert_array_equal(tail[:10], whole[-10:])
  assert not tail[10:].any()


def test_attributes_are_hashable_and_captions_repeat(corpus):
  source = sources.open_source(f'rendered_music:{corpus}', 'validation')
  hash(tuple(source.attributes(0, 5.0, 15.0).values()))
  first, again = (
    source.caption(0, 5.0, 15.0, np.random.default_rng(1)) for _ in range(2)
  )
  assert first == again
  assert isinstance(
    source.described(0, 5.0, 15.0, np.random.default_rng(1)), captions.Caption
  )
  assert source.truth(0)['notes'][0]['role'] == 'lead'


def test_interrupted_build_continues_to_the_same_bytes(corpus, tmp_path):
  folder = tmp_path / 'cut'
  with shards.hold(folder, CORPUS) as missing:
    shards.write(folder, CORPUS, missing[0])
  left = folder / f'.musiclm_jax-{"0" * 16}.part'
  left.write_bytes(b'half a shard')
  assert not shards.is_complete(folder, CORPUS)
  assert missing[0] not in shards.missing(folder, CORPUS)
  _build(folder)
  assert shards.is_complete(folder, CORPUS)
  assert _hashes(folder) == _hashes(corpus)
  assert not left.exists()


def test_unfinished_or_foreign_folder_is_refused(corpus, tmp_path):
  with pytest.raises(UsageError, match='another corpus'):
    shards.missing(corpus, shards.Corpus(pieces=5, seed=3))
  (tmp_path / 'letter.txt').write_text('dear')
  with (
    pytest.raises(UsageError, match=r"'letter\.txt'.*choose another"),
    shards.hold(tmp_path, CORPUS),
  ):
    pass
  (tmp_path / 'empty').mkdir()
  with pytest.raises(UsageError, match='prepare'):
    sources.open_source(f'rendered_music:{tmp_path / "empty"}', 'train')
  with pytest.raises(UsageError, match='24000'):
    sources.open_source(f'rendered_music:{corpus}', 'train', 16000)


def test_damaged_shard_is_made_again(corpus, tmp_path):
  folder = tmp_path / 'hurt'
  folder.mkdir()
  for path in corpus.iterdir():
    if path.is_file() and path.name != 'dataset_info.json':
      (folder / path.name).write_bytes(path.read_bytes())
  victim = next(folder.glob('*test.array_record*'))
  victim.write_bytes(victim.read_bytes()[:1000])
  with pytest.raises(UsageError, match='damaged'):
    shards.finish(folder, CORPUS)
  _build(folder)
  assert _hashes(folder) == _hashes(corpus)


def test_prepare_builds_once_and_refuses_in_one_line(tmp_path):
  out = tmp_path / 'corpus'

  def command(*arguments):
    return subprocess.run(
      [sys.executable, '-m', 'musiclm_jax.prepare', *arguments],
      capture_output=True,
      text=True,
      cwd=Path(__file__).parents[2],
    )

  made = command(f'--out={out}', '--pieces=3', '--processes=1')
  assert made.returncode == 0, made.stderr
  assert 'prepare: 3 pieces in ' in made.stderr
  again = command(f'--out={out}', '--pieces=3', '--processes=1')
  assert again.returncode == 0 and 'pieces,' not in again.stderr
  for bad in (
    ('--pieces=3',),
    (f'--out={out}', '--pieces=4'),
    (f'--out={out}', '--pieces=2'),
    ('--out=/proc/nowhere', '--pieces=3'),
    (f'--out={out}', '--source=nothing'),
  ):
    refused = command(*bad)
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1].startswith('error: ')
    assert 'Traceback' not in refused.stderr
  assert json.loads((out / 'corpus.json').read_text())['pieces'] == 3
