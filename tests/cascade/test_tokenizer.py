"""The tokenizer: five frozen networks, streams of exactly 1:2 frames."""

import dataclasses
import types

import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax.cascade.networks import Network
from musiclm_jax.cascade.tokenizer import Tokenizer
from musiclm_jax.cascade.weights import Weights
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.data.caption_words import CaptionWords


@dataclasses.dataclass(frozen=True)
class Features:
  def features(self, params, collections, waveform):
    frames = waveform.reshape(len(waveform), -1, 960)
    return params['gain'] * frames[..., :1]


@dataclasses.dataclass(frozen=True)
class Clusters:
  codebook_size: int = 16

  def assign(self, collections, features):
    return jnp.round(features).astype(int)


@dataclasses.dataclass(frozen=True)
class Mulan:
  def embed_audio(self, params, collections, waveform):
    return waveform[:, :2]

  def embed_text(self, params, collections, text_ids):
    return text_ids[:, :2].astype(float)


@dataclasses.dataclass(frozen=True)
class Rvq:
  codebook_size: int = 16
  num_levels: int = 12

  def quantize(self, collections, embedding, modality):
    mean = collections[modality]
    return jnp.round(embedding - mean).astype(int)[:, :1].repeat(12, 1)

  def mean(self, collections, modality):
    return collections[modality]

  def centre(self, collections, embedding, modality):
    """Angles that grow with the length of a text."""
    angle = 0.1 * embedding[:, 0]
    return jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=1)


class Words:
  def encode(self, text, length):
    return np.full(length, len(text), np.int32)

  def remarks(self, text, length, unknown):
    return [f'{text} in {length}, {unknown}']

  def read_words(self, text, length):
    return text.split()[:length]

  def unread_words(self, text):
    return [word for word in text.split() if word == '🎹']


def fake(model, params=None, collections=None, config=None):
  params, collections = params or {}, collections or {}
  weights = Weights(config or {}, params, collections)
  return Network(model, config or {}, weights)


@pytest.fixture
def tokenizer(tiny):
  means = {'audio': jnp.asarray([1.0, 0.5]), 'text': jnp.asarray([3.0, 0.25])}
  return Tokenizer(
    {
      'soundstream': tiny.networks['soundstream'],
      'w2v_bert': fake(Features(), {'gain': 2.0}),
      'kmeans': fake(Clusters()),
      'mulan': fake(Mulan(), config={'data': {'text_length': 7}}),
      'mulan_rvq': fake(Rvq(), collections=means),
    },
    Words(),
  )


def test_streams_describe_the_same_time(tokenizer):
  """Mistakes 22 and 34: 25 and 50 Hz, exactly 1:2."""
  waveform = np.zeros((2, 4 * 960), np.float32)
  waveform[1] = 3.0
  tokens = tokenizer.encode(waveform)
  assert tokens['mulan'].shape == (2, 12)
  assert tokens['semantic'].shape == (2, 4)
  assert tokens['acoustic'].shape == (2, 8, 4)
  assert (tokens['semantic'][1] == 6).all()
  assert (tokens['mulan'][1] == 2).all(), 'the audio mean is subtracted'


def test_the_codec_rests_where_nobody_wants_its_tokens(tokenizer):
  waveform = np.ones((2, 4 * 960), np.float32)
  every, some = (tokenizer.encode(waveform, wanted) for wanted in (True, False))
  assert every.keys() - some.keys() == {'acoustic'}
  for stream, tokens in some.items():
    np.testing.assert_array_equal(tokens, every[stream])


def test_a_fraction_of_a_frame_is_refused(tokenizer):
  with pytest.raises(UsageError, match=r'0\.04 s'):
    tokenizer.encode(np.zeros((1, 1000), np.float32))


def test_text_is_centred_with_its_own_mean(tokenizer):
  """Mistake 16: each modality subtracts its own mean."""
  tokens = tokenizer.encode_text(['12345', '123456789'])
  np.testing.assert_array_equal(tokens[:, 0], [2, 6])
  assert tokens.shape == (2, 12)


def test_remarks_know_how_much_is_read(tokenizer):
  assert tokenizer.remarks('piano theremin') == ['piano theremin in 7, None']


def test_an_unknown_word_is_taken_for_those_of_nearest_embedding(tokenizer):
  """More words than one batch; the fakes embed a text by its length."""
  counts = {chr(97 + k // 26) + chr(97 + k % 26): 1 for k in range(90)}
  known = CaptionWords({**counts, 'violins': 2, 'horn': 2, 'glockenspiels': 2})
  aware = Tokenizer(tokenizer._networks, Words(), known)
  found = aware.unknown_words('the horn 🎹 ensemble horn didgeridoos a b tuba')
  assert list(found) == ['🎹', 'ensemble', 'didgeridoos']
  assert found['🎹'] == ()
  assert found['ensemble'] == ('violins', 'horn')
  assert found['didgeridoos'] == ('glockenspiels', 'violins')
  assert aware.remarks('tuba') == [f'tuba in 7, {aware.unknown_words("tuba")}']
  assert aware.unknown_words('horn') == {}
  assert tokenizer.unknown_words('tuba') is None, 'of an earlier version'


def test_the_contract_says_what_the_tokens_are(tokenizer, tiny):
  contract = tokenizer.contract(coarse_levels=2)
  assert contract.streams == tiny.specs
  assert contract.mulan_audio_mean == (1.0, 0.5)
  assert contract.mulan_text_mean == (3.0, 0.25)
  assert set(contract.networks) == {
    'soundstream',
    'w2v_bert',
    'kmeans',
    'mulan',
    'mulan_rvq',
  }
  assert contract == tokenizer.contract(coarse_levels=2)
  again = type(contract).from_json(contract.to_json())
  contract.check(again, 'here', 'there')


def test_other_weights_are_another_contract(tokenizer):
  """Mistake 14: a network that drifts is noticed."""
  before = tokenizer.contract(2).networks
  changed = dict(tokenizer._networks)
  changed['w2v_bert'] = fake(Features(), {'gain': 2.5})
  after = Tokenizer(changed, Words()).contract(2).networks
  assert {s for s in before if before[s] != after[s]} == {'w2v_bert'}


@pytest.mark.parametrize('levels', [0, 4, 9])
def test_both_acoustic_stages_need_levels(tokenizer, levels):
  with pytest.raises(UsageError, match='coarse_levels'):
    tokenizer.contract(levels)


def test_a_codec_of_another_frame_rate_is_refused_before_any_token(tokenizer):
  faster = types.SimpleNamespace(frame_rate=75.0, num_quantizers=4)
  codec = dataclasses.replace(tokenizer._networks['soundstream'], model=faster)
  networks = tokenizer._networks | {'soundstream': codec}
  with pytest.raises(UsageError, match='75 frames a second, the cascade take'):
    Tokenizer(networks, Words()).contract(2)


def test_networks_are_not_moved_by_use(tokenizer):
  """Mistake 14: quantizers stay frozen while others learn."""
  before = tokenizer.contract(2)
  tokenizer.encode(np.ones((1, 960), np.float32))
  tokenizer.encode_text(['piano'])
  assert tokenizer.contract(2) == before
