"""Claims on rendered music on disk, prepared or as earlier versions kept it."""

import subprocess
import sys

import numpy as np
import old_corpus
import pytest

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.data import preparable, preparation, sources
from musiclm_jax.rendered_music import splits

PIECES, SEED = 4, 3


@pytest.fixture(scope='module')
def old(tmp_path_factory):
  """A corpus of an earlier version."""
  folder = tmp_path_factory.mktemp('corpora') / 'old'
  return old_corpus.write(folder, PIECES, SEED)


@pytest.fixture(scope='module')
def rendered(tmp_path_factory):
  """The same music, rendered straight into a prepared corpus."""
  folder = tmp_path_factory.mktemp('corpora') / 'rendered'
  music = preparable.rendered_music(PIECES, SEED)
  preparation.prepare(music, folder, processes=2)
  return folder


@pytest.fixture(scope='module')
def converted(old, tmp_path_factory):
  """The old corpus, prepared."""
  folder = tmp_path_factory.mktemp('corpora') / 'converted'
  music = preparable.open_music(f'rendered_music:{old}')
  found = preparation.prepare(music, folder, processes=1)
  assert sum(found.pieces.values()) == PIECES and not found.rejected
  return folder


def test_split_sizes_are_80_10_10():
  assert splits.sizes(800) == {'train': 640, 'validation': 80, 'test': 80}
  assert sum(splits.sizes(4).values()) == 4


@pytest.mark.parametrize('form', ['rendered_music', 'prepared'])
def test_reading_imports_no_tensorflow(old, rendered, form):
  folder = {'rendered_music': old, 'prepared': rendered}[form]
  code = (
    'import sys, numpy as np\n'
    'from musiclm_jax.data import sources\n'
    f'for split in sources.SPLITS:\n'
    f'  s = sources.open_source("{form}:{folder}", split)\n'
    '  s.read(0, 0, 100); s.describe(0, 0.0, 10.0, np.random.default_rng(0))\n'
    'print(any(m.split(".")[0] == "tensorflow" for m in sys.modules),\n'
    '      "jax" in sys.modules)\n'
  )
  run = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=True
  )
  assert run.stdout.split() == ['False', 'False']


def test_crop_equals_slice_and_is_padded_past_the_end(old):
  source = sources.open_source(f'rendered_music:{old}', 'train')
  whole = source.read(1)
  assert whole.dtype == np.float32 and len(whole) == source.num_samples(1)
  np.testing.assert_array_equal(source.read(1, 5000, 700), whole[5000:5700])
  tail = source.read(1, len(whole) - 10, 30)
  np.testing.assert_array_equal(tail[:10], whole[-10:])
  assert not tail[10:].any()


def test_attributes_are_hashable_and_captions_repeat(old):
  source = sources.open_source(f'rendered_music:{old}', 'validation')
  hash(tuple(source.attributes(0, 5.0, 15.0).values()))
  first, again = (
    source.describe(0, 5.0, 15.0, np.random.default_rng(1)) for _ in range(2)
  )
  assert first == again
  assert isinstance(first[0], str) and first[1].keys()
  assert source.descriptions.truth(0)['notes'][0]['role'] == 'lead'


@pytest.mark.parametrize('split', sources.SPLITS)
def test_prepared_music_sounds_and_is_described_as_the_old_corpus(
  old, rendered, converted, split
):
  """The same samples, captions and attributes for the same draws."""
  before = sources.open_source(f'rendered_music:{old}', split)
  for folder in (rendered, converted):
    after = sources.open_source(f'prepared:{folder}', split)
    assert len(before) == len(after)
    assert list(before.captioned()) == list(after.captioned())
    for i in range(len(before)):
      assert before.piece_id(i) == after.piece_id(i)
      np.testing.assert_array_equal(before.read(i), after.read(i))
      assert before.descriptions.truth(i) == after.descriptions.truth(i)
      assert before.written_captions(i) == after.written_captions(i) == ()
      for start, end in ((0.0, 10.0), (7.3, 8.3), (20.0, 50.0), (60.0, 90.0)):
        said, again = (
          [
            source.attributes(i, start, end),
            source.describe(i, start, end, np.random.default_rng(5)),
          ]
          for source in (before, after)
        )
        assert said == again


def test_the_kind_of_rendered_music_reads_either_form(old, rendered):
  ids = [
    [source.piece_id(i) for i in range(len(source))]
    for folder in (old, rendered)
    for source in [sources.open_source(f'rendered_music:{folder}', 'train')]
  ]
  assert ids[0] == ids[1]
  with pytest.raises(UsageError, match='earlier version: read it as rendered'):
    sources.open_source(f'prepared:{old}', 'train')
  with pytest.raises(UsageError, match='prepared already'):
    preparable.open_music(f'rendered_music:{rendered}')


def test_a_folder_without_a_corpus_and_other_rates_are_refused(
  old, rendered, tmp_path
):
  for kind in ('rendered_music', 'prepared'):
    with pytest.raises(UsageError, match=r'musiclm_jax\.prepare'):
      sources.open_source(f'{kind}:{tmp_path}', 'train')
  for spec in (f'rendered_music:{old}', f'prepared:{rendered}'):
    with pytest.raises(UsageError, match='24000'):
      sources.open_source(spec, 'train', 16000)


def test_an_old_corpus_is_replaced_only_where_that_is_asked_for(tmp_path):
  folder = tmp_path / 'corpus'
  folder.mkdir()
  (folder / 'corpus.json').write_text('{"source": "rendered_music"}')
  (folder / 'rendered_music-test.array_record-00000-of-00001').touch()
  music = preparable.rendered_music(3, 0)
  with pytest.raises(UsageError, match=r'earlier version.*--overwrite'):
    preparation.prepare(music, folder, processes=1)
  assert len(list(folder.iterdir())) == 2
  preparation.prepare(music, folder, processes=1, overwrite=True)
  assert not list(folder.glob('rendered_music-*'))
  assert len(sources.open_source(f'prepared:{folder}', 'train')) == 1
