"""A training step of any task: gradients, clipping, skipped steps, averages.

(state, batch [B, ...]) -> (state, metrics of scalars)
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from musiclm_jax.contracts import compiler_options, sharding
from musiclm_jax.contracts.array_types import PRNGKey, PyTree
from musiclm_jax.contracts.task import (
  Batch,
  Collections,
  HasCompilerOptions,
  LossFn,
  Metrics,
  Params,
  Task,
)
from musiclm_jax.training.state import TrainState, flatten, shardings

# The metric that is no scalar: bool [N], which of `suspects` are finite.
FINITE = 'finite'
# Metrics that the step itself adds; no task may report one of these names.
_COUNTED = ('grad_norm', 'refused_', FINITE)
StepFn = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
Outcome = tuple[PyTree, Collections, Metrics]


def make_step(
  task: Task,
  optimizers: Mapping[str, optax.GradientTransformation],
  *,
  accumulation: int = 1,
  ema_decay: float = 0.0,
  where: TrainState | None = None,
) -> StepFn:
  """Makes the step function of a task; the caller jits it and donates state.

  All players' gradients are taken at the same params, collections and key,
  then all updates are applied, so XLA can share the players' forward pass.

  A step in which any loss or gradient is not finite is refused: parameters,
  averages, optimizers and collections stay, `refused_steps` counts it, the
  metric `finite` says which of `suspects` are finite, and the next step reads
  the next batch.

  Args:
    task: What is trained.
    optimizers: Player -> optimizer.
    accumulation: Microbatches that a batch is cut into; gradients and metrics
      are their means, all taken at the same collections, and the collections
      move once: to where the last microbatch alone moves them.
    ema_decay: Of the averaged parameters; 0.0 where the state has none.
    where: Shardings of the state, see `state.shardings`; a gradient lies
      where its parameter does. None is for one device.
  """
  losses = task.losses()
  differentiate = functools.partial(_differentiate, losses, where)

  def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
    key = jax.random.fold_in(jax.random.wrap_key_data(state.rng), state.step)
    gradients, collections, metrics = _accumulate(
      differentiate, state, batch, key, accumulation
    )
    squares = jax.tree.map(lambda g: jnp.sum(jnp.square(g)), gradients)
    norms = {
      player: jnp.sqrt(jnp.float32(sum(jax.tree.leaves(own))))
      for player, own in squares.items()
    }
    verdicts = [
      jnp.all(jnp.isfinite(values))
      for values in suspects(batch, metrics, squares).values()
    ]
    metrics |= _named_norms(norms)
    scalars = [*norms.values(), *(metrics[_loss(p, losses)] for p in losses)]
    finite = jnp.all(jnp.stack([jnp.isfinite(each) for each in scalars]))
    params, opt_state = _apply(optimizers, gradients, state)
    new = state.replace(
      params=params, opt_state=opt_state, collections=collections
    )
    if ema_decay:
      new = new.replace(ema_params=_average(new, ema_decay))
    new = jax.tree.map(
      lambda ours, old: jnp.where(finite, ours, old), new, state
    )
    refused = 1 - finite.astype(jnp.int32)
    new = new.replace(
      step=state.step + 1,
      refused=state.refused + refused,
      refused_in_a_row=(state.refused_in_a_row + 1) * refused,
    )
    return new, metrics | {
      'refused_steps': new.refused,
      'refused_in_a_row': new.refused_in_a_row,
      FINITE: jnp.stack(verdicts),
    }

  return step


def suspects(
  batch: PyTree, metrics: PyTree, gradients: PyTree
) -> dict[str, Any]:
  """Names what may be not finite, causes before what follows from them.

  Args:
    batch: Arrays by name.
    metrics: Those of the losses, by name.
    gradients: By player, or any tree of that structure.

  Returns:
    Such as 'batch/waveform', 'metric/loss', 'gradient/lm/head/kernel' -> leaf.
  """
  parts = {
    'batch': {
      name: rows
      for name, rows in batch.items()
      if jnp.issubdtype(rows.dtype, jnp.floating)
    },
    'metric': {k: v for k, v in metrics.items() if not k.startswith(_COUNTED)},
    'gradient': gradients,
  }
  return {
    f'{part}/{name}': leaf
    for part, tree in parts.items()
    for name, leaf in flatten(tree).items()
  }


def compile_step(
  task: Task,
  optimizers: Mapping[str, optax.GradientTransformation],
  abstract: TrainState,
  **options: Any,
) -> Callable:
  """Jits the step of a task for the mesh that its described state lies on.

  Args:
    task: What is trained.
    optimizers: Player -> optimizer.
    abstract: Of `abstract_state`.
    **options: Of `make_step`.

  Returns:
    A jitted `StepFn`. It donates the state; metrics lie on every device.
  """
  where = shardings(abstract)
  mesh = where.step.mesh
  return jax.jit(
    make_step(task, optimizers, where=where, **options),
    donate_argnums=0,
    out_shardings=(where, sharding.replicated(mesh)),
    compiler_options=_compiler_options(task, mesh.devices.flat[0].platform),
  )


def _compiler_options(task: Task, platform: str) -> Mapping[str, str] | None:
  """What a task wants of the compiler, if this version of it has it."""
  wanted = task.compiler_options if isinstance(task, HasCompilerOptions) else {}
  return compiler_options.understood(wanted, platform)


def _loss(player: str, losses: Mapping[str, LossFn]) -> str:
  """Metric name of a player's loss: the first player's is `loss`."""
  return 'loss' if player == next(iter(losses)) else f'loss_{player}'


def _named_norms(norms: Mapping[str, Array]) -> Metrics:
  if len(norms) == 1:
    return {'grad_norm': next(iter(norms.values()))}
  return {f'grad_norm_{player}': norm for player, norm in norms.items()}


def _differentiate(
  losses: Mapping[str, LossFn],
  where: TrainState | None,
  state: TrainState,
  batch: Batch,
  key: PRNGKey,
) -> Outcome:
  """Takes every player's gradient at the same parameters."""
  gradients, collections, metrics = {}, dict(state.collections), {}
  for player, loss in losses.items():

    def of_own(own: PyTree, player: str = player, loss: LossFn = loss) -> Any:
      params: Params = {**state.params, player: own}
      with sharding.layout(where and where.step.mesh):  # known to its layers
        return loss(params, state.collections, batch, key, state.step)

    (value, (moved, own_metrics)), gradients[player] = jax.value_and_grad(
      of_own, has_aux=True
    )(state.params[player])
    if player in state.collections:
      collections[player] = moved[player]
    named = {_loss(player, losses): value, **own_metrics}
    if twice := metrics.keys() & named.keys():
      raise ValueError(f'two players report the metrics {sorted(twice)}')
    metrics |= named
  metrics = {k: jnp.asarray(v, jnp.float32) for k, v in metrics.items()}
  if where is not None:
    gradients = jax.lax.with_sharding_constraint(gradients, where.params)
  return gradients, collections, metrics


def _accumulate(
  differentiate: Callable[[TrainState, Batch, PRNGKey], Outcome],
  state: TrainState,
  batch: Batch,
  key: PRNGKey,
  accumulation: int,
) -> Outcome:
  """Means of gradients and metrics over microbatches, one after another."""
  if accumulation == 1:
    return differentiate(state, batch, key)

  def cut(rows: Array) -> Array:
    # Strided, so that each device's rows stay on the device.
    size = len(rows) // accumulation
    parts = rows.reshape(size, accumulation, *rows.shape[1:])
    return jnp.swapaxes(parts, 0, 1)

  def one(total: PyTree, part: tuple[Batch, Array]) -> tuple[PyTree, None]:
    microbatch, index = part
    gradients, collections, metrics = differentiate(
      state, microbatch, jax.random.fold_in(key, index)
    )
    added = jax.tree.map(jnp.add, total[0], (gradients, metrics))
    return (added, collections), None

  parts = (jax.tree.map(cut, dict(batch)), jnp.arange(accumulation))
  first = jax.tree.map(lambda rows: rows[0], parts[0])
  shapes = jax.eval_shape(lambda part: differentiate(state, part, key), first)
  zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
  start = (zeros[0], zeros[2]), state.collections
  (sums, collections), _ = jax.lax.scan(one, start, parts)
  gradients, metrics = jax.tree.map(lambda total: total / accumulation, sums)
  return gradients, collections, metrics


def _apply(
  optimizers: Mapping[str, optax.GradientTransformation],
  gradients: Mapping[str, PyTree],
  state: TrainState,
) -> tuple[PyTree, PyTree]:
  """Applies every player's update."""
  params, opt_state = dict(state.params), dict(state.opt_state)
  for player, gradient in gradients.items():
    updates, opt_state[player] = optimizers[player].update(
      gradient, state.opt_state[player], state.params[player]
    )
    params[player] = optax.apply_updates(state.params[player], updates)
  return params, opt_state


def _average(state: TrainState, decay: float) -> PyTree:
  """Moves the averaged parameters, quickly while the run is young.

  By a difference, so that the mean of what does not move does not drift.
  """
  steps = state.step.astype(jnp.float32)
  decay = jnp.minimum(decay, (1 + steps) / (10 + steps))
  return jax.tree.map(
    lambda mean, new: mean + (1 - decay) * (new - mean),
    state.ema_params,
    state.params,
  )
