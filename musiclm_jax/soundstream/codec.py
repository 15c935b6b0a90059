"""The codec applied: waveform [B, S] <-> codes [B, T, Q], also in chunks."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from musiclm_jax.contracts.array_types import Codes, Latents, Waveform
from musiclm_jax.contracts.audio import SAMPLE_RATE
from musiclm_jax.contracts.task import Collections, Params
from musiclm_jax.nn import quantizer
from musiclm_jax.nn.precision import exact
from musiclm_jax.soundstream.seanet import Pasts, SoundStream

# Of what is longer than two of them, this much is coded at once.
_CHUNK_SECONDS = 30


@dataclasses.dataclass(frozen=True)
class Codec:
  """Encoder, frozen quantizer and decoder, as pure functions of their weights.

  Attributes:
    model: Encoder and decoder, of waveforms at 24 kHz.
  """

  model: SoundStream

  @property
  def hop_length(self) -> int:
    """Samples from one frame of codes to the next."""
    return self.model.hop_length

  @property
  def frame_rate(self) -> float:
    """Frames of codes a second."""
    return SAMPLE_RATE / self.hop_length

  @property
  def num_quantizers(self) -> int:
    """Levels of codes, Q."""
    return self.model.num_quantizers

  @property
  def codebook_size(self) -> int:
    """Entries a level, K."""
    return self.model.codebook_size

  def encode(
    self,
    params: Params,
    collections: Collections,
    waveform: Waveform,
    denoise: Bool[Array, ' B'] | None = None,
  ) -> Codes:
    """Codes a waveform of a whole number of hops.

    More than a minute is coded in chunks, one after another, in memory for one
    of them beside the waveform and its codes.

    Args:
      params: By player; only the codec's are read.
      collections: Codebooks.
      waveform: float32.
      denoise: Rows to take the noise out of, if the codec can; None is none.
    """

    def step(pasts: Pasts | None, chunk: Waveform) -> tuple[Pasts, Codes]:
      codes, pasts = self.encode_step(
        params, collections, chunk, pasts, denoise
      )
      return pasts, codes

    size = round(_CHUNK_SECONDS * self.frame_rate) * self.hop_length
    batch, samples = waveform.shape
    if samples <= 2 * size:
      return step(None, waveform)[1]
    pasts, first = step(None, waveform[:, :size])
    whole = samples // size * size
    chunks = waveform[:, size:whole].reshape(batch, -1, size).swapaxes(0, 1)
    pasts, later = jax.lax.scan(step, pasts, chunks)
    made = [first, *later]
    if whole < samples:
      made.append(step(pasts, waveform[:, whole:])[1])
    return jnp.concatenate(made, axis=1)

  def decode(
    self, params: Params, collections: Collections, codes: Codes
  ) -> Waveform:
    """Decodes codes of the first Q' <= Q levels."""
    return self.decode_step(params, collections, codes)[0]

  @exact
  def encode_step(
    self,
    params: Params,
    collections: Collections,
    chunk: Waveform,
    pasts: Pasts | None = None,
    denoise: Bool[Array, ' B'] | None = None,
  ) -> tuple[Codes, Pasts]:
    """Codes the next chunk of a waveform, any whole number of hops.

    Args:
      params: By player; only the codec's are read.
      collections: Codebooks.
      chunk: What follows the last chunk.
      pasts: What came with the last chunk's codes; None begins a waveform.
      denoise: See `encode`; may differ from chunk to chunk.

    Returns:
      The chunk's codes, those of `encode` on all chunks together, and pasts.
    """
    variables = {'params': params['codec']}
    latents, pasts = self.model.apply(
      variables, chunk, pasts, denoise, method='encode'
    )
    return quantizer.codes_of(collections['codec'], latents), pasts

  @exact
  def decode_step(
    self,
    params: Params,
    collections: Collections,
    codes: Codes,
    pasts: Pasts | None = None,
  ) -> tuple[Waveform, Pasts]:
    """Decodes the next frames of codes; as `encode_step`, the other way."""
    values = quantizer.values_of(collections['codec'], codes)
    return self.model.apply(
      {'params': params['codec']}, values, pasts, method='decode'
    )

  def reconstruct(
    self,
    params: Params,
    collections: Collections,
    waveform: Waveform,
    denoise: Bool[Array, ' B'] | None = None,
    num_active: Int[Array, ' B'] | None = None,
  ) -> tuple[Waveform, Latents, quantizer.Quantized]:
    """Runs encoder, quantizer and decoder as in training, differentiable.

    Args:
      params: By player; only the codec's are read.
      collections: Codebooks.
      waveform: Whole number of hops.
      denoise: See `encode`.
      num_active: Levels that each example uses; None is all of them.

    Returns:
      What comes out, latents, and what the quantizer made of them.
    """
    variables = {'params': params['codec']}
    latents, _ = self.model.apply(
      variables, waveform, denoise=denoise, method='encode'
    )
    quantized = quantizer.quantize(collections['codec'], latents, num_active)
    values = quantizer.straight_through(latents, quantized.values)
    output, _ = self.model.apply(variables, values, method='decode')
    return output, latents, quantized
