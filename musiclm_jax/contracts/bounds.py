"""Checks of what a user gives: numbers within bounds, names in a table.

In flags, and in configs, whose keys mean the same wherever they stand.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from musiclm_jax.contracts.errors import UsageError

Bounds = tuple[float, float]

_MAX = 2**31 - 1  # of int32
SEED = (0, 2**32 - 1)  # of two larger ones jax may make the same key
DTYPES = ('float32', 'bfloat16', 'float16')
DEMO_SEED = (0, SEED[1] // 2 - 1)  # whose prompts are made with two seeds
PIECES = (3, 10_000_000)  # of a rendered corpus, one a split at least
COUNT = (1, _MAX)
_STEPS = (0, _MAX)
_SHARE = (0.0, 1.0)
_DECAY = (0.0, 1 - 1e-9)  # a mean that decays by 1 never moves
_WEIGHT = (0.0, 1e9)
_POSITIVE = (1e-9, 1e9)
_SECONDS = (1e-3, 86_400.0)
_FINITE = (-1e300, 1e300)


def _of_all(names: str, bounds: Bounds) -> dict[str, Bounds]:
  return dict.fromkeys(names.split(), bounds)


# The last part of a config's key -> its bounds. A list's are of each entry.
CONFIG: Mapping[str, Bounds] = {
  'seed': SEED,
  'num_cepstra': (0, 4096),
  'low_hz': (1.0, 1e6),  # of which bands may take the logarithm
  'num_mels': (4, 4096),  # two strides of 2 follow
  # Windows, of which a quarter is a hop, and mels.
  **_of_all('mel_scales stft_windows', (4, 65_536)),
  'fsdp': (0, _MAX),
  **_of_all('read_threads read_processes', (0, 1024)),
  **_of_all(
    'total_steps batch_size captions_per_crop tunes vocabulary_size vocab_size '
    'accumulation tensor scan_unroll num_layers embed_dim num_heads head_dim '
    'mlp_dim output_dim code_dim latent_dim channels width stft_channels '
    'wave_channels wave_max_channels num_scales strides stage_blocks '
    'conv_channels kernel_size contrastive_blocks masked_blocks segments '
    'max_length num_quantizers num_levels codebook_size fft_size '
    'window_length hop_length mulan_levels mulan_codebook_size '
    'semantic_codebook_size acoustic_codebook_size acoustic_levels '
    'melody_levels melody_codebook_size relative_max_distance '
    'frames_per_centroid pieces_per_code num_distractors mask_span',
    COUNT,
  ),
  **_of_all('text_length relative_buckets', (2, _MAX)),
  **_of_all(
    'log_every eval_every save_every keep_every warmup_steps eval_batches '
    'statistics_steps kmeans_iterations lloyd_iterations coarse_levels '
    'time_buckets feature_depth',
    _STEPS,
  ),
  **_of_all(
    'noise_probability other_window_probability all_levels_probability '
    'no_levels_probability no_melody_probability no_semantic_probability '
    'wrong_level_probability first_level_probability '
    'mask_probability band_share voice_share '
    'tempo_change dropout_rate quantizer_dropout frame_mask '
    'band_mask adversarial_start adversarial_warmup contrastive_only '
    'dead_share quantizer_gradient split_share',
    _SHARE,
  ),
  **_of_all('b1 b2 decay codebook_decay ema_decay', _DECAY),
  **_of_all(
    'adversarial_weight commitment_weight diversity_weight feature_weight '
    'reconstruction_weight waveform_weight log_stft_weight weight_decay '
    'clip_norm margin learning_rate text_tower dead_threshold time_peak',
    _WEIGHT,
  ),
  **_of_all(
    'gain relative_gain embedding_scale initial_temperature '
    'contrastive_temperature first_temperature last_temperature high_hz '
    'reach_semitones quantizer_inertia',
    _POSITIVE,
  ),
  **_of_all('acoustic_frame_rate semantic_frame_rate', (0.1, 1e5)),
  **_of_all(
    'crop_seconds window_seconds window_hop_seconds lag_seconds '
    'melody_window_seconds melody_hop_seconds attention_seconds',
    _SECONDS,
  ),
}


def check(name: str, value: float, bounds: Bounds) -> None:
  """Refuses a number outside of its bounds, and what is no number.

  Args:
    name: As the user gave it, such as `--seed`.
    value: Any; NaN and infinities are outside of all bounds.
    bounds: The least and the most, which are inside.

  Raises:
    UsageError: If it is outside.
  """
  least, most = bounds
  if not least <= value <= most:
    raise UsageError(
      f'{name}={value}: choose a number from {least:.10g} to {most:.10g}'
    )


def look_up(table: Mapping[str, Any], name: str, what: str) -> Any:
  """Takes an entry by the name that a config gives.

  Args:
    table: Of all that can be named.
    name: As the config has it.
    what: That is named.

  Raises:
    UsageError: If it is not there, with all that are.
  """
  if name not in table:
    raise UsageError(
      f"unknown {what} '{name}': choose one of {', '.join(table)}"
    )
  return table[name]


def check_config(config: Mapping[str, Any]) -> None:
  """Refuses the first number of a config that is outside of its bounds.

  A key that is not in `CONFIG`, of a config of the user's own, must be finite.
  Compute types are looked up in `DTYPES`.

  Raises:
    UsageError: Naming the key.
  """
  for key, value in _values(config):
    last = key.rsplit('.', 1)[-1]
    if last == 'dtype':
      look_up(dict.fromkeys(DTYPES), value, f'--config.{key}')
    elif isinstance(value, int | float) and not isinstance(value, bool):
      check(f'--config.{key}', value, CONFIG.get(last, _FINITE))


def _values(node: Any, key: str = '') -> Iterator[tuple[str, Any]]:
  """Dotted keys and values; each of a list under the list's own key."""
  if hasattr(node, 'items'):
    for name, value in node.items():
      yield from _values(value, f'{key}.{name}' if key else name)
  elif isinstance(node, list | tuple):
    for value in node:
      yield from _values(value, key)
  else:
    yield key, node
