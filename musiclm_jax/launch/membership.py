"""Which process of which run this is: environment -> address, count, index.

A run of several processes is jax's own multi-controller runtime: the same
program on every host, joined at one address.
"""

import dataclasses
import os
from collections.abc import Mapping

from musiclm_jax.contracts.errors import UsageError

ADDRESS = 'JAX_COORDINATOR_ADDRESS'
COUNT = 'JAX_NUM_PROCESSES'
INDEX = 'JAX_PROCESS_ID'
AUTO = 'auto'
_LOCAL = 'JAX_LOCAL_DEVICE_IDS'  # which jax reads itself
# Launchers that start several processes and say so.
_LAUNCHERS = ('SLURM_STEP_NUM_TASKS', 'OMPI_COMM_WORLD_SIZE')
_TPU_HOSTS = 'TPU_WORKER_HOSTNAMES'
_DETECTION_SECONDS = 30


@dataclasses.dataclass(frozen=True)
class Membership:
  """One process of a run.

  Attributes:
    address: HOST:PORT where process 0 listens.
    count: Processes of the run.
    index: Of this process, from 0.
    local_devices: Of its host, where a launcher gives each process its own;
      None is all of them.
  """

  address: str
  count: int
  index: int
  local_devices: tuple[int, ...] | None = None

  def variables(self) -> dict[str, str]:
    """Says the same as environment variables."""
    variables = {
      ADDRESS: self.address,
      COUNT: str(self.count),
      INDEX: str(self.index),
    }
    if self.local_devices is not None:
      variables[_LOCAL] = ','.join(map(str, self.local_devices))
    return variables


ALONE = Membership('', 1, 0)


def find(environment: Mapping[str, str] = os.environ) -> Membership:
  """Finds the place of this process in a run of several.

  `JAX_COORDINATOR_ADDRESS=HOST:PORT` with `JAX_NUM_PROCESSES` and
  `JAX_PROCESS_ID` says it; `JAX_COORDINATOR_ADDRESS=auto`, or a launcher that
  says it started several processes (Slurm, Open MPI, GKE), lets jax ask the
  cluster. Otherwise this process is alone.

  Raises:
    UsageError: If a part is missing or does not fit, or jax knows no cluster.
  """
  address = environment.get(ADDRESS)
  if not address and not _among_several(environment):
    return ALONE
  if not address or address == AUTO:
    return _detected()
  try:
    count, index = int(environment[COUNT]), int(environment[INDEX])
  except (KeyError, ValueError) as error:
    raise UsageError(
      f'{ADDRESS} is set without a number in {COUNT} and {INDEX} ({error}): '
      'set all three'
    ) from error
  if not 0 <= index < count:
    raise UsageError(
      f'{INDEX}={index} is no process of {COUNT}={count}: count from 0'
    )
  if not address.rpartition(':')[2].isdigit():
    raise UsageError(f'{ADDRESS}={address} has no port: give HOST:PORT')
  return Membership(address, count, index)


def join(environment: Mapping[str, str] = os.environ) -> None:
  """Joins the run that the environment describes, before any use of jax.

  Raises:
    UsageError: As `find` does.
  """
  member = find(environment)
  if member.count == 1:
    return
  import jax

  # Jax reads the variable too, and would take 'auto' for a host.
  os.environ[ADDRESS] = member.address
  jax.distributed.initialize(
    member.address,
    member.count,
    member.index,
    local_device_ids=member.local_devices,
  )


def _among_several(environment: Mapping[str, str]) -> bool:
  tasks = (environment.get(name, '') for name in _LAUNCHERS)
  return ',' in environment.get(_TPU_HOSTS, '') or any(
    number.isdigit() and int(number) > 1 for number in tasks
  )


def _detected() -> Membership:
  """Asks jax, which knows Cloud TPU, GKE, Slurm and MPI."""
  from jax._src.clusters import ClusterEnv

  os.environ.pop(ADDRESS, None)
  try:
    found = ClusterEnv.auto_detect_unset_distributed_params(
      None, None, None, None, None, _DETECTION_SECONDS
    )
  except Exception as error:  # of the cluster's own making
    raise UsageError(
      f'the cluster does not say who is in this run ({error}): set {ADDRESS}, '
      f'{COUNT} and {INDEX}'
    ) from error
  address, count, index, local = found
  if address is None or count is None or index is None:
    raise UsageError(
      'no cluster that jax knows (Cloud TPU, GKE, Slurm, MPI) is here: set '
      f'{ADDRESS}, {COUNT} and {INDEX}'
    )
  return Membership(
    address, count, index, None if local is None else tuple(local)
  )
