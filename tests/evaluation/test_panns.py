"""PANNs' Cnn14 against its PyTorch twin, and its front end against librosa."""

from pathlib import Path

import jax
import numpy as np
import pytest

from musiclm_jax.dsp import panns_mel
from musiclm_jax.evaluation import classifiers, embedders, panns
from musiclm_jax.interop import panns as weights
from musiclm_jax.metrics import kld

FIXTURE = Path(__file__).parents[1] / 'fixtures' / 'panns.npz'
CHANNELS, EMBED_DIM = (8, 16, 32, 64, 128, 256), 256


def drawn(name, shape, seed):
  """As experiments/parity/panns.py draws weights, with its own code."""
  index = np.arange(int(np.prod(shape)), dtype=np.uint32) + np.uint32(seed)
  for _ in range(2):
    index = (index ^ (index >> 16)) * np.uint32(0x45D9F3B)
  index ^= index >> 16
  uniform = index.astype(np.float64) / 2**32 - 0.5
  fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 600
  value = (uniform * np.sqrt(24 / fan_in)).astype(np.float32).reshape(shape)
  of_norm = name.startswith('bn0.') or '.bn' in name
  around_one = name.endswith('.running_var') or (
    of_norm and name.endswith('.weight')
  )
  return 1 + value if around_one else value


@pytest.fixture(scope='module')
def tensors():
  """The twin's weights as the public checkpoint names them."""
  known = weights.shapes(CHANNELS, EMBED_DIM)
  with np.load(FIXTURE) as file:
    found = {}
    for k, name in enumerate(file['names'].tolist()):
      shape = known.get(name) or known[f'{name.rpartition(".")[0]}.weight']
      found[name] = drawn(name, shape, 1000 * k)
  return found


@pytest.fixture(scope='module')
def network(tensors):
  params = weights.to_params(tensors, 'twin', CHANNELS, EMBED_DIM)
  model = panns.Cnn14(CHANNELS, EMBED_DIM)
  return model, {'params': jax.tree.map(jax.numpy.asarray, params)}


def test_parity_with_the_twin(network, equals_twin):
  model, variables = network
  with np.load(FIXTURE) as file:
    embedding, logits = jax.jit(model.apply)(variables, file['input'])
    equals_twin('PANNs: Cnn14, embedding', embedding, file['embedding'])
    scores = kld.to_scores(logits, 'sigmoid')
    equals_twin('PANNs: Cnn14, scores', scores, file['scores'])
    assert file['embedding'].std() > 0.1, 'nothing is compared'


def test_the_published_size_is_that_of_the_paper():
  """Its table of models counts 80.8 million parameters."""
  count = sum(int(np.prod(shape)) for shape in weights.shapes().values())
  assert count == 80_753_615


def test_log_mels_are_those_of_librosa():
  import librosa

  rng = np.random.default_rng(0)
  n = np.arange(32_000)
  waveform = 0.3 * np.sin(0.1 * n * (1 + n / 90_000)) + 0.01 * rng.normal(
    size=len(n)
  )
  theirs = librosa.feature.melspectrogram(
    y=waveform,
    sr=32_000,
    n_fft=1024,
    hop_length=320,
    pad_mode='reflect',
    n_mels=64,
    fmin=50,
    fmax=14_000,
  )
  theirs = librosa.power_to_db(theirs, amin=1e-10, top_db=None)
  ours = panns_mel.log_mel(waveform)
  assert ours.shape == (101, 64)
  np.testing.assert_allclose(ours, theirs.T, atol=1e-4)
  assert panns_mel.log_mel(np.zeros(32_000)).max() == -100


class Planted:
  """Weights of no network: an embedding and logits by the loudness."""

  sha256 = 'f' * 64

  def __init__(self):
    self.params = {'fc_audioset': {'kernel': np.zeros((4, 6))}}

  @staticmethod
  def apply(batch):
    loud = batch.mean(axis=(1, 2))[:, None]
    return np.repeat(loud, 4, axis=1), np.repeat(loud, 6, axis=1)


def test_a_short_clip_is_filled_to_what_the_network_knows():
  embedder = embedders.open_panns(Planted())
  assert embedder.sample_rate == 32_000 and embedder.dimension == 4
  rng = np.random.default_rng(0)
  lengths = {0.0: 0, 0.5: 1, 9.98: 1, 10.0: 1, 19.9: 1, 20.0: 2}
  for seconds, rows in lengths.items():
    clip = rng.normal(size=round(32_000 * seconds)).astype(np.float32)
    assert embedder.embed(clip).shape == (rows, 4)
  heads = classifiers.open_panns(Planted())
  (classifier,) = heads.classifiers.values()
  assert classifier.name == 'panns' and classifier.scores == 'sigmoid'
  assert classifier.qualified is None, 'nobody measured it here'
  (logits,) = heads.logits([rng.normal(size=32_000).astype(np.float32)])
  assert logits[:, classifier.columns].shape == (1, 6)
