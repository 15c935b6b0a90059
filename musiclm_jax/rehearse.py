"""Says on a CPU how a training would do on TPUs before anyone rents them.

`python -m musiclm_jax.rehearse --config=configs/semantic.py:paper
--topology=v5e-256` compiles the training step for that slice: whether it fits,
what its chips exchange, and an upper bound of its MFU. `--json=FILE`
writes the figures.

`--generation` is about making music instead: whether the network that draws
codes, or the codec that decodes them, fits, and how many seconds a second of
music takes at best.

Without --topology it measures some steps on the devices that are here.
"""

import os

from absl import flags
from ml_collections import config_flags

from musiclm_jax import cli, path_flags
from musiclm_jax.contracts import ownership
from musiclm_jax.contracts.errors import UsageError

_CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'FILE.py[:SIZE], or a name such as semantic:tiny.'
)
_TOPOLOGY = flags.DEFINE_string(
  'topology', None, 'Slice, such as v5e-256 or v5e:16x16.'
)
_JSON = path_flags.DEFINE_path('json', None, 'File for the figures.')
_OVERWRITE = flags.DEFINE_bool(
  'overwrite', False, 'Replace the file at --json, whoever wrote it.'
)
_EFFORT = flags.DEFINE_enum(
  'effort',
  'quick',
  ['quick', 'full'],
  "Of XLA: `quick` takes a tenth of the time; `full` is a training's own.",
)
_GENERATION = flags.DEFINE_bool(
  'generation', False, 'Of making music with the network, not of training it.'
)
_WEIGHTS = flags.DEFINE_enum(
  'weights',
  'bfloat16',
  ['float32', 'bfloat16'],
  'Type of the kernels that make music.',
)
# What libtpu would otherwise ask a cloud for, with warnings without one.
_ABSENT_TPU = {
  'JAX_PLATFORMS': 'cpu',
  'TPU_SKIP_MDS_QUERY': '1',
  'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
  'TPU_ACCELERATOR_TYPE': 'v5litepod-16',
  'TPU_WORKER_HOSTNAMES': 'localhost',
  # What is compiled for devices that are absent cannot be read back.
  'JAX_ENABLE_COMPILATION_CACHE': 'false',
}
_EFFORTS = {'quick': '-1.0', 'full': '0.0'}


def main() -> None:
  """Rehearses a config on a slice, or measures it here."""
  config = _CONFIG.value
  if config is None:
    raise UsageError('--config is missing: give one like semantic:paper')
  from musiclm_jax.rehearsal import table

  if _JSON.value:
    ownership.check_sealed(_JSON.value, 'rehearse', _OVERWRITE.value)
  from musiclm_jax.launch import devices

  if _WEIGHTS.present and not _GENERATION.value:
    raise UsageError('--weights is of making music: give --generation too')
  if _GENERATION.value and _TOPOLOGY.value is None:
    raise UsageError('--generation needs a slice, such as --topology=v5e-8')
  if _TOPOLOGY.value is None:
    devices.check()
    from musiclm_jax.rehearsal.rehearsal import measure

    result = measure(config.to_dict())
  else:
    _prepare()
    from musiclm_jax.rehearsal.rehearsal import rehearse_and_suggest
    from musiclm_jax.rehearsal.topology import open_topology

    devices.check()
    topology = open_topology(_TOPOLOGY.value)
    if _GENERATION.value:
      from musiclm_jax.rehearsal.generation import rehearse_generation

      result = rehearse_generation(config.to_dict(), topology, _WEIGHTS.value)
    else:
      result = rehearse_and_suggest(config.to_dict(), topology)
    result['effort'] = _EFFORT.value
  print(table.lines(result))
  if _JSON.value:
    ownership.write_sealed(_JSON.value, result)


def _prepare() -> None:
  """Sets what jax reads when it starts; a user's own settings stay."""
  for name, value in _ABSENT_TPU.items():
    os.environ.setdefault(name, value)
  os.environ.setdefault(
    'JAX_EXEC_TIME_OPTIMIZATION_EFFORT', _EFFORTS[_EFFORT.value]
  )


if __name__ == '__main__':
  cli.run(main)
