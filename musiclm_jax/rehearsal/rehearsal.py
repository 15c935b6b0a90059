"""A rehearsal: config and topology -> what a training would need and reach."""

import dataclasses
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Any

from musiclm_jax.rehearsal import roofline
from musiclm_jax.rehearsal.collectives import collectives, links_of
from musiclm_jax.rehearsal.program import Config, compile_step, plan
from musiclm_jax.rehearsal.suggestion import suggest
from musiclm_jax.rehearsal.topology import Topology
from musiclm_jax.training.assembly import Training
from musiclm_jax.training.sharding_report import held

_VERSIONS = ('jax', 'jaxlib', 'libtpu')


def rehearse(config: Config, topology: Topology) -> dict[str, Any]:
  """Compiles the training step of a config for a slice and reads it.

  Args:
    config: Resolved, as a nested dict.
    topology: The slice.

  Returns:
    What `--json` writes, without `suggestion`. Where the program does not
    fit, `max_mfu`, `bound_by` and `t_ici` are None, there are no collectives,
    and `peak_hbm_bytes` is what XLA says, in its refusal if it refused.

  Raises:
    UsageError: If mesh or batch do not divide.
  """
  planned = plan(config, topology.devices)
  compiled, seconds, memory = compile_step(planned)
  work = roofline.work(config, planned)
  chip, chips = topology.chip, planned.mesh.size
  times = work.times(chip, chips)
  limit = memory.limit or int(chip.hbm_bytes)
  # XLA refuses what is live at once; what it lays out may be more.
  fits = compiled is not None and memory.peak <= limit
  result = {
    'fits': fits,
    'peak_hbm_bytes': memory.peak,
    'hbm_limit_bytes': limit,
    'max_mfu': None,
    'bound_by': None,
    **times,
    't_ici': None,
    'collectives': [],
    'model_flops': work.model_flops,
  }
  if fits:
    found = collectives(compiled.as_text(), planned.mesh, links_of(topology))
    bound = roofline.bound(
      model_flops=work.model_flops,
      chips=chips,
      peak=chip.peak,
      t_ici=sum(one.seconds for one in found),
      **times,
    )
    result |= dataclasses.asdict(bound)
    result['collectives'] = [dataclasses.asdict(one) for one in found]
  return result | {
    'program_flops': work.program_flops,
    'hbm_bytes': work.hbm_bytes,
    'batch_bytes': held(planned.batch)[1],
    'parameter_bytes': held(planned.state.params)[1],
    'argument_bytes': memory.arguments,
    'temporary_bytes': memory.temporaries,
    'live_bytes': memory.live,
    'chips': chips,
    'peak_flops': chip.peak,
    'link_bandwidth': chip.link_bandwidth,
    **described(config, planned, topology.name),
    'compile_seconds': round(seconds, 1),
  }


def rehearse_and_suggest(
  config: Config, topology: Topology, say: Callable[[str], None] = print
) -> dict[str, Any]:
  """As `rehearse`, with `suggestion`: None where the config fits as it is."""
  result = rehearse(config, topology)
  suggestion = None
  if not result['fits']:
    say(
      f'does not fit: at least {result["peak_hbm_bytes"] / 1e9:.1f} GB of '
      f'{result["hbm_limit_bytes"] / 1e9:.1f}; trying changes'
    )
    suggestion = suggest(
      config, result, lambda changed: rehearse(changed, topology), say
    )
  return result | {'suggestion': suggestion}


def described(
  config: Config, planned: Training, topology: str
) -> dict[str, Any]:
  """The metadata of a result."""
  return {
    'stage': config['stage'],
    'topology': topology,
    'mesh': dict(planned.mesh.shape),
    'batch_size': config['data']['batch_size'],
    'accumulation': config['training']['accumulation'],
    'remat': _remat(config.get('model', {})),
    'versions': {name: _version(name) for name in _VERSIONS},
  }


def _remat(model: Mapping[str, Any]) -> str | None:
  """The policy of the network, or of its first tower that has one."""
  if 'remat' in model:
    return model['remat']
  inner = [value for value in model.values() if hasattr(value, 'keys')]
  return next(filter(None, map(_remat, inner)), None)


def _version(package: str) -> str | None:
  try:
    return metadata.version(package)
  except metadata.PackageNotFoundError:
    return None
