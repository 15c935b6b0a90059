"""Optimizers and learning rate schedules, looked up by name in two dicts."""

import math
from collections.abc import Collection, Mapping
from typing import Any

import jax
import optax
import optax.contrib
from jaxtyping import Array

from musiclm_jax.contracts.array_types import PyTree
from musiclm_jax.contracts.bounds import look_up
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.horizon import Earlier, Horizon

_MUON_RMS = 0.2  # of an update before the learning rate
_STACKS = {'layers', 'blocks'}  # modules that `nn.scan` stacks
_UNDECAYED = {'bias', 'scale', 'content_bias', 'position_bias'}
_REST = ''  # the label of what no subtree of its own holds
_HEADED_INPUTS = {'query', 'key', 'value', 'position'}


def _constant(step: Array, warmup: int, horizon: Horizon) -> Array:
  del warmup, horizon
  return jax.numpy.ones_like(step)


def _cosine(step: Array, warmup: int, horizon: Horizon) -> Array:
  progress = horizon.since_end.share(step, first=warmup)
  return 0.5 * (1 + jax.numpy.cos(jax.numpy.pi * progress))


def _inverse_sqrt(step: Array, warmup: int, horizon: Horizon) -> Array:
  del horizon
  peak = max(warmup, 1.0)
  return (peak / jax.numpy.maximum(step, peak)) ** 0.5


# Name -> factor of the peak learning rate after the warm-up, as a function
# of (step, warmup_steps, horizon).
SCHEDULES = {
  'constant': _constant,
  'cosine': _cosine,
  'inverse_sqrt': _inverse_sqrt,
}


def _adam(b1: float, b2: float) -> optax.GradientTransformation:
  return optax.scale_by_adam(b1=b1, b2=b2)


def _adafactor(b1: float, b2: float) -> optax.GradientTransformation:
  # Momentum exists always, so that b1 = 0 keeps the state's structure.
  return optax.chain(
    optax.scale_by_factored_rms(decay_rate=b2),
    optax.clip_by_block_rms(1.0),
    optax.ema(b1, debias=False),
  )


def _muon(b1: float, b2: float) -> optax.GradientTransformation:
  # Moonshot's scale (2502.16982): an update is as large as Adam's, so that
  # one learning rate serves both.
  matrices = optax.chain(
    optax.contrib.scale_by_muon(weight_dimension_numbers=matrix_axes),
    optax.stateless(_scale_by_shape),
  )
  return optax.partition(
    {True: matrices, False: optax.scale_by_adam(b1=b1, b2=b2)}, _are_kernels
  )


def _are_kernels(params: PyTree) -> PyTree:
  """Marks what Muon moves: kernels, not tables, biases and norms."""
  return jax.tree_util.tree_map_with_path(
    lambda path, leaf: 'kernel' in _names(path) and leaf.ndim >= 2, params
  )


def matrix_axes(params: PyTree) -> PyTree:
  """Says which axes of each kernel are inputs and which the output.

  Layers of a scan are matrices of their own; so is every head of attention.
  Both are known by the names of their modules, for gradients carry no axis
  names; `tests/test_stages.py` holds these against the axes of the networks.
  """

  def axes(path: tuple, leaf: Array) -> optax.contrib.MuonDimensionNumbers:
    names = _names(path)
    first = 1 if _STACKS & set(names) else 0
    last = leaf.ndim - 1
    if _HEADED_INPUTS & set(names) and last - first == 2:
      inputs: tuple[int, ...] = (first,)
    elif 'out' in names and last - first == 2:
      inputs = (first + 1,)
    else:
      inputs = tuple(range(first, last))
    return optax.contrib.MuonDimensionNumbers(inputs, last)

  return jax.tree_util.tree_map_with_path(axes, params)


def _scale_by_shape(updates: PyTree, params: PyTree) -> PyTree:
  del params

  def scale(update: Array, axes: optax.contrib.MuonDimensionNumbers) -> Array:
    rows = math.prod(update.shape[axis] for axis in axes.reduction_axis)
    longer = max(rows, update.shape[axes.output_axis])
    return _MUON_RMS * longer**0.5 * update

  return jax.tree.map(scale, updates, matrix_axes(updates))


def _names(path: tuple) -> list[str]:
  return jax.tree_util.keystr(path, simple=True, separator='/').split('/')


# Name -> preconditioner. `adam` and `adamw` differ in that adam refuses a
# weight decay; adafactor reads b2 as the exponent of its growing decay
# 1 - t^-b2 (0.8 in Shazeer & Stern 2018) and b1 as momentum. `muon` reads
# both for what is no kernel; its own momentum is 0.95.
OPTIMIZERS = {
  'adam': _adam,
  'adamw': _adam,
  'adafactor': _adafactor,
  'muon': _muon,
}


def learning_rate_schedule(
  schedule: str,
  *,
  learning_rate: float,
  warmup_steps: int,
  total_steps: int,
  earlier: Earlier = (),
  first_step: int = 0,
) -> optax.Schedule:
  """Makes a schedule: linear warm-up to `learning_rate`, then the named one.

  Args:
    schedule: `constant`, `cosine` (to 0 at `total_steps`) or `inverse_sqrt`.
    learning_rate: At the end of the warm-up.
    warmup_steps: Of linear growth; step 0 already moves.
    total_steps: Of the whole training.
    earlier: What it was before; see `Horizon`. A cosine goes on from where it
      was, and begins anew only after it has come to its end.
    first_step: Where the warm-up begins: later than 0 where a training goes
      on without the moments that it has learned.

  Raises:
    UsageError: If the name is not known.
  """
  factor = look_up(SCHEDULES, schedule, 'schedule')
  horizon = Horizon(total_steps, earlier)

  def rate(count: Array) -> Array:
    step = jax.numpy.asarray(count, jax.numpy.float32)
    warm = (step - first_step + 1) / max(warmup_steps, 1)
    warm = jax.numpy.minimum(warm, 1.0)
    return learning_rate * warm * factor(step, warmup_steps, horizon)

  return rate


def make_optimizer(
  *,
  name: str,
  schedule: str,
  learning_rate: float,
  warmup_steps: int,
  b1: float,
  b2: float,
  weight_decay: float,
  clip_norm: float,
  total_steps: int,
  earlier: Earlier = (),
  first_step: int = 0,
  adam_rates: Mapping[str, float | None] | None = None,
) -> optax.GradientTransformation:
  """Makes one player's optimizer: clip, precondition, decay, scale.

  Weight decay moves kernels and tables and leaves biases and norms alone,
  those of stacked layers too. The state's structure depends on `name` and on
  the subtrees of `adam_rates` only. A player without parameters is served too.

  Args:
    name: In `OPTIMIZERS`.
    schedule: See `learning_rate_schedule`.
    learning_rate: Peak.
    warmup_steps: Linear.
    b1: Decay of the first moment.
    b2: Decay of the second moment.
    weight_decay: Decoupled, times the learning rate.
    clip_norm: Largest global norm of this player's gradient; 0 is off.
    total_steps: Of the whole training.
    earlier: See `learning_rate_schedule`.
    first_step: See `learning_rate_schedule`.
    adam_rates: Subtree -> peak at which Adam moves it, whatever `name` moves
      the rest: what comes trained wants small steps. None is no exception.

  Raises:
    UsageError: If a name is unknown, or adam is given a weight decay.
  """
  precondition = look_up(OPTIMIZERS, name, 'optimizer')(b1, b2)
  if name == 'adam' and weight_decay:
    raise UsageError(
      f"optimizer 'adam' got weight_decay={weight_decay}: choose "
      "'adamw' or set it to 0.0"
    )

  def moves(precondition, peak: float) -> tuple:
    rate = learning_rate_schedule(
      schedule,
      learning_rate=peak,
      warmup_steps=warmup_steps,
      total_steps=total_steps,
      earlier=earlier,
      first_step=first_step,
    )
    return (
      precondition,
      optax.add_decayed_weights(weight_decay, mask=_kernels),
      optax.scale_by_learning_rate(rate),
    )

  clip = optax.clip_by_global_norm(clip_norm) if clip_norm else optax.identity()
  rest = moves(precondition, learning_rate)
  own = {
    subtree: optax.chain(*moves(_adam(b1, b2), peak))
    for subtree, peak in (adam_rates or {}).items()
    if peak is not None
  }
  if not own:
    return optax.chain(clip, *rest)
  own[_REST] = optax.chain(*rest)
  return optax.chain(
    clip,
    optax.partition(
      own,
      lambda params: {name: name if name in own else _REST for name in params},
    ),
  )


def make_optimizers(
  optimizers: Mapping[str, Mapping],
  *,
  players: Collection[str],
  total_steps: int,
  earlier: Earlier = (),
  first_step: int = 0,
) -> dict[str, optax.GradientTransformation]:
  """Makes each player's optimizer from its keyword arguments.

  Args:
    optimizers: Player -> keyword arguments of `make_optimizer`.
    players: All of the task's, of whom those without parameters need none.
    total_steps: Of the whole training.
    earlier: See `learning_rate_schedule`.
    first_step: See `learning_rate_schedule`.

  Returns:
    Player -> optimizer. Its `init` raises a UsageError where parameters have
    no optimizer.
  """
  made = {
    player: make_optimizer(
      **kwargs,
      total_steps=total_steps,
      earlier=earlier,
      first_step=first_step,
    )
    for player, kwargs in optimizers.items()
  }
  return made | {p: _resting(p) for p in players if p not in made}


def _resting(player: str) -> optax.GradientTransformation:
  """Moves no parameters; its state is adam's, as checkpoints have it."""
  adam = optax.chain(
    optax.identity(),
    _adam(0.9, 0.99),
    optax.add_decayed_weights(0.0, mask=_kernels),
    optax.scale_by_learning_rate(lambda count: 0.0),
  )

  def init(params: PyTree) -> PyTree:
    if jax.tree.leaves(params):
      raise UsageError(
        f'the config has no optimizer.{player}, and {player} has parameters: '
        'add it'
      )
    return adam.init(params)

  return optax.GradientTransformation(init, adam.update)


def _kernels(params: PyTree) -> PyTree:
  """Marks what decays; a stack's norms and biases have two axes too."""
  return jax.tree_util.tree_map_with_path(
    lambda path, leaf: (
      leaf.ndim >= 2 and _UNDECAYED.isdisjoint(_names(path)[-1:])
    ),
    params,
  )


def at_step(opt_state: PyTree, step: int) -> PyTree:
  """Lets the learning rates of a fresh state go on at `step`.

  What counts steps for other reasons, such as the correction of moments that
  began at zero, stays at its beginning.
  """

  def is_rate(node: Any) -> bool:
    return isinstance(node, optax.ScaleByScheduleState)

  def moved(node: Any) -> Any:
    if not is_rate(node):
      return node
    count = jax.numpy.asarray(step, node.count.dtype)
    return node._replace(count=jax.device_put(count, node.count.sharding))

  return jax.tree.map(moved, opt_state, is_leaf=is_rate)
