"""Features for the classifiers: kept by chunks, and of this corpus alone."""

import types

import numpy as np
import pytest

from experiments.tiny_cascade import feature_cache, features
from experiments.tiny_cascade.artifacts import Excerpt


class Tones:
  """Six crops of constants, one of them without a lead."""

  def crops(self, seconds, per_piece, limit):
    return [Excerpt(k, 0.0, seconds) for k in range(6)]

  def attributes(self, crop):
    family = None if crop.piece == 1 else f'family {crop.piece}'
    return {'lead_family': family, 'bpm': 60.0 + crop.piece}

  def read(self, crop):
    return np.full(8, crop.piece, np.float32)


class Codec:
  """Halves everything; may be interrupted at one of its calls."""

  sha256 = 'a'

  def __init__(self):
    self.calls, self.dies_at = 0, None

  def through(self, clips):
    self.calls += 1
    if self.calls == self.dies_at:
      raise KeyboardInterrupt
    return clips / 2


@pytest.fixture
def compute(tmp_path, monkeypatch):
  monkeypatch.setattr(feature_cache, '_CHUNK', 2)
  monkeypatch.setattr(features, 'timbre', lambda clip: clip[None])
  monkeypatch.setattr(features, 'tempogram', lambda clip: clip.reshape(2, 2, 2))
  (tmp_path / 'corpus').mkdir()

  def run(dies_at=None):
    codec = Codec()
    codec.dies_at = dies_at
    found = feature_cache.of_split(tmp_path, 'test', Tones(), codec)
    return types.SimpleNamespace(calls=codec.calls, **vars(found))

  run.corpus = tmp_path / 'corpus'
  return run


def test_an_interruption_keeps_the_crops_that_were_done(compute):
  with pytest.raises(KeyboardInterrupt):
    compute(dies_at=3)
  found = compute()
  assert found.calls == 1, 'of three chunks two were kept'
  assert found.families == [f'family {k}' for k in (0, 2, 3, 4, 5)]
  assert found.bpm == [60.0, 62.0, 63.0, 64.0, 65.0]
  np.testing.assert_array_equal(found.plain.timbres[:, 0, 0], found.units)
  np.testing.assert_array_equal(
    found.coded.tempograms[:, 0, 0, 0], np.array(found.units) / 2
  )
  assert compute().calls == 0


def test_features_of_another_corpus_are_not_used(compute):
  compute()
  (compute.corpus / 'index.json').write_text('{"test": [8]}')
  assert compute().calls == 3
