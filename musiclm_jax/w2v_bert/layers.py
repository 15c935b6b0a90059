"""Every layer of w2v-BERT, for probes: waveform [B, S] -> name -> [B, T, D].

Which block should make the semantic tokens is a question to one's own data;
AudioLM (§4.1) takes the seventh of twelve, chosen on speech.
"""

import jax

from musiclm_jax.contracts.array_types import Latents, Spectrogram, Waveform
from musiclm_jax.contracts.task import Collections, Params
from musiclm_jax.nn.conformer import Conformer
from musiclm_jax.w2v_bert import frontend
from musiclm_jax.w2v_bert.model import W2vBert
from musiclm_jax.w2v_bert.task import PLAYER, W2vBertTask

_MODULES = {'contrastive': 'contrastive', 'masked': 'masked_prediction'}


def names(task: W2vBertTask) -> list[str]:
  """Names the layers from the bottom up."""
  model = task.model
  return [
    *('input', 'subsampling', 'projection'),
    *(f'contrastive_{i + 1}' for i in range(model.contrastive_blocks)),
    *(f'masked_{i + 1}' for i in range(model.masked_blocks)),
  ]


def token_layer(task: W2vBertTask) -> str:
  """Names the layer whose features become semantic tokens."""
  return f'masked_{task.feature_block}'


def features(
  task: W2vBertTask,
  params: Params,
  collections: Collections,
  waveform: Waveform,
) -> dict[str, Latents]:
  """Computes the output of every layer, nothing hidden.

  Args:
    task: Of the network.
    params: Its parameters.
    collections: Its statistics.
    waveform: float32 [B, S] at 24 kHz.

  Returns:
    Each of `names`, float32 [B, S // 960, D], D its own below the projection;
    `input` is what the network hears in 40 ms, side by side. That of
    `token_layer` is what `W2vBertTask.features` returns.
  """
  model, own = task.model, params[PLAYER]
  statistics = collections[PLAYER].get('batch_stats', {})
  mels = task.inputs(collections, waveform)
  heard, latents, x = model.apply(
    {'params': own}, mels, method=_below_the_blocks
  )
  found = {'input': heard, 'subsampling': latents, 'projection': x}
  block = Conformer(
    1,
    model.num_heads,
    model.mlp_dim,
    model.kernel_size,
    model.conv_norm,
    dtype=model.dtype,
  )
  counts = model.contrastive_blocks, model.masked_blocks
  for (name, module), count in zip(_MODULES.items(), counts, strict=True):
    stacked = {'params': own[module], 'batch_stats': statistics.get(module, {})}
    for i in range(count):
      x = block.apply(jax.tree.map(lambda a, i=i: a[i : i + 1], stacked), x)
      found[f'{name}_{i + 1}'] = x
  return {name: layer.astype('float32') for name, layer in found.items()}


def _below_the_blocks(
  model: W2vBert, mels: Spectrogram
) -> tuple[Latents, Latents, Latents]:
  heard = model.heard(mels)
  frames = mels.shape[1] // frontend.MELS_PER_FRAME
  latents = model.subsampling(heard)
  return (
    heard.reshape(len(mels), frames, -1),
    latents,
    model.projection(latents),
  )
