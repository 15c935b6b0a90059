"""Embedders: windows as published, batches across clips, what is shipped."""

import numpy as np
import pytest

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.dsp import vggish_mel
from musiclm_jax.evaluation import embedders, tagger

RATE = 16_000


def noise(samples, seed=0):
  rng = np.random.default_rng(seed)
  return 0.1 * rng.standard_normal(samples).astype(np.float32)


@pytest.fixture(scope='module')
def embedder():
  return embedders.open_tagger(embedders.WINDOWINGS['vggish'], batch_size=4)


@pytest.mark.parametrize(('name', 'count'), [('vggish', 10), ('fad_tool', 19)])
def test_ten_seconds_have_as_many_windows_as_published(name, count):
  """Mistake 43: hop and normalisation are part of the embedder's name."""
  windowing = embedders.WINDOWINGS[name]
  assert len(windowing.cut(noise(10 * RATE), RATE)) == count
  assert name in windowing.name


def test_windows_of_the_first_windowing_are_slices_of_all_frames():
  waveform = noise(5 * RATE)
  windows = embedders.WINDOWINGS['vggish'].cut(waveform, RATE)
  whole = vggish_mel.log_mel(waveform)[: 96 * len(windows)]
  np.testing.assert_allclose(
    embedders.examples(windows).reshape(-1, 64), whole, atol=1e-6
  )


def test_the_fad_tool_scales_to_the_largest_sample_but_not_silence():
  """Mistake 44: samples are scaled once, and by the clip's own peak."""
  windowing = embedders.WINDOWINGS['fad_tool']
  loud, soft = noise(2 * RATE), noise(2 * RATE) * 0.01
  assert windowing.cut(loud, RATE).max() == pytest.approx(1.0)
  assert windowing.cut(soft, RATE).max() == pytest.approx(soft.max() / 0.1)
  plain = embedders.WINDOWINGS['vggish'].cut(loud, RATE)
  np.testing.assert_array_equal(plain[0], loud[: len(plain[0])])


def test_a_clip_is_embedded_alike_alone_and_among_others(embedder):
  clips = [noise(round(s * RATE), k) for k, s in enumerate((4.2, 0.5, 1, 6.3))]
  together = list(embedder.embed_all(iter(clips)))
  assert [len(rows) for rows in together] == [4, 0, 1, 6]
  for clip, rows in zip(clips, together, strict=True):
    assert rows.dtype == np.float32
    assert rows.shape[1:] == (embedder.dimension,)
    np.testing.assert_allclose(embedder.embed(clip), rows, atol=1e-5)


def test_clips_are_read_as_they_are_needed(embedder):
  read = []

  def clips():
    for k in range(6):
      read.append(k)
      yield noise(2 * RATE, k)

  found = embedder.embed_all(clips())
  next(found)
  assert read == [0, 1], 'two clips of two windows are one batch'


def test_what_is_shipped_is_small_named_and_says_what_it_is_worth(embedder):
  assert tagger.FILE.stat().st_size <= 2_000_000
  assert 'not VGGish' in embedder.label and len(embedder.sha256) == 64
  trained = tagger.load()
  assert trained.classes.keys() == trained.kinds.keys()
  for shares in trained.accuracy.values():
    assert {'plain', 'mp3', 'codec'} <= shares.keys()
    assert all(0 <= share <= 1 for share in shares.values())


def test_figures_depend_on_the_hash_of_the_weights(tmp_path):
  trained = tagger.load()
  path = tmp_path / 'other.safetensors'
  params = trained.params | {
    'embedding': {
      'kernel': trained.params['embedding']['kernel'] * 1.01,
      'bias': trained.params['embedding']['bias'],
    }
  }
  tagger.save(
    path,
    params,
    trained.classes,
    trained.kinds,
    trained.accuracy,
    trained.majority,
    {},
  )
  other = tagger.load(path)
  assert other.sha256 != trained.sha256
  np.testing.assert_allclose(
    other.params['embedding']['kernel'],
    1.01 * trained.params['embedding']['kernel'],
    rtol=1e-6,
  )


@pytest.mark.parametrize(
  ('name', 'words'),
  [('vggish', '--vggish=FILE'), ('mulan', '--bundle=DIR'), ('clap', 'unknown')],
)
def test_an_embedder_without_its_weights_is_refused(name, words):
  with pytest.raises(UsageError, match=words):
    embedders.open_all([name], windowing='vggish', batch_size=4)
