"""What a stage's batch looks like, from its config alone: no data is read."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from musiclm_jax.contracts.audio import SAMPLE_RATE
from musiclm_jax.dsp.framing import num_frames
from musiclm_jax.token_lm.layout import make_layout

_SEMANTIC_HOP = 960  # samples a frame of w2v-BERT's features
_MELODY_WINDOW, _MELODY_HOP = 4 * SAMPLE_RATE, 3 * SAMPLE_RATE
# Widths of what frozen networks hear, at the papers' sizes.
WIDTHS = {'kmeans': 1024, 'mulan_rvq': 128, 'melody_rvq': 192}

Shapes = dict[str, jax.ShapeDtypeStruct]


def batch_shapes(config: Mapping[str, Any]) -> Shapes:
  """Describes the global batches that `stage_data.open_data` draws.

  Args:
    config: Of any stage; a fit's features are as wide as in `WIDTHS`.

  Returns:
    Name -> shape and dtype, the first axis `config['data']['batch_size']`
    (times the windows of a crop where a melody quantizer is fitted).
  """
  stage, data = config['stage'], config['data']
  size = data['batch_size']
  samples = round(data['crop_seconds'] * SAMPLE_RATE)

  def floats(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((size, *shape), np.float32)

  def integers(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((size, *shape), np.int32)

  if stage == 'soundstream' and data['noise_probability']:
    flags = jax.ShapeDtypeStruct((size,), np.bool_)
    heard = {'heard': floats(samples), 'denoise': flags}
    return {'waveform': floats(samples)} | heard
  if stage in ('soundstream', 'w2v_bert'):
    return {'waveform': floats(samples)}
  if stage == 'mulan':
    captions = integers(data['captions_per_crop'], data['text_length'])
    waveform = floats(samples)
    return {'waveform': waveform, 'text_ids': captions, 'group': integers()}
  if stage == 'melody':
    return {'waveform': floats(2, samples), 'group': integers()}
  if stage == 'kmeans':
    return {'features': floats(samples // _SEMANTIC_HOP, WIDTHS[stage])}
  if stage == 'mulan_rvq':
    return {name: floats(WIDTHS[stage]) for name in ('audio', 'text')}
  if stage == 'melody_rvq':
    size *= num_frames(samples, _MELODY_WINDOW, _MELODY_HOP)
    return {'audio': floats(WIDTHS[stage])}
  return _token_shapes(config, integers)


def _token_shapes(config: Mapping[str, Any], integers: Any) -> Shapes:
  """Streams that the layout reads or predicts, with all their levels."""
  layout = make_layout(
    config['stage'],
    crop_seconds=config['data']['crop_seconds'],
    **config['layout'],
  )
  shapes = {}
  for segment in layout.segments:
    if segment.stream == 'mulan':
      shapes['mulan'] = integers(segment.num_levels)
    elif segment.stream == 'semantic':
      shapes['semantic'] = integers(segment.num_frames)
    elif segment.stream == 'acoustic':
      levels = config['layout']['acoustic_levels']
      shapes['acoustic'] = integers(segment.num_frames, levels)
    else:
      shapes['melody'] = integers(segment.num_frames, segment.num_levels)
  return shapes
