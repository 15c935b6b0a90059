"""The one table: stage name -> builder of its task from a config.

Only this file and the doors read configs; a bundle stores the resolved config
as JSON and is rebuilt here. A section of a config is splatted once, into what
it is named after, so a key that nothing reads cannot exist.
"""

from collections.abc import Callable, Mapping
from typing import Any

from musiclm_jax.contracts.bounds import look_up
from musiclm_jax.contracts.task import Task

Config = Mapping[str, Any]
# What an embedding can be of; the first one's are quantized.
_MODALITIES = {'mulan_rvq': ('audio', 'text'), 'melody_rvq': ('audio',)}


def _frozen(section: Mapping[str, Any]) -> dict[str, Any]:
  """A section as keyword arguments; lists (JSON has no tuples) as tuples."""

  def freeze(value: Any) -> Any:
    if isinstance(value, Mapping):
      return {key: freeze(inner) for key, inner in value.items()}
    return tuple(map(freeze, value)) if isinstance(value, list) else value

  return {key: freeze(value) for key, value in section.items()}


def _soundstream(config: Config) -> Task:
  from musiclm_jax.soundstream.discriminators import Discriminators
  from musiclm_jax.soundstream.seanet import SoundStream
  from musiclm_jax.soundstream.task import SoundStreamTask

  return SoundStreamTask(
    codec=SoundStream(**_frozen(config['model'])),
    discriminators=Discriminators(**_frozen(config['discriminators'])),
    total_steps=config['schedule']['total_steps'],
    **config['loss'],
  )


def _w2v_bert(config: Config) -> Task:
  from musiclm_jax.w2v_bert.model import W2vBert
  from musiclm_jax.w2v_bert.task import W2vBertTask

  return W2vBertTask(
    model=W2vBert(**_frozen(config['model'])),
    total_steps=config['schedule']['total_steps'],
    **config['loss'],
  )


def _kmeans(config: Config) -> Task:
  from musiclm_jax.w2v_bert.kmeans_task import KMeansTask

  return KMeansTask(
    total_steps=config['schedule']['total_steps'],
    **config['model'],
    **config['loss'],
  )


def _mulan(config: Config) -> Task:
  from musiclm_jax.mulan.model import make_mulan
  from musiclm_jax.mulan.task import MulanTask

  return MulanTask(
    model=make_mulan(**_frozen(config['model'])), **config['loss']
  )


def _embedding_rvq(config: Config) -> Task:
  from musiclm_jax.embedding_rvq.task import EmbeddingRvqTask

  return EmbeddingRvqTask(
    player=config['stage'],
    modalities=_MODALITIES[config['stage']],
    total_steps=config['schedule']['total_steps'],
    **config['model'],
    **config['loss'],
  )


def _melody(config: Config) -> Task:
  from musiclm_jax.melody.intervals import Intervals
  from musiclm_jax.melody.model import MelodyViT
  from musiclm_jax.melody.task import MelodyTask

  model = _frozen(config['model'])
  intervals = model.pop('intervals', None)
  if intervals is not None:
    model['intervals'] = Intervals(**intervals)
  return MelodyTask(model=MelodyViT(**model), **config['loss'])


def _token_lm(config: Config) -> Task:
  from musiclm_jax.token_lm.layout import make_layout
  from musiclm_jax.token_lm.model import make_lm
  from musiclm_jax.token_lm.task import TokenLMTask

  layout = make_layout(
    config['stage'],
    crop_seconds=config['data']['crop_seconds'],
    **config['layout'],
  )
  return TokenLMTask(lm=make_lm(layout, **config['model']), **config['loss'])


def _text_tower(config: Config, folder: str) -> dict[str, Any]:
  from musiclm_jax.mulan import bert_weights, task

  tower = config['model']['text']
  params, _ = bert_weights.read(folder, dict(tower))
  return {task.PLAYER: {'text_tower': params}}


STAGES: Mapping[str, Callable[[Config], Task]] = {
  'soundstream': _soundstream,
  'w2v_bert': _w2v_bert,
  'kmeans': _kmeans,
  'mulan': _mulan,
  'mulan_rvq': _embedding_rvq,
  'melody': _melody,
  'melody_rvq': _embedding_rvq,
  'semantic': _token_lm,
  'coarse': _token_lm,
  'fine': _token_lm,
}


# Stages that can start from a published text tower, and its parameters.
TEXT_TOWERS: Mapping[str, Callable[[Config, str], dict[str, Any]]] = {
  'mulan': _text_tower,
}


def build(config: Config) -> Task:
  """Builds the task that a config describes.

  Args:
    config: A ConfigDict, or the nested dict that a workdir or bundle stores.

  Raises:
    UsageError: If the config names no known stage.
  """
  return look_up(STAGES, config.get('stage'), 'stage')(config)


def build_exact(config: Config) -> Task:
  """Builds a network that makes codes: in float32, however it was trained.

  Raises:
    UsageError: As `build`.
  """
  return build(_in_float32(config))


def _in_float32(section: Config) -> dict[str, Any]:
  """A config in which every `dtype` is float32."""
  return {
    key: _in_float32(value)
    if isinstance(value, Mapping)
    else ('float32' if key == 'dtype' else value)
    for key, value in section.items()
  }
