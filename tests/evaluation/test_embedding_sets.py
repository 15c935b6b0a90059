"""Sets of embeddings: bounded memory, samples, and files of statistics."""

import dataclasses

import numpy as np
import pytest

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.evaluation import embedders, embedding_sets


@pytest.fixture(scope='module')
def embedder():
  return embedders.open_tagger(embedders.WINDOWINGS['vggish'])


def collected(clips, rows=10, width=8, seed=0):
  rng = np.random.default_rng(1)
  collector = embedding_sets.EmbeddingCollector(width, clips, seed)
  everything = []
  for clip in range(clips):
    drawn = rng.standard_normal((rows, width)).astype(np.float32)
    everything.append(drawn)
    collector.add(clip, drawn)
  return collector.finish(), np.concatenate(everything)


def test_statistics_are_those_of_all_rows_and_groups_are_whole_clips():
  found, rows = collected(45)
  assert found.statistics.count == 450 and found.num_clips == 45
  np.testing.assert_allclose(
    found.statistics.covariance, np.cov(rows.T), rtol=1e-6, atol=1e-9
  )
  assert all(group.count in (20, 30) for group in found.filled)
  np.testing.assert_array_equal(found.rows, rows)


def test_what_is_kept_does_not_grow_with_the_clips():
  sizes = {}
  for clips in (100, 10_000):
    found, _ = collected(clips)
    groups = sum(g.mean.nbytes + g.scatter.nbytes for g in found.groups)
    sizes[clips] = groups, len(found.rows)
  assert sizes[100][1] == 1000
  assert sizes[10_000] == (sizes[100][0], embedding_sets.MAX_ROWS)


def test_a_sample_is_of_all_clips_alike():
  found, _ = collected(2000)
  shares = np.bincount(found.clips * 4 // 2000) / len(found.clips)
  np.testing.assert_allclose(shares, 0.25, atol=0.03)
  again, _ = collected(2000)
  np.testing.assert_array_equal(found.rows, again.rows)


def test_a_file_gives_back_what_was_saved(embedder, tmp_path):
  found, _ = collected(30, width=64)
  path = tmp_path / 'set.npz'
  embedding_sets.save(path, [(embedder, found)])
  again = embedding_sets.load(path, embedder)
  assert again.num_clips == 30
  np.testing.assert_array_equal(again.rows, found.rows)
  np.testing.assert_array_equal(
    again.statistics.scatter, found.statistics.scatter
  )


@pytest.mark.parametrize(
  ('changes', 'words'),
  [
    ({'name': 'vggish'}, "no statistics of embedder 'vggish', but of tagger"),
    ({'sha256': 'f' * 64}, 'with sha256'),
    (
      {'windowing': embedders.WINDOWINGS['fad_tool']},
      'such figures cannot be compared',
    ),
  ],
)
def test_statistics_of_another_embedder_are_refused(
  embedder, tmp_path, changes, words
):
  found, _ = collected(30, width=64)
  path = tmp_path / 'set.npz'
  embedding_sets.save(path, [(embedder, found)])
  with pytest.raises(UsageError, match=words):
    embedding_sets.load(path, dataclasses.replace(embedder, **changes))


def test_a_damaged_file_is_refused(embedder, tmp_path):
  path = tmp_path / 'set.npz'
  path.write_bytes(b'PK but no archive')
  with pytest.raises(UsageError, match='cannot be read as saved statistics'):
    embedding_sets.load(path, embedder)
