"""The tokenizer: waveform -> tokens of all streams; caption -> MuLan tokens.

  waveform [B, S] -> mulan [B, 12], semantic [B, Ts], acoustic [B, 2 Ts, Q],
                     melody [B, N, 24] with the networks for it
  captions [B]    -> mulan [B, 12]

All networks are frozen (mistake 14): nothing here returns new collections.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from musiclm_jax.cascade.bundle import OPTIONAL, TOKENIZERS
from musiclm_jax.cascade.networks import Network
from musiclm_jax.contracts.array_types import Codes, Tokens, Waveform
from musiclm_jax.contracts.audio import SAMPLE_RATE
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.token_contract import TokenContract, TokenSpec

TEXT_TOKENIZERS = ('mulan', 'mulan_rvq')
SEMANTIC_FRAME_RATE = 25.0


class Tokenizer:
  """Turns music and sentences into tokens with frozen networks."""

  def __init__(self, networks: Mapping[str, Network], vocabulary: Any):
    """Takes the networks.

    Args:
      networks: `TOKENIZERS` -> network; `TEXT_TOKENIZERS` suffice for text.
        With `OPTIONAL` there are melody tokens, for which these suffice.
      vocabulary: The `data.text.Tokenizer` that MuLan was trained with.
    """
    self._networks = networks
    self._vocabulary = vocabulary
    mulan = networks['mulan']
    self._text_length = int(mulan.config['data']['text_length'])
    self._audio_tokens = jax.jit(functools.partial(_audio_tokens, networks))
    self._text_tokens = jax.jit(functools.partial(_text_tokens, networks))
    self._melody_tokens = jax.jit(functools.partial(_melody_tokens, networks))
    self._stages = tuple(
      stage for stage in (*TOKENIZERS, *OPTIONAL) if stage in networks
    )

  def encode(self, waveform: Waveform) -> dict[str, np.ndarray]:
    """Encodes crops, compiled once for each shape.

    Args:
      waveform: float32 [B, S] at 24 kHz, S a multiple of 960 so that one
        semantic frame is exactly two acoustic ones (mistakes 22 and 34).

    Returns:
      int32 {'mulan' [B, 12], 'semantic' [B, S / 960],
      'acoustic' [B, S / 480, Q]}, and 'melody' as of `encode_melody` where a
      crop holds a window of it.

    Raises:
      UsageError: If S is not a whole number of frames.
    """
    samples = waveform.shape[-1]
    per_frame = round(SAMPLE_RATE / SEMANTIC_FRAME_RATE)
    if samples % per_frame:
      raise UsageError(
        f'a crop of {samples} samples is no whole number of semantic frames: '
        f'choose a multiple of {1 / SEMANTIC_FRAME_RATE} s'
      )
    parts = self._parts(self._stages)
    tokens = jax.device_get(self._audio_tokens(*parts, waveform))
    frames = samples // per_frame
    made = tokens['acoustic'].shape[1], tokens['semantic'].shape[1]
    # The contract has checked the codec: else a stream would slip unseen.
    assert made == (2 * frames, frames), made
    return tokens

  def encode_melody(self, waveform: Waveform) -> np.ndarray:
    """Encodes what tune clips play, int32 [B, N, 24].

    Args:
      waveform: float32 [B, S] at 24 kHz, music, humming or whistling.

    Raises:
      UsageError: If the clips are shorter than a window.
    """
    return jax.device_get(self._melody_tokens(*self._parts(OPTIONAL), waveform))

  def encode_text(self, captions: Sequence[str]) -> np.ndarray:
    """Encodes captions into MuLan tokens, int32 [B, 12].

    Text and audio share the codebooks; the text's mean is subtracted where
    training subtracted the audio's (recipe section 1).
    """
    ids = np.stack(
      [self._vocabulary.encode(text, self._text_length) for text in captions]
    )
    parts = self._parts(TEXT_TOKENIZERS)
    return jax.device_get(self._text_tokens(*parts, ids))

  def remarks(self, caption: str) -> list[str]:
    """Says in a line each what of a caption MuLan does not know or read."""
    return self._vocabulary.remarks(caption, self._text_length)

  def contract(self, coarse_levels: int) -> TokenContract:
    """Makes the contract of the tokens that come out of here.

    Args:
      coarse_levels: Acoustic levels that the coarse stage shall model.

    Raises:
      UsageError: If the codec has too few levels or another frame rate.
    """
    codec = self._networks['soundstream'].task
    rvq = self._networks['mulan_rvq']
    if not 0 < coarse_levels < codec.num_quantizers:
      raise UsageError(
        f'coarse_levels={coarse_levels}: must leave levels to both stages, '
        f'the codec has {codec.num_quantizers}'
      )
    if codec.frame_rate != 2 * SEMANTIC_FRAME_RATE:
      raise UsageError(
        f'the codec makes {codec.frame_rate:g} frames a second, the cascade '
        f'takes {2 * SEMANTIC_FRAME_RATE:g}: train soundstream with strides '
        'whose product is 480'
      )
    audio_mean, text_mean = (
      jax.device_get(rvq.task.mean(rvq.collections, modality))
      for modality in ('audio', 'text')
    )
    streams = {
      'mulan': TokenSpec(rvq.task.codebook_size, rvq.task.num_levels, 0.0),
      'semantic': TokenSpec(
        self._networks['kmeans'].task.codebook_size, 1, SEMANTIC_FRAME_RATE
      ),
      'acoustic': TokenSpec(
        codec.codebook_size, codec.num_quantizers, float(codec.frame_rate)
      ),
    }
    if 'melody' in self._stages:
      streams['melody'] = melody_spec(self._networks)
    return TokenContract(
      sample_rate=SAMPLE_RATE,
      streams=streams,
      coarse_levels=coarse_levels,
      mulan_audio_mean=tuple(float(x) for x in audio_mean),
      mulan_text_mean=tuple(float(x) for x in text_mean),
      networks={stage: self._networks[stage].sha256 for stage in self._stages},
    )

  def _parts(self, stages: Sequence[str]) -> tuple[dict, dict]:
    """Parameters and collections, which are arguments of the programs."""
    networks = self._networks
    return (
      {stage: networks[stage].params for stage in stages},
      {stage: networks[stage].collections for stage in stages},
    )


def melody_spec(networks: Mapping[str, Network]) -> TokenSpec:
  """Says what melody tokens are: one frame a window of several seconds."""
  task, rvq = (networks[stage].task for stage in OPTIONAL)
  return TokenSpec(
    rvq.codebook_size,
    rvq.num_levels,
    1 / task.window_hop_seconds,
    task.window_seconds,
  )


def _audio_tokens(
  networks: Mapping[str, Network],
  params: dict,
  collections: dict,
  waveform: Waveform,
) -> dict[str, Codes | Tokens]:
  def call(stage: str, method: str, *inputs: Any) -> Any:
    function = getattr(networks[stage].task, method)
    return function(params[stage], collections[stage], *inputs)

  features = call('w2v_bert', 'features', waveform)
  semantic = networks['kmeans'].task.assign(collections['kmeans'], features)
  embedding = call('mulan', 'embed_audio', waveform)
  tokens = {
    'mulan': networks['mulan_rvq'].task.quantize(
      collections['mulan_rvq'], embedding, 'audio'
    ),
    'semantic': semantic[..., 0],
    'acoustic': call('soundstream', 'encode', waveform),
  }
  seconds = waveform.shape[-1] / SAMPLE_RATE
  if 'melody' in params and melody_spec(networks).num_frames(seconds):
    tokens['melody'] = _melody_tokens(networks, params, collections, waveform)
  return tokens


def _melody_tokens(
  networks: Mapping[str, Network],
  params: dict,
  collections: dict,
  waveform: Waveform,
) -> Codes:
  embedding = networks['melody'].task.embed_audio(
    params['melody'], collections['melody'], waveform
  )
  rows = networks['melody_rvq'].task.quantize(
    collections['melody_rvq'],
    embedding.reshape(-1, embedding.shape[-1]),
    'audio',
  )
  return rows.reshape(*embedding.shape[:2], -1)


def _text_tokens(
  networks: Mapping[str, Network],
  params: dict,
  collections: dict,
  text_ids: jax.Array,
) -> Codes:
  embedding = networks['mulan'].task.embed_text(
    params['mulan'], collections['mulan'], text_ids
  )
  return networks['mulan_rvq'].task.quantize(
    collections['mulan_rvq'], embedding, 'text'
  )
