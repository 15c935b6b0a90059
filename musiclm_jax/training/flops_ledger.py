"""Walks through traces and adds up their products: jaxpr -> FLOPs."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from musiclm_jax.contracts.array_types import PyTree
from musiclm_jax.nn.attention import CAUSAL_INPUT, CAUSAL_OUTPUT
from musiclm_jax.training.product_flops import PRODUCTS, passes

# A function of one name in every trace has another address.
_ADDRESS = re.compile(r' at 0x[0-9a-f]+')


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


class Ledger:
  """Adds up FLOPs over traces whose equal operations are done once.

  Attributes:
    total: FLOPs so far.
  """

  def __init__(self, *, useful: bool):
    """Starts at 0.

    Args:
      useful: Whether to count what is needed for the gradients of active
        arguments, or else what the program computes.
    """
    self.total = 0.0
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
    self._walk(closed.jaxpr, self._constants(closed), values, 1)

  def _number(self, key: Any) -> int:
    return self._numbers.setdefault(key, len(self._numbers))

  def _constants(self, closed: Any) -> list[_Value]:
    return [_Value(self._number(_content(c)), False) for c in closed.consts]

  def _walk(
    self,
    jaxpr: Any,
    constants: Sequence[_Value],
    values: Sequence[_Value],
    times: int,
  ) -> list[_Value]:
    """Counts a jaxpr that runs `times` times; 0 only finds what is active."""
    known = dict(zip(jaxpr.constvars, constants, strict=True))
    known |= dict(zip(jaxpr.invars, values, strict=True))

    def read(atom: Any) -> _Value:
      if isinstance(atom, core.Literal):
        return _Value(self._number(_content(atom.val)), False)
      return known[atom]

    for equation in jaxpr.eqns:
      inputs = [read(atom) for atom in equation.invars]
      outputs = self._apply(equation, inputs, times)
      known |= dict(zip(equation.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]

  def _apply(
    self, equation: Any, inputs: list[_Value], times: int
  ) -> list[_Value]:
    name = equation.primitive.name
    if name == 'scan':
      return self._scan(equation, inputs, times)
    if name == 'while':
      return self._while(equation, inputs, times)
    if name == 'cond':
      return self._cond(equation, inputs, times)
    if name == 'name':
      return self._mark(equation, inputs, times)
    inner = _inner(equation)
    if inner is not None:
      if equation.params.get('differentiated'):  # what remat computes again
        inputs = [
          value._replace(number=self._number(('again', value.number)))
          for value in inputs
        ]
      constants = self._constants(inner) if hasattr(inner, 'consts') else []
      jaxpr = getattr(inner, 'jaxpr', inner)
      return self._walk(jaxpr, constants, inputs, times)
    if name == 'stop_gradient':  # its results are the same values
      return [value._replace(active=False) for value in inputs]
    outputs = self._plain(equation, inputs)
    if name in PRODUCTS:
      flops = PRODUCTS[name](equation)
      flops *= 1 if self._useful else passes(equation)
      self._add(outputs[0], flops, inputs, times)
    return outputs

  def _mark(
    self, equation: Any, inputs: list[_Value], times: int
  ) -> list[_Value]:
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
    self, output: _Value, flops: float, inputs: list[_Value], times: int
  ) -> None:
    if output.attending:
      return
    if times and output.number not in self._done:
      self._done.add(output.number)
      self.total += times * flops
    if self._useful:
      self.total += times * flops * sum(value.active for value in inputs)

  def _plain(self, equation: Any, inputs: list[_Value]) -> list[_Value]:
    """Numbers the results of an operation by what it does to what."""
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

  def _loop(
    self,
    equation: Any,
    inputs: list[_Value],
    carry: slice,
    body: Any,
    times: int,
  ) -> list[_Value]:
    """Walks a loop's body when it is known which of its carry is active."""
    start = self._plain(equation, inputs)[0].number if equation.outvars else 0
    values = [
      value
      if index < carry.start
      else value._replace(number=self._number((start, index)))
      for index, value in enumerate(inputs)
    ]
    constants = self._constants(body)
    while True:
      results = self._walk(body.jaxpr, constants, values, 0)
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
    return self._walk(body.jaxpr, constants, values, times)

  def _scan(
    self, equation: Any, inputs: list[_Value], times: int
  ) -> list[_Value]:
    carry = _carry_of(equation.params)
    times *= equation.params['length']
    body = equation.params['jaxpr']
    results = self._loop(equation, inputs, carry, body, times)
    return self._outside(equation, inputs, results)

  def _while(
    self, equation: Any, inputs: list[_Value], times: int
  ) -> list[_Value]:
    """Counts one run of the body: how many there are depends on values."""
    inputs = inputs[equation.params['cond_nconsts'] :]
    first = equation.params['body_nconsts']
    body = equation.params['body_jaxpr']
    carry = slice(first, len(inputs))
    results = self._loop(equation, inputs, carry, body, times)
    return self._outside(equation, inputs, results)

  def _outside(
    self, equation: Any, inputs: list[_Value], results: list[_Value]
  ) -> list[_Value]:
    """A loop's results: numbered as its own, active as its body says."""
    return [
      inner._replace(number=outer.number)
      for outer, inner in zip(
        self._plain(equation, inputs), results, strict=True
      )
    ]

  def _cond(
    self, equation: Any, inputs: list[_Value], times: int
  ) -> list[_Value]:
    """Counts the cheapest branch of those that compute anything."""
    before, done = self.total, set(self._done)
    outcomes = []
    for branch in equation.params['branches']:
      self.total, self._done = before, set(done)
      constants = self._constants(branch)
      results = self._walk(branch.jaxpr, constants, inputs[1:], times)
      idle = self.total == before
      outcomes.append((idle, self.total, len(outcomes), results, self._done))
    _, self.total, _, _, self._done = min(outcomes)
    every = [outcome[3] for outcome in outcomes]
    return [
      _Value(
        outer.number,
        any(value.active for value in inner),
        any(value.attending for value in inner),
      )
      for outer, *inner in zip(
        self._plain(equation, inputs), *every, strict=True
      )
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
