"""The one table: a stage's name -> what it builds, reads, needs and makes.

Only this file and the commands read configs; a bundle stores the resolved
config as JSON and is rebuilt here. A section of a config is splatted once, into
what it is named after, so a key that nothing reads cannot exist.

Importing this loads no jax: what a stage builds is imported when it is built.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from musiclm_jax.contracts.audio import SAMPLE_RATE
from musiclm_jax.contracts.bounds import look_up
from musiclm_jax.contracts.stored_config import arguments, in_float32

if TYPE_CHECKING:
  import jax

  from musiclm_jax.contracts.task import Task
  from musiclm_jax.embedding_rvq.quantizer import EmbeddingQuantizer
  from musiclm_jax.melody.embedder import MelodyEmbedder
  from musiclm_jax.mulan.embedder import MulanEmbedder
  from musiclm_jax.parallel_lm.decoder import ParallelDecoder
  from musiclm_jax.soundstream.codec import Codec
  from musiclm_jax.token_lm.language_model import LanguageModel
  from musiclm_jax.token_lm.layout import Layout
  from musiclm_jax.w2v_bert.features import SemanticCodebook, SemanticFeatures

  Inference = (
    Codec
    | SemanticFeatures
    | SemanticCodebook
    | MulanEmbedder
    | EmbeddingQuantizer
    | MelodyEmbedder
    | LanguageModel
    | ParallelDecoder
  )
  Shapes = dict[str, jax.ShapeDtypeStruct]

Config = Mapping[str, Any]

Kind = Literal['network', 'codebook', 'language model', 'parallel decoder']
_MAKE_CODES = ('network', 'codebook')
# What `cascade.stage_data` opens; the shapes stand beside each stage.
Batches = Literal[
  'waveforms',
  'captioned waveforms',
  'melodies',
  'features',
  'embeddings of pairs',
  'embeddings of windows',
  'tokens',
]


@dataclasses.dataclass(frozen=True)
class Fit:
  """The frozen network whose outputs a codebook stands for.

  Attributes:
    network: The network's stage.
    width_key: Of the network's `config['model']`: how wide its outputs are.
    width: That width at the paper's size.
  """

  network: str
  width_key: str
  width: int


@dataclasses.dataclass(frozen=True)
class Stage:
  """One stage of the cascade.

  Attributes:
    kind: Whether it is a network, a codebook of one's outputs, a token LM or
      what takes the place of some LMs, beside a cascade.
    task: Config -> how it is trained.
    inference: Config -> how it is used: no losses, no players but its own.
    batches: What it learns from.
    shapes: Config -> the global batches, name -> shape and dtype.
    fit: Of a codebook.
    makes: The token stream that comes out of it.
    reads: Token streams that it reads or predicts.
    optional: Whether a cascade can do without.
    layout: Config -> what is read and predicted of tokens.
    text_tower: Config and a BERT's folder -> parameters to start from.
  """

  kind: Kind
  task: Callable[[Config], Task]
  inference: Callable[[Config], Inference]
  batches: Batches
  shapes: Callable[[Config], Shapes]
  fit: Fit | None = None
  makes: str | None = None
  reads: tuple[str, ...] = ()
  optional: bool = False
  layout: Callable[[Config], Layout] | None = None
  text_tower: Callable[[Config, str], dict[str, Any]] | None = None


def build(config: Config) -> Task:
  """Builds the training task of a ConfigDict, or of one stored as JSON.

  Raises:
    UsageError: If the config names no known stage.
  """
  return find(config.get('stage')).task(config)


def build_inference(config: Config) -> Inference:
  """Builds what a trained stage is used with, of a stored config.

  What makes codes computes in float32, however it was trained; what models
  them computes as it was trained. What only training needs, such as
  discriminators, need not be in the config.

  Raises:
    UsageError: As `build`.
  """
  stage = find(config.get('stage'))
  makes_codes = stage.kind in _MAKE_CODES
  return stage.inference(in_float32(config) if makes_codes else config)


def batch_shapes(config: Config) -> Shapes:
  """Describes the global batches that `cascade.stage_data` draws, by name.

  The first axis is `config['data']['batch_size']`, times the windows of a crop
  where a melody quantizer is fitted; features are as wide as at paper size.
  """
  return find(config['stage']).shapes(config)


def resolved(config: Config) -> dict[str, Any]:
  """Fills in what a config leaves open, as a workdir and a bundle store it.

  Which is how far distances reach in what models tokens; see `make_lm`.

  Raises:
    UsageError: As `build`.
  """
  if 'layout' not in config:
    return dict(config)
  transformer = find(config['stage']).inference(config).model.transformer
  distance = transformer.relative_max_distance
  return {
    **config,
    'model': {**config['model'], 'relative_max_distance': distance},
  }


def find(name: str | None) -> Stage:
  """Looks a stage up.

  Raises:
    UsageError: If there is none of that name; the known ones are listed.
  """
  return look_up(STAGES, name, 'stage')


def token_stages(stream: str) -> tuple[str, ...]:
  """Names the stages that make a stream's tokens of music, in their order."""
  last = next(name for name, stage in STAGES.items() if stage.makes == stream)
  fit = STAGES[last].fit
  return (fit.network, last) if fit else (last,)


def _loss(config: Config, *, windows: bool) -> dict[str, Any]:
  """Arguments of an embedder, windows, or of its task, which stand together."""
  loss = config['loss'].items()
  return {key: v for key, v in loss if key.startswith('window_') == windows}


def _horizon(config: Config) -> dict[str, Any]:
  """How long the training is meant to be, and was meant to be before."""
  from musiclm_jax.contracts.horizon import Horizon

  return vars(Horizon.of(config['schedule']))


def _codec(config: Config) -> Codec:
  from musiclm_jax.soundstream.codec import Codec
  from musiclm_jax.soundstream.seanet import SoundStream

  return Codec(SoundStream(**arguments(config['model'])))


def _soundstream(config: Config) -> Task:
  from musiclm_jax.soundstream.discriminators import Discriminators
  from musiclm_jax.soundstream.task import SoundStreamTask

  return SoundStreamTask(
    codec=_codec(config),
    discriminators=Discriminators(**arguments(config['discriminators'])),
    **_horizon(config),
    **arguments(config['loss']),
  )


def _features(config: Config) -> SemanticFeatures:
  from musiclm_jax.w2v_bert.features import SemanticFeatures
  from musiclm_jax.w2v_bert.model import W2vBert

  return SemanticFeatures(W2vBert(**arguments(config['model'])))


def _w2v_bert(config: Config) -> Task:
  from musiclm_jax.w2v_bert.task import W2vBertTask

  return W2vBertTask(
    semantic=_features(config),
    **_horizon(config),
    **config['loss'],
  )


def _codebook(config: Config) -> SemanticCodebook:
  from musiclm_jax.w2v_bert.features import SemanticCodebook

  return SemanticCodebook(**config['model'])


def _kmeans(config: Config) -> Task:
  from musiclm_jax.w2v_bert.kmeans_task import KMeansTask

  return KMeansTask(
    codebook=_codebook(config),
    total_steps=config['schedule']['total_steps'],
    **config['loss'],
  )


def _mulan_embedder(config: Config) -> MulanEmbedder:
  from musiclm_jax.mulan.embedder import MulanEmbedder
  from musiclm_jax.mulan.model import make_mulan

  model = make_mulan(**arguments(config['model']))
  return MulanEmbedder(model, **_loss(config, windows=True))


def _mulan(config: Config) -> Task:
  from musiclm_jax.mulan.task import MulanTask

  return MulanTask(
    mulan=_mulan_embedder(config), **_loss(config, windows=False)
  )


def _text_tower(config: Config, folder: str) -> dict[str, Any]:
  from musiclm_jax.interop import bert
  from musiclm_jax.mulan.embedder import PLAYER

  params, _ = bert.read(folder, dict(config['model']['text']))
  return {PLAYER: {'text_tower': params}}


def _melody_embedder(config: Config) -> MelodyEmbedder:
  from musiclm_jax.melody.embedder import MelodyEmbedder
  from musiclm_jax.melody.model import Intervals, MelodyViT

  model = arguments(config['model'])
  intervals = model.pop('intervals', None)
  if intervals is not None:
    model['intervals'] = Intervals(**intervals)
  return MelodyEmbedder(MelodyViT(**model), **_loss(config, windows=True))


def _melody(config: Config) -> Task:
  from musiclm_jax.melody.task import MelodyTask

  return MelodyTask(
    melody=_melody_embedder(config), **_loss(config, windows=False)
  )


def _quantizer(config: Config) -> EmbeddingQuantizer:
  from musiclm_jax.embedding_rvq.quantizer import EmbeddingQuantizer

  return EmbeddingQuantizer(config['stage'], **config['model'])


def _embedding_rvq(config: Config) -> Task:
  from musiclm_jax.embedding_rvq.task import EmbeddingRvqTask

  return EmbeddingRvqTask(
    rvq=_quantizer(config),
    # What an embedding can be of; the first one's are quantized.
    modalities=tuple(batch_shapes(config)),
    total_steps=config['schedule']['total_steps'],
    **config['loss'],
  )


def _layout(config: Config) -> Layout:
  from musiclm_jax.token_lm.layout import make_layout

  # What an LM learns to do without has a mask, as a token of its own.
  without = config['loss'].get('no_semantic_probability', 0.0)
  return make_layout(
    config['stage'],
    crop_seconds=config['data']['crop_seconds'],
    semantic_mask=without > 0.0,
    **config['layout'],
  )


def _language_model(config: Config) -> LanguageModel:
  from musiclm_jax.token_lm.language_model import LanguageModel
  from musiclm_jax.token_lm.model import make_lm

  return LanguageModel(make_lm(_layout(config), **config['model']))


def _token_lm(config: Config) -> Task:
  from musiclm_jax.token_lm.task import TokenLMTask

  return TokenLMTask(lm=_language_model(config), **config['loss'])


def _parallel_decoder(config: Config) -> ParallelDecoder:
  from musiclm_jax.parallel_lm.decoder import ParallelDecoder
  from musiclm_jax.parallel_lm.model import make_parallel_lm

  return ParallelDecoder(make_parallel_lm(_layout(config), **config['model']))


def _parallel_lm(config: Config) -> Task:
  from musiclm_jax.parallel_lm.task import ParallelTask

  return ParallelTask(decoder=_parallel_decoder(config), **config['loss'])


def _rows(config: Config, *shape: int, dtype: str = 'float32') -> Any:
  """An array with a batch's examples along its first axis."""
  import jax

  size = config['data']['batch_size']
  return jax.ShapeDtypeStruct((size, *shape), dtype)


def _samples(config: Config) -> int:
  """Samples of a crop."""
  return round(config['data']['crop_seconds'] * SAMPLE_RATE)


def _width(config: Config) -> int:
  """Width of what a codebook is fitted to."""
  return STAGES[config['stage']].fit.width


def _waveforms(config: Config) -> Shapes:
  """`waveform` [B, S]; with noise also what goes in and where to denoise."""
  waveform = _rows(config, _samples(config))
  if not config['data'].get('noise_probability'):
    return {'waveform': waveform}
  denoise = _rows(config, dtype='bool')
  return {'waveform': waveform, 'input': waveform, 'denoise': denoise}


def _captioned(config: Config) -> Shapes:
  """`waveform` [B, S], `text_ids` [B, C, L], `group` [B], perhaps marks."""
  data = config['data']
  captions = data['captions_per_crop']
  shapes = {'text_ids': (captions, data['text_length']), 'group': ()}
  if data.get('mark_true_pairs'):
    from musiclm_jax.mulan.task import FACT_WORDS

    words = (FACT_WORDS,)
    shapes |= {'piece': (), 'facts': words, 'claims': (captions, *words)}
  return {'waveform': _rows(config, _samples(config))} | {
    name: _rows(config, *shape, dtype='int32') for name, shape in shapes.items()
  }


def _takes(config: Config) -> Shapes:
  """`waveform` [B, 2, S], two takes of each melody, `group` [B]."""
  return {
    'waveform': _rows(config, 2, _samples(config)),
    'group': _rows(config, dtype='int32'),
  }


def _frames(config: Config) -> Shapes:
  """`features` [B, T, D]."""
  from musiclm_jax.w2v_bert.frontend import SAMPLES_PER_FRAME

  frames = _samples(config) // SAMPLES_PER_FRAME
  return {'features': _rows(config, frames, _width(config))}


def _pairs(config: Config) -> Shapes:
  """`audio` and `text` [B, D]."""
  return {name: _rows(config, _width(config)) for name in ('audio', 'text')}


def _window_rows(config: Config) -> Shapes:
  """`audio` [B * windows, D]."""
  import jax

  from musiclm_jax.melody.embedder import MelodyEmbedder

  windows = MelodyEmbedder.num_windows(_samples(config))
  rows = config['data']['batch_size'] * windows
  return {'audio': jax.ShapeDtypeStruct((rows, _width(config)), 'float32')}


def _tokens(config: Config) -> Shapes:
  """Streams that the layout reads or predicts, with all their levels."""
  shapes = {}
  for segment in _layout(config).segments:
    shape = {
      'mulan': (segment.num_levels,),
      'semantic': (segment.num_frames,),
      'acoustic': (segment.num_frames, config['layout']['acoustic_levels']),
      'melody': (segment.num_frames, segment.num_levels),
    }[segment.stream]
    shapes[segment.stream] = _rows(config, *shape, dtype='int32')
  return shapes


# Kind, task, inference, batches and their shapes.
STAGES: Mapping[str, Stage] = {
  'soundstream': Stage(
    *('network', _soundstream, _codec, 'waveforms', _waveforms),
    makes='acoustic',
  ),
  'w2v_bert': Stage(
    *('network', _w2v_bert, _features, 'waveforms', _waveforms),
  ),
  'kmeans': Stage(
    *('codebook', _kmeans, _codebook, 'features', _frames),
    fit=Fit('w2v_bert', 'embed_dim', 1024),
    makes='semantic',
  ),
  'mulan': Stage(
    *('network', _mulan, _mulan_embedder, 'captioned waveforms', _captioned),
    text_tower=_text_tower,
  ),
  'mulan_rvq': Stage(
    *('codebook', _embedding_rvq, _quantizer, 'embeddings of pairs', _pairs),
    fit=Fit('mulan', 'embed_dim', 128),
    makes='mulan',
  ),
  'melody': Stage(
    *('network', _melody, _melody_embedder, 'melodies', _takes),
    optional=True,
  ),
  'melody_rvq': Stage(
    *('codebook', _embedding_rvq, _quantizer),
    *('embeddings of windows', _window_rows),
    fit=Fit('melody', 'output_dim', 192),
    makes='melody',
    optional=True,
  ),
  'semantic': Stage(
    *('language model', _token_lm, _language_model, 'tokens', _tokens),
    reads=('mulan', 'melody', 'semantic'),
    layout=_layout,
  ),
  'coarse': Stage(
    *('language model', _token_lm, _language_model, 'tokens', _tokens),
    reads=('mulan', 'melody', 'semantic', 'acoustic'),
    layout=_layout,
  ),
  'fine': Stage(
    *('language model', _token_lm, _language_model, 'tokens', _tokens),
    reads=('mulan', 'acoustic'),
    layout=_layout,
  ),
  'parallel': Stage(
    *('parallel decoder', _parallel_lm, _parallel_decoder, 'tokens', _tokens),
    reads=('mulan', 'semantic', 'acoustic'),
    layout=_layout,
    optional=True,
  ),
}


def _stages(*kinds: Kind, optional: bool = False) -> tuple[str, ...]:
  """Names those of some kinds that a cascade can, or cannot, do without."""
  return tuple(
    name
    for name, stage in STAGES.items()
    if stage.kind in kinds and stage.optional == optional
  )


LANGUAGE_MODELS = _stages('language model')
# Stages that music or texts become tokens with; a cascade needs all of these,
TOKENIZERS = _stages(*_MAKE_CODES)
# and these where melodies condition it.
OPTIONAL = _stages(*_MAKE_CODES, optional=True)
