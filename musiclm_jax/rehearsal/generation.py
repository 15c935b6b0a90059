"""A rehearsal of generation: config and topology -> cost of a second of music.

What a stage runs to make codes or sound is compiled for the slice. Its work
over what chips can do is the least time that it takes: chips that wait for
each other, and what XLA writes beside, make it more.

A slice makes as many pieces at once as it has copies of the parameters; each
copy lies on `mesh.tensor` chips. Windows are those of the middle of a piece.
"""

import dataclasses
import functools
import math
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from musiclm_jax import stages
from musiclm_jax.cascade import decoder
from musiclm_jax.cascade.stage_run import MAX_CHUNKS, STAGES
from musiclm_jax.contracts import sharding
from musiclm_jax.contracts.array_types import PyTree
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.nn.attention import Cache
from musiclm_jax.rehearsal.collectives import collectives, links_of
from musiclm_jax.rehearsal.rehearsal import Config, Memory, plan, versions
from musiclm_jax.rehearsal.topology import Topology
from musiclm_jax.token_lm import decode, decoding_weights, sampler
from musiclm_jax.token_lm.language_model import LanguageModel
from musiclm_jax.training.flops import program_flops
from musiclm_jax.training.sharding_report import held

CODEC = 'soundstream'
_PLAYER = 'codec'  # of its task, whose parameters decode
GENERATING = (*STAGES, CODEC)
SECONDS = 30.0  # of a piece, whose independent windows are made together


@dataclasses.dataclass(frozen=True)
class Pass:
  """A program, or a turn of its loop, and how often it runs.

  Attributes:
    name: For people.
    per_second: Runs for a second of music.
    flops: Of a run, all chips together.
    bytes: Of a run, read from the memory of one chip, at least.
    link_seconds: That the interconnect needs in a run; 0 where the program
      is not compiled, as that which reads.
  """

  name: str
  per_second: float
  flops: float
  bytes: float
  link_seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class Cost:
  """What a stage costs.

  Attributes:
    params: That lie on the chips.
    rows: Of a batch.
    memory: Of a chip, of the program that draws or decodes.
    passes: All that runs.
  """

  params: PyTree
  rows: int
  memory: Memory
  passes: list[Pass]


@dataclasses.dataclass(frozen=True)
class Place:
  """Where it is compiled for.

  Attributes:
    topology: The chips.
    mesh: How they share the work.
  """

  topology: Topology
  mesh: Mesh

  @property
  def pieces(self) -> int:
    """Pieces that are made at once."""
    return sharding.batch_shards(self.mesh)

  def rows(self, *shape: int) -> jax.ShapeDtypeStruct:
    """Numbers [R, ...] of a batch."""
    place = sharding.batch_sharding(self.mesh)
    return jax.ShapeDtypeStruct(shape, jnp.int32, sharding=place)

  def keys(self, rows: int) -> jax.ShapeDtypeStruct:
    """Random keys, one a row."""
    made = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), rows))
    return self.placed(made, sharding.batch_sharding(self.mesh))

  def placed(self, tree: PyTree, where: PyTree) -> PyTree:
    """Shapes with the places of their leaves, or one place of all."""
    if isinstance(where, jax.sharding.Sharding):
      where = jax.tree.map(lambda leaf: where, tree)
    return jax.tree.map(
      lambda leaf, place: jax.ShapeDtypeStruct(
        leaf.shape, leaf.dtype, sharding=place
      ),
      tree,
      where,
    )

  def compiled(
    self, lower: Callable[[], jax.stages.Lowered]
  ) -> tuple[Memory, float]:
    """Memory of a program, and seconds of the links in a turn of its loop."""
    try:
      compiled = lower().compile()
    except jax.errors.JaxRuntimeError as error:
      memory = Memory.of_refusal(str(error))
      if memory is None:
        raise
      return memory, 0.0
    found = collectives(compiled.as_text(), self.mesh, links_of(self.topology))
    return Memory.of_compiled(compiled), sum(one.seconds for one in found)


def rehearse_generation(
  config: Config, topology: Topology, weights: str = 'bfloat16'
) -> dict[str, Any]:
  """Compiles what a stage runs to generate for a slice, and reads it.

  Args:
    config: Of a language model or a codec, resolved, as a nested dict; its
      mesh says how many chips share a piece.
    topology: The slice.
    weights: Type of a language model's kernels: float32 or bfloat16.

  Returns:
    Figures for a second of music of each of `pieces`: `flops` of all chips,
    `hbm_bytes` of one; `t_compute`, `t_hbm` and `t_ici`, seconds, where each
    pass counts with the longest of its three; `seconds`, their sum, which is
    the real-time factor at best; `bound_by` what most of it goes into;
    `passes`; and the memory of a chip, of this stage alone.

  Raises:
    UsageError: If the stage makes no music, or the chips do not divide.
  """
  stage = config['stage']
  if stage not in GENERATING:
    raise UsageError(
      f"stage '{stage}' makes no music: choose one of {', '.join(GENERATING)}"
    )
  tensor = config['mesh']['tensor']
  mesh = sharding.make_mesh(devices=topology.devices, tensor=tensor)
  place, begun = Place(topology, mesh), time.monotonic()
  if stage == CODEC:
    cost = _codec(config, place)
  elif stage == 'parallel':
    cost = _parallel(stages.build_inference(config), place, weights)
  else:
    cost = _token_lm(stages.build_inference(config), stage, place, weights)
  limit = cost.memory.limit or int(topology.chip.hbm_bytes)
  times = _times(cost.passes, place)
  return {
    'stage': stage,
    'topology': topology.name,
    'mesh': dict(mesh.shape),
    'pieces': place.pieces,
    'rows': cost.rows,
    'weights': 'float32' if stage == CODEC else weights,
    'fits': cost.memory.peak <= limit,
    'peak_hbm_bytes': cost.memory.peak,
    'hbm_limit_bytes': limit,
    'parameter_bytes': held(cost.params)[1],
    'flops': sum(one.per_second * one.flops for one in cost.passes),
    'hbm_bytes': sum(one.per_second * one.bytes for one in cost.passes),
    **{f't_{name}': seconds for name, seconds in times.items()},
    'seconds': sum(times.values()),
    'bound_by': max(times, key=times.__getitem__),
    'passes': [dataclasses.asdict(one) for one in cost.passes],
    'versions': versions(),
    'compile_seconds': round(time.monotonic() - begun, 1),
  }


def _times(passes: list[Pass], place: Place) -> dict[str, float]:
  """Seconds for one of music, of each pass what takes longest."""
  chip, times = place.topology.chip, {'compute': 0.0, 'hbm': 0.0, 'ici': 0.0}
  for one in passes:
    spent = {
      'compute': one.flops / (chip.peak * place.mesh.size),
      'hbm': one.bytes / chip.hbm_bandwidth,
      'ici': one.link_seconds,
    }
    longest = max(spent, key=spent.__getitem__)
    times[longest] += one.per_second * spent[longest]
  return times


def _token_lm(
  lm: LanguageModel, stage: str, place: Place, weights: str
) -> Cost:
  """Cost of a stage that draws one token after another."""
  layout, predicted = lm.layout, lm.layout.predicted
  crop = predicted.num_frames / predicted.frame_rate
  if STAGES[stage].continues:
    windows, known, seconds = 1, predicted.num_frames // 2, crop / 2
  else:
    windows = min(MAX_CHUNKS, math.ceil(SECONDS / crop))
    known, seconds = 0, crop * windows
  rows = place.pieces * windows
  params = decoding_weights.abstract(lm, place.mesh, weights)

  def cache(capacity: int) -> Cache:
    """A cache of all rows, and where it lies."""
    empty = functools.partial(lm.model.transformer.empty_cache, rows, capacity)
    where = sampler.sequence_sharding(lm, place.mesh).cache
    return place.placed(jax.eval_shape(empty), where)

  _, advance = sampler.programs(lm, place.mesh)
  whole = cache(layout.num_tokens)
  memory, links = place.compiled(
    lambda: advance.lower(
      params,
      sequence=decode.Sequence(place.rows(rows, layout.num_tokens), whole),
      stop=jax.ShapeDtypeStruct((), jnp.int32),
      keys=place.keys(rows),
      sampling=decode.SamplingParams(),
      reach=layout.num_tokens,
    )
  )
  first = layout.num_conditioning + known * predicted.num_levels
  begin = functools.partial(decode.begin, lm.model)
  read = place.rows(rows, first), jax.ShapeDtypeStruct((), jnp.int32)
  kernels = held(params['transformer'])[1]
  passes = [
    Pass(
      f'reading {first:,} tokens',
      1 / seconds,
      program_flops(begin, params, *read, platform='tpu'),
      kernels + _stored(cache(first)),
    )
  ]
  table = held(params['output'])[1] / layout.vocabulary_size
  weighed = kernels + table * predicted.codebook_size
  position = first
  for reach in sampler.reaches(layout.num_tokens):
    stop = min(reach + 1, layout.num_tokens)
    if stop > position:
      one = Pass(
        f'drawing a token, {reach:,} read',
        (stop - position) / seconds,
        _token_flops(lm, params, place.rows(rows, 1), cache(reach)),
        weighed + _stored(cache(reach)),
        links,
      )
      passes.append(one)
      position = stop
  return Cost(params, rows, memory, passes)


def _stored(cache: Cache) -> int:
  """Bytes of keys and values on a chip."""
  return held((cache.keys, cache.values))[1]


def _token_flops(
  lm: LanguageModel, params: PyTree, ids: jax.ShapeDtypeStruct, cache: Cache
) -> float:
  """What a token of all rows computes when so much of a cache is read."""

  def one(params, ids, cache):
    variables = {'params': params}
    hidden, _ = lm.model.apply(
      variables,
      ids,
      cache=cache.split(cache.keys.shape[3]),
      method='hidden',
    )
    return lm.model.apply(variables, hidden[:, 0], 0, method='level_logits')

  return program_flops(one, params, ids, cache, platform='tpu')


def _parallel(lm: Any, place: Place, weights: str) -> Cost:
  """Cost of a stage that draws a window in some rounds."""
  rows, predicted = place.pieces, lm.layout.predicted
  params = {'lm': decoding_weights.abstract(lm, place.mesh, weights)}
  codes = [
    place.rows(rows, segment.num_frames, segment.num_levels)
    for segment in lm.layout.segments
  ]
  inputs = (
    *(params, codes[:-1], codes[-1]),
    *(place.keys(rows), decode.SamplingParams()),
  )
  spread = sharding.batch_sharding(place.mesh)
  decoding = jax.jit(lm.decode, out_shardings=spread)
  memory, links = place.compiled(lambda: decoding.lower(*inputs))
  rounds = sum(lm.rounds)
  kernels = held(params['lm']['transformer'])[1]
  # Logits of a round are written and read.
  logits = 2 * 4 * predicted.num_frames * predicted.codebook_size
  crop = predicted.num_frames / predicted.frame_rate
  one = Pass(
    f'drawing a window in {rounds} rounds',
    2 / crop,
    program_flops(lm.decode, *inputs, platform='tpu'),
    rounds * (kernels + logits),
    links,
  )
  return Cost(params, rows, memory, [one])


def _codec(config: Config, place: Place) -> Cost:
  """Cost of decoding codes, a block at a time, on every chip of a piece."""
  codec = stages.build_inference(config)
  state = plan(config, place.topology.devices).state
  whole = sharding.replicated(place.mesh)
  params, collections = (
    place.placed({_PLAYER: tree[_PLAYER]}, whole)
    for tree in (state.params, state.collections)
  )
  rows = place.pieces
  codes = place.rows(rows, decoder.BLOCK_FRAMES, codec.num_quantizers)
  pasts = jax.eval_shape(codec.decode_step, params, collections, codes)[1]
  pasts = place.placed(pasts, sharding.batch_sharding(place.mesh))
  step = jax.jit(codec.decode_step)
  inputs = params, collections, codes, pasts
  memory, links = place.compiled(lambda: step.lower(*inputs))
  shared = place.mesh.size // rows  # chips that do the same
  one = Pass(
    f'decoding {decoder.BLOCK_FRAMES} frames',
    codec.frame_rate / decoder.BLOCK_FRAMES,
    shared * program_flops(codec.decode_step, *inputs, platform='tpu'),
    held(params[_PLAYER]['decoder'])[1],
    links,
  )
  return Cost(params, rows, memory, [one])
