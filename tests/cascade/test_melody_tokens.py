"""The melody in the cascade: its tokens, and the windows that read them."""

import dataclasses
import types

import jax
import numpy as np
import pytest
import soundfile
from flax import linen as nn

from musiclm_jax.cascade import inputs
from musiclm_jax.cascade.conditioning import Conditioning, Melody
from musiclm_jax.cascade.generator import Generator
from musiclm_jax.cascade.networks import Network
from musiclm_jax.cascade.sampling import SamplingConfig
from musiclm_jax.cascade.tokenizer import Tokenizer
from musiclm_jax.cascade.weights import Weights
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.token_contract import TokenSpec
from musiclm_jax.embedding_rvq.quantizer import EmbeddingQuantizer
from musiclm_jax.embedding_rvq.task import EmbeddingRvqTask
from musiclm_jax.melody.embedder import MelodyEmbedder
from musiclm_jax.melody.model import MelodyViT
from musiclm_jax.melody.task import MelodyTask
from musiclm_jax.token_lm.language_model import LanguageModel
from musiclm_jax.token_lm.sampler import Sampler

SPEC = TokenSpec(16, 24, 1 / 3.0, window_seconds=4.0)
LEVELS, K = 24, 16


def network(model, params, collections):
  return Network(model, {}, Weights({}, params, collections))


@pytest.fixture(scope='module')
def networks():
  """The melody's two, drawn; MuLan as far as a tokenizer looks at it."""
  model = MelodyViT(
    num_layers=1,
    embed_dim=16,
    num_heads=2,
    head_dim=8,
    mlp_dim=16,
    output_dim=8,
    num_mels=32,
    window_length=2048,
    hop_length=1920,
    fft_size=2048,
  )
  embedder = MelodyEmbedder(model)
  batch = {'waveform': np.zeros((1, 2, 96_000), np.float32)}
  params, _ = nn.unbox(
    jax.jit(MelodyTask(embedder).init)(jax.random.key(0), batch)
  )
  rvq = EmbeddingQuantizer('melody_rvq', LEVELS, K)
  _, books = EmbeddingRvqTask(rvq, ('audio',), 2, 1).init(
    jax.random.key(0), {'audio': np.zeros((K * 20, 8), np.float32)}
  )
  own = dict(books['melody_rvq'])
  own['codebooks'] = own['codebooks'] | {
    'embed': np.random.default_rng(0).normal(0, 0.4, (LEVELS, K, 8)),
    'initialized': np.ones((), bool),
  }
  mulan = types.SimpleNamespace(config={'data': {'text_length': 7}})
  return {
    'mulan': mulan,
    'melody': network(embedder, params, {'melody': {}}),
    'melody_rvq': network(rvq, {'melody_rvq': {}}, {'melody_rvq': own}),
  }


@pytest.fixture(scope='module')
def tokenizer(networks):
  return Tokenizer(networks, None)


def clip(seconds, seed=0):
  rng = np.random.default_rng(seed)
  notes = rng.uniform(200, 800, int(seconds * 4) + 1).repeat(6000)
  phase = np.cumsum(notes[: round(seconds * 24000)]) / 24000
  return (0.3 * np.sin(2 * np.pi * phase)).astype(np.float32)


def test_ten_seconds_are_72_tokens_alone_or_in_a_batch(tokenizer):
  pair = np.stack([clip(10.0), clip(10.0, seed=1)])
  tokens = tokenizer.encode_melody(pair)
  assert tokens.shape == (2, 3, 24) and tokens.dtype == np.int32
  assert tokens.min() >= 0 and tokens.max() < K
  assert (tokens[0] != tokens[1]).any()
  np.testing.assert_array_equal(tokenizer.encode_melody(pair[:1]), tokens[:1])
  # A window is itself, wherever it lies in a clip.
  later = tokenizer.encode_melody(pair[:, 3 * 24000 :])
  np.testing.assert_array_equal(later, tokens[:, 1:])


def test_music_hears_the_melody_again_from_its_beginning(tokenizer):
  waveform = clip(5.5)
  prompt = Melody(waveform, SPEC, tokenizer)
  assert prompt.seconds == 5.5
  on_and_on = np.tile(waveform, 4)
  for start, count in ((0.0, 3), (2.44, 1), (8.0, 2)):
    first = round(start * 24000)
    samples = (3 * (count - 1) + 4) * 24000
    expected = on_and_on[first : first + samples]
    np.testing.assert_array_equal(
      prompt.at(start, count), tokenizer.encode_melody(expected[None])[0]
    )


def test_a_melody_is_read_at_any_rate_or_refused(tmp_path):
  loud = clip(4.0)
  soundfile.write(tmp_path / 'a.wav', np.stack([loud, loud], 1)[::2], 12000)
  assert abs(len(inputs.read_melody(tmp_path / 'a.wav', 4.0)) - 96_000) < 2
  soundfile.write(tmp_path / 'short.wav', loud[:90_000], 24000)
  soundfile.write(tmp_path / 'soft.wav', 1e-4 * loud, 24000)
  (tmp_path / 'text.wav').write_text('la la la')
  for name, words in (
    ('short.wav', r'has 3\.75 s, it needs at least 4'),
    ('soft.wav', 'silent'),
    ('text.wav', 'cannot be read as sound'),
    ('nowhere.wav', 'no file'),
    ('.', 'is a folder: name one sound file'),
  ):
    with pytest.raises(UsageError, match=words):
      inputs.read_melody(tmp_path / name, 4.0)


class Spy:
  """What the stages of a generator were given; makes zeros."""

  def __init__(self, monkeypatch):
    self.read = []

    def begin(sampler, given, *, keys, **rest):
      predicted = sampler.lm.layout.predicted
      coarse = predicted.first_level == 0
      if 'melody' in given:
        stage = 'semantic' if predicted.stream == 'semantic' else 'coarse'
        assert stage == 'semantic' or coarse
        self.read.append((stage, given['melody']))
      return np.zeros((len(keys), 0, predicted.num_levels), np.int32)

    def advance(sampler, window, num_frames, sampling):
      return np.zeros((len(window), num_frames, window.shape[2]), np.int32)

    monkeypatch.setattr(Sampler, 'begin', begin)
    monkeypatch.setattr(Sampler, 'advance', advance)
    monkeypatch.setattr(Sampler, 'codes', lambda sampler, window: window)
    monkeypatch.setattr(
      'musiclm_jax.cascade.decoder.decode',
      lambda codec, codes, **_: np.zeros((len(codes), 480 * codes.shape[1])),
    )


def conditioned(tiny):
  """The tiny networks, semantic and coarse with 2 windows of the melody."""

  def with_melody(network):
    lm = network.model.model
    mulan, *rest = lm.layout.segments
    melody = dataclasses.replace(
      mulan, stream='melody', num_levels=3, num_frames=2, frame_rate=5.0
    )
    layout = dataclasses.replace(lm.layout, segments=(mulan, melody, *rest))
    model = LanguageModel(lm.clone(layout=layout))
    return dataclasses.replace(network, model=model)

  more = {
    stage: with_melody(tiny.networks[stage]) for stage in ('semantic', 'coarse')
  }
  return tiny.networks | more


class Clock:
  """A melody whose tokens are the tick that a window begins at."""

  def at(self, start_seconds, num_windows):
    assert num_windows == 2
    return np.full((2, 3), round(25 * start_seconds))


def make(generator, melody=None):
  return generator.generate(
    Conditioning(np.zeros((2, 12), int), melody),
    seconds=1.5,
    seed=0,
    sampling=SamplingConfig(),
  )


def test_each_window_hears_the_melody_of_its_own_time(tiny, monkeypatch):
  spy = Spy(monkeypatch)

  generator = Generator(conditioned(tiny))
  assert generator.melody_stages == ('semantic', 'coarse')
  make(generator, Clock())
  starts = {'semantic': [], 'coarse': []}
  for stage, codes in spy.read:
    assert codes.shape == (2, 2, 3), 'the same for all rows'
    starts[stage].append(codes[0, 0, 0])
  # 38 ticks in crops of 20 and of 10, each half prefix.
  assert starts == {
    'semantic': [0, 8, 18],
    'coarse': [0, 3, 8, 13, 18, 23, 28],
  }


def test_without_a_melody_the_stages_get_the_mask(tiny, monkeypatch):
  spy = Spy(monkeypatch)
  make(Generator(conditioned(tiny)))
  assert len(spy.read) > 4
  assert all((codes == -1).all() for _, codes in spy.read)


def test_stages_that_know_no_melody_are_not_given_one(tiny, monkeypatch):
  spy = Spy(monkeypatch)
  make(Generator(tiny.networks))
  assert spy.read == []
  with pytest.raises(UsageError, match='follow no melody'):
    make(Generator(tiny.networks), Clock())
