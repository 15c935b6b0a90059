"""Counts the arithmetic of a step from its jaxpr: task and shapes -> FLOPs.

Only matrix products and convolutions count, 2 FLOPs a multiplication and
addition, padding and the zeros of strides left out. XLA's own analysis counts
the body of a scan once; here it counts as often as it runs.
"""

import functools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from musiclm_jax.contracts.array_types import PyTree
from musiclm_jax.contracts.task import Batch, Task
from musiclm_jax.nn.attention import CAUSAL_INPUT, CAUSAL_OUTPUT
from musiclm_jax.training.state import flatten

# A function of one name in every trace has another address.
_ADDRESS = re.compile(r' at 0x[0-9a-f]+')
# Runs of a bfloat16 unit for one float32 product.
_PASSES = {jax.lax.Precision.HIGHEST: 6, jax.lax.Precision.HIGH: 3}


def model_flops(
  task: Task, params: PyTree, collections: PyTree, batch: Batch
) -> float:
  """Counts what one training step needs, however it is computed.

  A product of the forward pass counts once, whichever players' losses share
  it, and once more for each operand that a player's gradient passes through:
  3 x forward where both depend on parameters, as in a language model. A
  discriminator's first layer needs no gradient of its input, and a codec's
  loss no gradient of the discriminators' kernels. Causal attention counts its
  legal pairs; what is recomputed counts nothing. Of the branches that compute
  anything the cheapest counts: the others are for the first steps. Of the ways
  of several platforms the default one counts.

  Args:
    task: What is trained.
    params: Player -> parameters; shapes will do.
    collections: Player -> collections; shapes will do.
    batch: A global batch; shapes will do.

  Returns:
    FLOPs of one step of the whole batch.
  """
  ledger = Ledger(useful=True)
  key = jax.eval_shape(lambda: jax.random.key(0))
  step = jax.ShapeDtypeStruct((), jnp.int32)
  for player, loss in task.losses().items():

    def of_own(own, params, *rest, player=player, loss=loss):
      return loss({**params, player: own}, *rest)[0]

    shared = dict(params), collections, dict(batch), key, step
    # The player's own parameters come twice, by one name: once as what is
    # differentiated, once among all players' parameters, of which the loss
    # replaces them.
    own = list(flatten({'params': {player: params[player]}}))
    rest = flatten({'params': shared[0], 'rest': shared[1:]})
    active = [True] * len(own) + [False] * len(rest)
    ledger.count(of_own, (params[player], *shared), [*own, *rest], active)
  return ledger.total


def program_flops(
  function: Callable, *arguments: PyTree, platform: str | None = None
) -> float:
  """Counts what a function computes, recomputation and masked pairs included.

  A product of float32 at precision HIGHEST counts six times, at HIGH three
  times: so often does a bfloat16 unit run.

  Args:
    function: Such as a training step.
    *arguments: Its arguments; shapes will do.
    platform: Whose way counts, where there are several; None: the default.
  """
  ledger = Ledger(useful=False, platform=platform)
  names = flatten(arguments)
  ledger.count(function, arguments, list(names), [False] * len(names))
  return ledger.total


class _Value(NamedTuple):
  """An array in a trace.

  Attributes:
    number: Equal numbers are equal arrays.
    active: Whether it depends on what is differentiated.
    attending: Whether it is between input and output of causal attention.
  """

  number: int
  active: bool
  attending: bool = False


_Values = list[_Value]


class Ledger:
  """Adds up FLOPs over traces whose equal operations are done once.

  Attributes:
    total: FLOPs so far.
  """

  def __init__(self, *, useful: bool, platform: str | None = None):
    """Starts at 0.

    Args:
      useful: Whether to count what is needed for the gradients of active
        arguments, or else what the program computes.
      platform: Whose way counts, where there are several; None: the default.
    """
    self.total = 0.0
    self._platform = platform
    self._useful = useful
    self._numbers: dict[Any, int] = {}
    self._done: set[int] = set()

  def count(
    self,
    function: Callable,
    arguments: Sequence[PyTree],
    names: Sequence[str],
    active: Sequence[bool],
  ) -> None:
    """Traces a function and adds what it computes.

    Args:
      function: Of `arguments`.
      arguments: Shapes will do.
      names: Of the leaves; equal names in two calls are equal arrays.
      active: Of the leaves; whether they are differentiated.
    """
    closed = jax.make_jaxpr(function)(*arguments)
    values = [
      _Value(self._number(('argument', name)), a)
      for name, a in zip(names, active, strict=True)
    ]
    self._walk(closed, values, 1)

  def _number(self, key: Any) -> int:
    return self._numbers.setdefault(key, len(self._numbers))

  def _walk(self, closed: Any, values: _Values, times: int) -> _Values:
    """Counts a jaxpr that runs `times` times; 0 only finds what is active."""
    jaxpr = getattr(closed, 'jaxpr', closed)
    known = dict(zip(jaxpr.invars, values, strict=True))
    for variable, constant in zip(
      jaxpr.constvars, getattr(closed, 'consts', ()), strict=True
    ):
      known[variable] = _Value(self._number(_content(constant)), False)

    def read(atom: Any) -> _Value:
      if isinstance(atom, core.Literal):
        return _Value(self._number(_content(atom.val)), False)
      return known[atom]

    for equation in jaxpr.eqns:
      inputs = [read(atom) for atom in equation.invars]
      outputs = self._apply(equation, inputs, times)
      known |= dict(zip(equation.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]

  def _apply(self, equation: Any, inputs: _Values, times: int) -> _Values:
    """Counts one equation; returns what it makes."""
    name = equation.primitive.name
    special = {
      'scan': self._loop,
      'while': self._loop,
      'cond': self._cond,
      'name': self._mark,
    }
    if name in special:
      return special[name](equation, inputs, times)
    inner = _inner(equation)
    if inner is not None:
      # What remat computes again for the backward pass is done again: new
      # numbers keep it from being taken for the forward pass's results.
      if equation.params.get('differentiated'):
        inputs = [
          value._replace(number=self._number(('again', value.number)))
          for value in inputs
        ]
      return self._walk(inner, inputs, times)
    if name == 'stop_gradient':  # its results are the same values
      return [value._replace(active=False) for value in inputs]
    outputs = self._plain(equation, inputs)
    if name in PRODUCTS:
      flops = PRODUCTS[name](equation)
      flops *= 1 if self._useful else passes(equation)
      self._add(outputs[0], flops, inputs, times)
    return outputs

  def _mark(self, equation: Any, inputs: _Values, times: int) -> _Values:
    """Counts causal attention at its output; what is inside did not count."""
    mark, (value,) = equation.params['name'], inputs
    if mark == CAUSAL_INPUT and self._useful:
      return [value._replace(attending=True)]
    if mark == CAUSAL_OUTPUT and value.attending:
      value = value._replace(attending=False)
      batch, heads, length, width = equation.outvars[0].aval.shape
      pairs = length * (length + 1) // 2
      flops = 4 * batch * heads * pairs * width
      self._add(value, flops, [value, value], times)
    return [value]

  def _add(
    self, output: _Value, flops: float, inputs: _Values, times: int
  ) -> None:
    if output.attending:  # counted as legal pairs where the attention ends
      return
    # Two players' losses trace the forward pass that they share twice; equal
    # numbers tell that it is one product. Gradients are each player's own:
    # one more product for each operand that a gradient passes through.
    if times and output.number not in self._done:
      self._done.add(output.number)
      self.total += times * flops
    if self._useful:
      self.total += times * flops * sum(value.active for value in inputs)

  def _plain(self, equation: Any, inputs: _Values) -> _Values:
    """Numbers the results of an operation by what it does to what.

    Operations of equal name, parameters and operands make equal arrays, in
    this trace and in another one.
    """
    text = _ADDRESS.sub('', str(sorted(equation.params.items(), key=str)))
    key = equation.primitive.name, text, tuple(v.number for v in inputs)
    active = any(value.active for value in inputs)
    attending = any(value.attending for value in inputs)
    return [
      _Value(
        self._number((*key, index)),
        active and jnp.issubdtype(variable.aval.dtype, jnp.inexact),
        attending,
      )
      for index, variable in enumerate(equation.outvars)
    ]

  def _loop(self, equation: Any, inputs: _Values, times: int) -> _Values:
    """Walks a loop's body when it is known which of its carry is active.

    One run of a while loop's counts: how many there are depends on values.
    """
    params = equation.params
    if equation.primitive.name == 'scan':
      carry, body = _carry_of(params), params['jaxpr']
      times *= params['length']
    else:
      inputs = inputs[params['cond_nconsts'] :]
      carry = slice(params['body_nconsts'], len(inputs))
      body = params['body_jaxpr']
    outside = self._plain(equation, inputs)
    start = outside[0].number if outside else 0
    # What a body reads of carry and slices is another array in every run, so
    # it gets a number of this loop's own; constants before them stay.
    values = [
      value
      if index < carry.start
      else value._replace(number=self._number((start, index)))
      for index, value in enumerate(inputs)
    ]
    # A carry that starts inactive becomes active once the body mixes it with
    # something that is: repeated until nothing more does. 0 times: no FLOPs.
    while True:
      results = self._walk(body, values, 0)
      grown = [
        old._replace(
          active=old.active or new.active,
          attending=old.attending or new.attending,
        )
        for old, new in zip(values[carry], results, strict=False)
      ]
      if grown == values[carry]:
        break
      values[carry] = grown
    results = self._walk(body, values, times)
    # To the outside a loop's results are arrays of its own, active as inside.
    return [
      inner._replace(number=outer.number)
      for outer, inner in zip(outside, results, strict=True)
    ]

  def _cond(self, equation: Any, inputs: _Values, times: int) -> _Values:
    """Counts the cheapest branch of those that compute anything.

    Of the ways of several platforms the given platform's counts, else the
    default one.
    """
    branches = equation.params['branches']
    if platforms := equation.params.get('branches_platforms'):
      ways = zip(branches, platforms, strict=True)
      chosen = (way for way, of in ways if of is None or self._platform in of)
      branches = [next(chosen)]
    # Each branch is counted from the same point, then the ledger is set to
    # where the chosen one left it. Idle branches (a loss that is not yet on)
    # come last in the order of `min`.
    before, done = self.total, set(self._done)
    outcomes = []
    for branch in branches:
      self.total, self._done = before, set(done)
      results = self._walk(branch, inputs[1:], times)
      idle = self.total == before
      outcomes.append((idle, self.total, len(outcomes), results, self._done))
    _, self.total, _, _, self._done = min(outcomes)
    every = zip(*(outcome[3] for outcome in outcomes), strict=True)
    return [
      outer._replace(
        active=any(value.active for value in inner),
        attending=any(value.attending for value in inner),
      )
      for outer, inner in zip(self._plain(equation, inputs), every, strict=True)
    ]


def _content(value: Any) -> Any:
  if not hasattr(value, 'dtype') or jnp.issubdtype(
    value.dtype, jax.dtypes.prng_key
  ):
    return 'constant', str(value)
  array = np.asarray(value)
  return 'constant', array.shape, str(array.dtype), array.tobytes()


def _carry_of(scan: Mapping[str, Any]) -> slice:
  """Which inputs of a scan are carried; JAX 0.11 says it in another way."""
  if 'num_consts' in scan:
    first, count = scan['num_consts'], scan['num_carry']
  else:
    first, count = (len(list(part)) for part in scan['ft_in'].unpack()[:2])
  return slice(first, first + count)


def _inner(equation: Any) -> Any:
  """The one jaxpr that an equation such as a jit or a remat runs."""
  found = [
    value
    for name, value in equation.params.items()
    if name in ('jaxpr', 'call_jaxpr') and hasattr(value, 'eqns')
  ]
  return found[0] if len(found) == 1 else None


def passes(equation: Any) -> int:
  """Says how often a bfloat16 unit runs for one product of its operands."""
  if any(atom.aval.dtype != jnp.float32 for atom in equation.invars[:2]):
    return 1
  precision = equation.params['precision'] or (None,)
  return max(_PASSES.get(side, 1) for side in precision)


def _product_flops(equation: Any) -> float:
  left = equation.invars[0].aval.shape
  (contracted, _), _ = equation.params['dimension_numbers']
  inner = math.prod(left[axis] for axis in contracted)
  return 2.0 * math.prod(equation.outvars[0].aval.shape) * inner


def _convolution_flops(equation: Any) -> float:
  params = equation.params
  left, right = (atom.aval.shape for atom in equation.invars[:2])
  out = equation.outvars[0].aval.shape
  numbers = params['dimension_numbers']
  flops = 2.0 * left[numbers.lhs_spec[0]] / params['batch_group_count']
  flops *= right[numbers.rhs_spec[0]] * right[numbers.rhs_spec[1]]
  specs = numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec
  sizes = (
    [shape[axis] for axis in spec[2:]]
    for shape, spec in zip((left, right, out), specs, strict=True)
  )
  low = (before for before, _ in params['padding'])
  stride, dilations = params['window_strides'], ('lhs_dilation', 'rhs_dilation')
  axes = zip(*sizes, stride, low, *(params[d] for d in dilations), strict=True)
  return flops * math.prod(_pairs(*axis) for axis in axes)


@functools.cache
def _pairs(
  size: int,
  kernel: int,
  out: int,
  stride: int,
  low: int,
  dilation: int,
  kernel_dilation: int,
) -> int:
  """Pairs of an output and a tap that meet a real input, not a zero."""
  place = np.arange(out, dtype=np.int64) * stride - low
  total = 0
  for tap in range(kernel):
    at = place + tap * kernel_dilation
    inside = (at >= 0) & (at <= (size - 1) * dilation) & (at % dilation == 0)
    total += int(inside.sum())
  return total


PRODUCTS: Mapping[str, Callable[[Any], float]] = {
  'dot_general': _product_flops,
  'conv_general_dilated': _convolution_flops,
}
