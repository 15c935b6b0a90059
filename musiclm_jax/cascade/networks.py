"""Trained networks, ready for inference, from a workdir or from a bundle."""

import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

import jax
from jax.sharding import Mesh

from musiclm_jax import stages as table
from musiclm_jax.cascade import bundle
from musiclm_jax.cascade.weights import Weights
from musiclm_jax.contracts import sharding
from musiclm_jax.contracts.array_types import PyTree
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.task import Collections, Params
from musiclm_jax.contracts.tensor_file import DType
from musiclm_jax.contracts.token_contract import TokenContract

Model = TypeVar('Model')  # one of `stages.Inference`
_MAKE_MUSIC = (*table.LANGUAGE_MODELS, 'parallel', 'soundstream')


@dataclasses.dataclass(frozen=True)
class Network(Generic[Model]):
  """One trained stage.

  Attributes:
    model: Its mathematics, such as a `Codec`: nothing that only training
      needs.
    config: The resolved config it was built from.
    weights: As stored, as numpy arrays.
    mesh: Devices that it is used on; None: the default one.
  """

  model: Model
  config: Mapping[str, Any]
  weights: Weights
  mesh: Mesh | None = None

  @functools.cached_property
  def params(self) -> Params:
    """Player -> parameters, on the device or whole on each."""
    return self._placed(self.weights.params)

  @functools.cached_property
  def collections(self) -> Collections:
    """Player -> codebooks and statistics, likewise."""
    return self._placed(self.weights.collections)

  def _placed(self, tree: PyTree) -> PyTree:
    # Unlike `asarray` it compiles nothing, which is a program for each shape.
    where = None if self.mesh is None else sharding.replicated(self.mesh)
    return jax.device_put(tree, where)

  @property
  def shards(self) -> int:
    """Parts that a batch is cut into."""
    return 1 if self.mesh is None else sharding.batch_shards(self.mesh)

  @property
  def where(self) -> str:
    """What a kept part is named after: other shards, other rows in it."""
    return '' if self.shards == 1 else f' on {self.shards} shards'

  @functools.cached_property
  def sha256(self) -> str:
    """The hash of everything in it that makes its outputs."""
    return self.weights.sha256()

  @functools.cached_property
  def codes_sha256(self) -> str:
    """The hash of what makes its codes: a decoder may learn on."""
    return self.weights.codes_sha256()

  @functools.cached_property
  def identity(self) -> str:
    """The hash of weights and of what the config says beside them.

    Windows and their hop are not in the weights, and change what comes out.
    """
    made_by = [self.sha256, self.config['model'], self.config['loss']]
    text = json.dumps(made_by, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def load(path: str | os.PathLike, stage: str) -> Network:
  """Loads a stage; see `read`."""
  return build(read(path, stage))


def load_beside(
  path: str | os.PathLike, stage: str, contract: TokenContract, what: str
) -> Network:
  """Loads a stage that is used beside a bundle; see `read`.

  Args:
    path: The workdir or an export of its training.
    stage: Which one.
    contract: Of the bundle's tokens.
    what: What the stage is to the user.

  Raises:
    UsageError: As `read`, or if it was trained on other tokens.
  """
  network = load(path, stage)
  theirs = TokenContract.from_json(network.weights.contract_json or '{}')
  contract.check(theirs, 'the bundle', f"the {what} '{path}'")
  return network


def read(path: str | os.PathLike, stage: str) -> Weights:
  """Reads the weights of a stage.

  Args:
    path: The workdir or an export of its training, or a bundle.
    stage: `'soundstream'`, `'mulan'`, …

  Raises:
    UsageError: If it is none of these, is damaged, or is of another stage.
  """
  from musiclm_jax.training import export

  path = Path(path)
  if (path / bundle.MANIFEST).exists():
    return bundle.read(path).weights(stage)
  if not export.is_export(path):
    weights = read_workdir(path)
    check_stage(path, weights.config, stage)
    return weights
  given = export.read(path)
  check_stage(path, given.config, stage)
  params = given.ema_params or given.params
  return Weights(given.config, params, given.collections, given.contract_json)


def check_stage(
  path: str | os.PathLike, config: Mapping[str, Any], stage: str
) -> None:
  """Compares what a config trained with the stage that is needed.

  Raises:
    UsageError: Naming the path, if it is another.
  """
  found = config.get('stage')
  if found != stage:
    raise UsageError(
      f"'{path}' is of a training of the stage {found}, expected {stage}: give "
      f'the workdir of a {stage} training'
    )


def load_all(
  workdirs: str | os.PathLike,
  stages: tuple[str, ...],
  optional: tuple[str, ...] = (),
  dtype: DType = 'float32',
) -> dict:
  """Loads several stages from `workdirs/<stage>` or from one bundle.

  Args:
    workdirs: A folder of workdirs or exports, or a bundle.
    stages: Which ones.
    optional: Which ones as well, if all of these are there.
    dtype: That weights are rounded to, as a bundle of that type stores them.

  Returns:
    Stage -> network.

  Raises:
    UsageError: If one is missing; all that are missing are named. Or if
      codebooks were fitted to a network of another width.
  """
  workdirs = Path(workdirs)
  if (workdirs / bundle.MANIFEST).exists():
    opened = bundle.read(workdirs)
    stages += optional if set(optional) <= set(opened.stages) else ()
    return {
      stage: build(opened.weights(stage).rounded(dtype)) for stage in stages
    }
  found = all(is_there(workdirs / stage) for stage in optional)
  stages += optional if found else ()
  missing = [stage for stage in stages if not is_there(workdirs / stage)]
  if missing:
    raise UsageError(
      f"'{workdirs}' has no workdir of {', '.join(missing)}: train them with "
      f'--workdir={workdirs}/STAGE'
    )
  loaded = {
    stage: build(read(workdirs / stage, stage).rounded(dtype))
    for stage in stages
  }
  _check_widths(loaded)
  return loaded


def is_there(path: Path) -> bool:
  """Whether a stage may be read from a workdir or an export."""
  from musiclm_jax.training import export

  return path.is_dir() or export.is_export(path)


def read_workdir(path: str | os.PathLike) -> Weights:
  """Reads the newest checkpoint of a workdir.

  Raises:
    UsageError: If the folder is no workdir or has no whole checkpoint.
  """
  from musiclm_jax.training import checkpoint

  if not Path(path).is_dir():
    raise UsageError(f"there is no workdir '{path}': train that stage first")
  read = checkpoint.read(path)
  return Weights(read.config, read.params, read.collections, read.contract_json)


def build(weights: Weights, mesh: Mesh | None = None) -> Network:
  """Rebuilds the network of stored weights.

  What makes codes computes in float32, language models as they were trained.
  """
  return Network(
    table.build_inference(weights.config), weights.config, weights, mesh
  )


def _check_widths(networks: Mapping[str, Network]) -> None:
  for name, network in networks.items():
    fit = table.STAGES[name].fit
    if fit is None or fit.network not in networks:
      continue
    width = networks[fit.network].config['model'][fit.width_key]
    own = network.collections[name]
    entries = (
      own['centroids'] if 'centroids' in own else own['codebooks']['embed']
    )
    if entries.shape[-1] != width:
      raise UsageError(
        f'{name} was fitted to features of width {entries.shape[-1]}, those of '
        f'{fit.network} have {width}: train {name} again'
      )


def over_devices(tensor: int = 1) -> Mesh | None:
  """Arranges this process's devices for generation.

  Pieces go over what `tensor` leaves; other processes make pieces of their own.

  Args:
    tensor: Devices that share a language model's layers.

  Returns:
    The mesh; None where there is one device.

  Raises:
    UsageError: If the devices cannot be split so.
  """
  devices = jax.local_devices()
  count = len(devices)
  if tensor < 1 or count % tensor:
    fitting = [str(n) for n in range(1, count + 1) if count % n == 0]
    raise UsageError(
      f'--tensor={tensor}: jax has {count} devices here, choose one of '
      f'{", ".join(fitting)}'
    )
  if count == 1:
    return None
  return sharding.make_mesh(tensor=tensor, devices=devices)


class LazyNetworks(Mapping[str, Network]):
  """The networks of a bundle and beside it, each built when first asked for."""

  def __init__(
    self,
    opened: bundle.Bundle,
    report: Callable[[str], None],
    tensor: int = 1,
    parallel: str | os.PathLike | None = None,
  ):
    """Takes an open bundle; no device is needed yet.

    Args:
      opened: The bundle.
      report: Takes a line when it is read.
      tensor: Of `over_devices`, over which what makes music lies; what embeds
        and tokenizes is on one.
      parallel: Workdir or export of a parallel LM of the bundle's tokens.
    """
    self._bundle, self._report, self._tensor = opened, report, tensor
    self._parallel = parallel
    self._stages = (*opened.stages, *(['parallel'] if parallel else []))
    self._built: dict[str, Network] = {}

  def __getitem__(self, stage: str) -> Network:
    """Builds a stage's, where it is not built yet."""
    if stage not in self._stages:
      raise KeyError(stage)
    if stage in self._built:
      return self._built[stage]
    mesh = over_devices(self._tensor) if stage in _MAKE_MUSIC else None
    if stage == 'parallel':
      contract = self._bundle.contract
      made = load_beside(self._parallel, stage, contract, 'parallel LM')
      self._built[stage] = dataclasses.replace(made, mesh=mesh)
    else:
      if not self._built:
        self._report(f'loading {self._bundle.path}')
      self._built[stage] = build(self._bundle.weights(stage), mesh)
    return self._built[stage]

  def __contains__(self, stage: object) -> bool:
    """Whether there is a stage."""
    return stage in self._stages

  def __iter__(self) -> Iterator[str]:
    """The stages."""
    return iter(self._stages)

  def __len__(self) -> int:
    """How many stages there are."""
    return len(self._stages)
