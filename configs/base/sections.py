"""The sections of every config, and how a size's numbers come into them."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

TINY_CORPUS = 'rendered_music:runs/cascade/corpus'
SMALL_CORPUS = 'rendered_music:runs/small/corpus'
_EVERY = {
  'seed': 0,
  'optimizer': {},
  # Who reads batches ahead; 0: as suits the number of cores.
  'data': {'read_threads': 0, 'read_processes': 0},
  'schedule': {'log_every': 10, 'keep_every': 0, 'keep_best': ''},
  'training': {'accumulation': 1, 'ema_decay': 0.0},
  # Parameters over all devices: fsdp=0 takes what tensor leaves.
  'mesh': {'fsdp': 1, 'tensor': 1},
}
# What moves a player, if its config does not say otherwise.
PLAYER = {
  'name': 'adam',
  'schedule': 'cosine',
  'b1': 0.9,
  'weight_decay': 0.0,
  'clip_norm': 1.0,
}


def of_size(sizes: Mapping[str, Any], size: str) -> Any:
  """Takes what a config says of one size.

  Raises:
    ValueError: If there is no such size.
  """
  if size not in sizes:
    raise ValueError(f"unknown size '{size}': choose one of {', '.join(sizes)}")
  return sizes[size]


def make_config(stage: str, *layers: Mapping[str, Any]) -> ConfigDict:
  """Lays sections over those that every config has.

  Args:
    stage: In `stages.STAGES`.
    *layers: Nested dicts of sections; a later one's keys replace or join those
      of an earlier one. A run saves whenever it evaluates.
  """
  config = ConfigDict({'stage': stage})
  for layer in (_EVERY, *layers):
    config.update(layer)
  config.schedule.save_every = config.schedule.eval_every
  return config
