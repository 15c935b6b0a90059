"""A token LM applied: codes -> ids, ids -> likelihoods of codes."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from musiclm_jax.contracts.array_types import Codes, PyTree, Tokens
from musiclm_jax.contracts.task import Batch, Collections, Params
from musiclm_jax.token_lm.layout import Layout, Segment, flatten_codes
from musiclm_jax.token_lm.model import TokenLM

UNKNOWN = -1  # in the place of a code: its token is masked


@dataclasses.dataclass(frozen=True)
class LanguageModel:
  """Likelihoods of a token LM, as pure functions of its weights.

  Batches are those of `TokenLMTask`. A code below 0 of a stream that the
  layout can drop is not known: its token is masked.

  Attributes:
    model: The network, its layout included.
  """

  model: TokenLM

  @property
  def layout(self) -> Layout:
    """What is read and what is predicted."""
    return self.model.layout

  def nll(
    self,
    params: Params,
    collections: Collections,
    batch: Batch,
    num_mulan_levels: int | Int[Array, 'B'] | None = None,
  ) -> Float[Array, 'B N']:
    """Computes the NLL of each predicted token, in nats.

    Whose conditioning an example gets is the batch's matter: exchange its
    `mulan` or `semantic` rows to measure what the LM makes of them.

    Args:
      params: Player -> parameters.
      collections: Unused.
      batch: See `TokenLMTask`.
      num_mulan_levels: MuLan levels kept, others are masked; None keeps all.

    Returns:
      [B, T*Q], row-major by time: `reshape(B, T, Q)` gives levels.
    """
    tokens = self.tokens(batch, num_mulan_levels)
    nll = token_nll(*self.predict(params, tokens, batch))
    return nll.reshape(nll.shape[0], -1)

  def logits(
    self,
    params: Params,
    collections: Collections,
    batch: Batch,
    num_mulan_levels: int | Int[Array, 'B'] | None = None,
  ) -> Float[Array, 'B N K']:
    """Computes teacher-forced logits; arguments as of `nll`.

    Returns:
      [B, T*Q, K]: row n is what the LM expects as predicted token n, over the
      legal codes of its level.
    """
    tokens = self.tokens(batch, num_mulan_levels)
    logits, _ = self.predict(params, tokens, batch)
    return logits.reshape(logits.shape[0], -1, logits.shape[-1])

  def can_guide(
    self, num_mulan_levels: int | None, negative: Codes | None
  ) -> bool:
    """Whether guidance has something to push away from."""
    return can_guide(self.layout, num_mulan_levels, negative)

  def known(
    self,
    conditioning: Batch,
    prefix: Codes | None = None,
    *,
    num_mulan_levels: int | Array | None = None,
    guided: bool = False,
    negative: Codes | None = None,
  ) -> Tokens:
    """Lays out what a window begins with, before anything is drawn.

    Args:
      conditioning: As a batch, without what is predicted.
      prefix: [B, P, Q] codes that the predicted segment begins with, or None.
      num_mulan_levels: MuLan levels kept, others are masked; None keeps all.
      guided: Whether one follows each row that guidance pushes away from: with
        all MuLan levels masked, and semantic tokens where the model has learned
        to do without, and the same melody.
      negative: MuLan tokens [B, 12] that these rows read instead, all else as
        their own.

    Returns:
      Ids [B, N], or [2B, N]: a row and its other one beside each other.
    """
    predicted = self.layout.predicted
    reads = [(conditioning, num_mulan_levels)]
    if guided:
      reads.append(
        pushed_away_from(self.layout, conditioning, num_mulan_levels, negative)
      )
    rows = [self._conditioning(read, levels) for read, levels in reads]
    if prefix is not None:
      ids = flatten_codes(
        prefix, self.layout.predicted_offset, predicted.codebook_size
      )
      rows = [jnp.concatenate([row, ids], axis=1) for row in rows]
    return jnp.stack(rows, axis=1).reshape(-1, rows[0].shape[1])

  def abstract_params(self) -> PyTree:
    """Shapes of `params`, boxed with their logical axes; nothing is made."""
    tokens = jax.ShapeDtypeStruct((1, self.layout.num_tokens), jnp.int32)
    made = jax.eval_shape(self.model.init, jax.random.key(0), tokens)
    return {'lm': made['params']}

  def tokens(
    self, batch: Batch, num_mulan_levels: int | Array | None = None
  ) -> Tokens:
    """Lays a batch out as vocabulary ids [B, N].

    Args:
      batch: See `TokenLMTask`.
      num_mulan_levels: MuLan levels kept, one number or one per row.

    Raises:
      ValueError: If a stream is not as long as the layout's crop.
    """
    layout = self.layout
    predicted = flatten_codes(
      codes_of(batch, layout.predicted),
      layout.predicted_offset,
      layout.predicted.codebook_size,
    )
    return jnp.concatenate(
      [self._conditioning(batch, num_mulan_levels), predicted], axis=1
    )

  def _conditioning(
    self, batch: Batch, num_mulan_levels: int | Array | None
  ) -> Tokens:
    """The ids before the predicted segment."""
    layout, parts = self.layout, []
    read = conditioning_codes(layout, batch, num_mulan_levels)
    for index, codes in enumerate(read):
      segment = layout.segments[index]
      ids = flatten_codes(codes, layout.offset(index), segment.codebook_size)
      if segment.stream in layout.dropped:
        known = codes.reshape(ids.shape) >= 0
        ids = jnp.where(known, ids, layout.mask_id(segment.stream))
      parts.append(ids)
    return jnp.concatenate(parts, axis=1)

  def predict(
    self, params: Params, tokens: Tokens, batch: Batch, **options
  ) -> tuple[Float[Array, 'B T Q K'], Codes]:
    """Logits of all predicted tokens, and what they should say."""
    logits = self.model.apply({'params': params['lm']}, tokens, **options)
    return logits, codes_of(batch, self.layout.predicted)


def can_guide(
  layout: Layout, num_mulan_levels: int | None, negative: Codes | None
) -> bool:
  """Whether guidance has something to push away from."""
  return bool(
    negative is not None
    or num_mulan_levels != 0
    or 'semantic' in layout.dropped
  )


def pushed_away_from(
  layout: Layout,
  conditioning: Batch,
  num_mulan_levels: int | Array | None,
  negative: Codes | None,
) -> tuple[Batch, int | Array | None]:
  """What guidance pushes away from, and the MuLan levels of it that are read.

  Arguments are those of `LanguageModel.known`.
  """
  if negative is not None:
    return {**conditioning, 'mulan': negative}, num_mulan_levels
  if 'semantic' in layout.dropped:
    return without_semantic(conditioning), 0
  return conditioning, 0


def conditioning_codes(
  layout: Layout, batch: Batch, num_mulan_levels: int | Array | None = None
) -> list[Codes]:
  """Cuts what conditions out of a batch.

  Args:
    layout: What is read.
    batch: See `TokenLMTask`.
    num_mulan_levels: MuLan levels kept, one number or one per row; others
      become `UNKNOWN`. None keeps all.

  Returns:
    Codes [B, T, Q] of each segment but the predicted one.
  """
  codes = [codes_of(batch, segment) for segment in layout.segments[:-1]]
  if num_mulan_levels is not None:
    kept = jnp.reshape(jnp.asarray(num_mulan_levels), (-1, 1, 1))
    levels = jnp.arange(layout.mulan.num_levels)
    codes[0] = jnp.where(levels < kept, codes[0], UNKNOWN)
  return codes


def without_semantic(batch: Batch, rows: Array | bool = True) -> Batch:
  """Forgets the semantic tokens of a batch.

  Args:
    batch: See `TokenLMTask`.
    rows: Which ones forget, bool [B] or one for all.
  """
  semantic = jnp.asarray(batch['semantic'])
  forgotten = jnp.reshape(jnp.asarray(rows), (-1, 1))
  return {**batch, 'semantic': jnp.where(forgotten, UNKNOWN, semantic)}


def codes_of(batch: Batch, segment: Segment) -> Codes:
  """Cuts a segment's codes [B, T, Q] out of its stream.

  Raises:
    ValueError: If the stream is not as long as the layout's crop.
  """
  codes = jnp.asarray(batch[segment.stream])
  if segment.frame_rate == 0.0:  # one frame a clip
    codes = codes[:, None]
  elif codes.ndim == 2:
    codes = codes[..., None]
  stop = segment.first_level + segment.num_levels
  if codes.shape[1] != segment.num_frames or codes.shape[2] < stop:
    raise ValueError(
      f"stream '{segment.stream}' has {codes.shape[1]} frames of "
      f'{codes.shape[2]} levels; the layout wants {segment.num_frames} frames '
      f'and levels up to {stop}'
    )
  return codes[:, :, segment.first_level : stop]


def token_nll(
  logits: Float[Array, 'B T Q K'], codes: Codes
) -> Float[Array, 'B T Q']:
  """Returns -log p of each code in nats, in float32."""
  logits = logits.astype(jnp.float32)
  chosen = jnp.take_along_axis(logits, codes[..., None], axis=-1)[..., 0]
  return jax.nn.logsumexp(logits, axis=-1) - chosen
