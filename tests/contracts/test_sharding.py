"""The mesh and the one table of rules."""

import jax
import pytest
from jax.sharding import PartitionSpec

from musiclm_jax.contracts import sharding
from musiclm_jax.contracts.errors import UsageError

MESH = jax.sharding.AbstractMesh(
  (2, 4, 2), sharding.MESH_AXES, axis_types=(jax.sharding.AxisType.Auto,) * 3
)


@pytest.mark.parametrize(
  'names, shape, spec',
  [
    (('embed', 'mlp'), (8, 6), ('fsdp', 'tensor')),
    (('mlp', 'embed'), (6, 8), ('tensor', 'fsdp')),
    (('layers', 'embed', 'heads'), (3, 8, 2), (None, 'fsdp', 'tensor')),
    (('embed', 'mlp'), (6, 7), (None, None)),
    ((None, 'channels', 'channels'), (7, 1, 8), (None, None, 'fsdp')),
    ((None, 'channels', 'channels'), (7, 8, 8), (None, 'fsdp', None)),
    (('embed', 'mlp'), (8,), ()),
  ],
  ids=[
    'both', 'turned', 'stacked heads', 'indivisible', 'first that divides',
    'once', 'a factored statistic',
  ],
)  # fmt: skip
def test_axis_names_become_mesh_axes(names, shape, spec):
  assert sharding.spec_of(names, shape, MESH) == PartitionSpec(*spec)


def test_a_mesh_that_the_devices_do_not_make_is_refused():
  count = len(jax.devices())
  with pytest.raises(UsageError, match=r'--config\.mesh\.fsdp'):
    sharding.make_mesh(fsdp=count + 1)
  assert sharding.make_mesh(fsdp=0).shape['fsdp'] == count


def test_layers_take_parameters_whole_inside_of_a_layout_only():
  value, names = jax.numpy.zeros((8, 6)), ('embed', 'mlp')
  assert sharding.gather(value, names) is value
  with sharding.layout(sharding.make_mesh(devices=jax.devices()[:1])):
    assert sharding.gather(value, names) is value

  def whole(value):
    with sharding.layout(MESH):
      return sharding.gather(value, names)

  jaxpr = jax.make_jaxpr(jax.grad(lambda value: whole(value).sum()))(value)
  specs = [
    eqn.params['sharding'].spec
    for eqn in jaxpr.eqns
    if eqn.primitive.name == 'sharding_constraint'
  ]
  assert specs[-2:] == [
    PartitionSpec(None, 'tensor'),
    PartitionSpec('fsdp', 'tensor'),
  ]
