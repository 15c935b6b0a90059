"""A bundle: the whole cascade in one folder that can be checked and moved.

bundle.json               schema, versions, settings, SHA-256 of every file
contract.json             what the tokens between the networks mean
README.md                 card
mulan/vocab.txt           pieces of words that prompts are made of
mulan/caption_words.txt   words of the captions that MuLan learned from
<stage>/config.json       resolved config, for `stages.build_inference`
<stage>/weights.safetensors
<stage>/contract.json     of a token LM: the contract it was trained under

Which stages made the tokens the contract says: those of a melody may be absent.
So may the captions' words, which earlier versions did not count.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from musiclm_jax.cascade import bundle_card as card
from musiclm_jax.cascade import weights as weights_file
from musiclm_jax.cascade.sampling import SamplingConfig
from musiclm_jax.cascade.weights import Weights
from musiclm_jax.contracts import atomic_file, ownership, paths
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.tensor_file import DType
from musiclm_jax.contracts.token_contract import TokenContract
from musiclm_jax.stages import LANGUAGE_MODELS, OPTIONAL, TOKENIZERS

SCHEMA_VERSION = 3
# The first has no top_k and top_p among its settings; both have one guidance
# for all stages, and weights as they were trained.
_READABLE = (1, 2, 3)
MANIFEST = 'bundle.json'
CONTRACT = 'contract.json'
VOCABULARY = 'mulan/vocab.txt'
CAPTION_WORDS = 'mulan/caption_words.txt'
STAGES = (*TOKENIZERS, *LANGUAGE_MODELS)
# The model inside the package, which plays where no other is named.
SHIPPED = Path(__file__).parents[1] / 'shipped'
_BLOCK_BYTES = 1 << 22


@dataclasses.dataclass(frozen=True)
class Bundle:
  """A bundle whose files are all there and as they were written.

  Attributes:
    path: The folder.
    contract: Of its tokens.
    settings: How to sample from it.
    sha256: Of its manifest, hence of everything in it.
    versions: Of the packages that wrote it.
    dtype: That its weights are stored in; see `tensor_file`.
  """

  path: Path
  contract: TokenContract
  settings: SamplingConfig
  sha256: str
  versions: Mapping[str, str]
  dtype: DType = 'float32'

  @property
  def stages(self) -> tuple[str, ...]:
    """What is in it."""
    return stages_of(self.contract)

  def weights(self, stage: str) -> Weights:
    """Reads one stage.

    Raises:
      UsageError: If there is no such stage.
    """
    if stage not in self.stages:
      raise UsageError(
        f"bundle '{self.path}' has no {stage} network: its language models "
        'were trained without'
      )
    return weights_file.read(self.path / stage)


def stages_of(contract: TokenContract) -> tuple[str, ...]:
  """Lists what a cascade of these tokens consists of."""
  more = (stage for stage in OPTIONAL if stage in contract.networks)
  return (*TOKENIZERS, *more, *LANGUAGE_MODELS)


def write(
  out: str | os.PathLike,
  stages: Mapping[str, Weights],
  contract: TokenContract,
  vocabulary: str,
  settings: SamplingConfig,
  versions: Mapping[str, str],
  overwrite: bool = False,
  dtype: DType = 'float32',
  caption_words: str | None = None,
) -> Bundle:
  """Writes a bundle beside `out`, reads it, and only then puts it there.

  An older bundle at `out` is replaced; any other folder is not.

  Args:
    out: Folder of the bundle; see `check_out`.
    stages: Stage -> weights.
    contract: Of the tokens that these weights make, rounded as they are stored.
    vocabulary: The text of MuLan's vocab.txt.
    settings: How to sample from it.
    versions: Of the packages.
    overwrite: Whether a bundle with files that were changed is replaced.
    dtype: That weights are stored in; see `tensor_file`.
    caption_words: The text of MuLan's caption_words.txt, where it has one.

  Raises:
    UsageError: If a stage is missing, a token LM was trained under another
      contract, or `out` is refused; see `check_out`.
    OSError: If the disk does not take it.
  """
  out = Path(out)
  needed = stages_of(contract)
  missing = [stage for stage in needed if stage not in stages]
  if missing:
    raise UsageError(f'a bundle needs the stages {", ".join(missing)} as well')
  _check_contracts(contract, stages)
  check_out(out, overwrite)
  arrays = (a for stage in needed for a in stages[stage].arrays().values())
  paths.check_room(out, sum(a.nbytes for a in arrays), 'the weights')
  with atomic_file.atomic_folder(out) as folder, atomic_file.naming(out):
    for stage in needed:
      weights_file.write(folder / stage, stages[stage], dtype)
    (folder / CONTRACT).write_text(contract.to_json())
    (folder / VOCABULARY).write_text(vocabulary, encoding='utf-8')
    if caption_words is not None:
      (folder / CAPTION_WORDS).write_text(caption_words, encoding='utf-8')
    (folder / 'README.md').write_text(
      card.text(stages, contract, settings, dtype)
    )
    manifest = {
      'schema_version': SCHEMA_VERSION,
      'settings': dataclasses.asdict(settings),
      'dtype': dtype,
      'versions': dict(versions),
      'files': {
        name: _hash(folder / name) for name in sorted(ownership.files(folder))
      },
    }
    (folder / MANIFEST).write_text(
      json.dumps(manifest, indent=1, sort_keys=True)
    )
    written = read(folder)
  return dataclasses.replace(written, path=out)


def check_out(out: Path, overwrite: bool = False) -> None:
  """Checks that a bundle can be written to `out`; leaves nothing there.

  Args:
    out: A folder that is not there, is empty, or is a bundle.
    overwrite: Whether a bundle with files that were changed is replaced.

  Raises:
    UsageError: Naming what is not ours.
  """
  paths.check_name(out)
  paths.check_folder(out.parent, out)
  atomic_file.remove_leftovers(out.parent)
  if not os.path.lexists(out):
    return
  if not out.is_dir() or out.is_mount():
    what = 'a disk of its own' if out.is_dir() else 'a file'
    raise UsageError(f"'{out}' is {what}: choose another --out, in a folder")
  there = sorted(ownership.files(out))
  files = ownership.object_in(out / MANIFEST).get('files')
  if there and not isinstance(files, dict):
    raise UsageError(
      f"'{out}' holds '{there[0]}', which is no bundle: choose another --out"
    )
  for name in there:
    if name != MANIFEST and name not in files:
      raise UsageError(
        f"bundle '{out}' holds '{name}', which musiclm_jax did not write: move "
        'that elsewhere or choose another --out'
      )
    if name != MANIFEST and not overwrite and files[name] != _hash(out / name):
      raise UsageError(
        f"bundle '{out}': '{name}' was changed since it was written: choose "
        'another --out, or give --overwrite to replace it'
      )


def read(path: str | os.PathLike) -> Bundle:
  """Opens a bundle and checks every file in it.

  Raises:
    UsageError: If it is missing, of another schema, damaged (the file is
      named), or its networks disagree on the token contract.
  """
  path = Path(path)
  if not (path / MANIFEST).is_file():
    raise UsageError(
      f"'{path}' is no bundle (it has no {MANIFEST}): make one with python "
      '-m musiclm_jax.bundle'
    )
  raw = (path / MANIFEST).read_bytes()
  try:
    manifest = json.loads(raw)
    version = manifest['schema_version']
    files = dict(manifest['files'])
    settings = SamplingConfig().changed(manifest['settings'])
    versions = dict(manifest['versions'])
    dtype = manifest.get('dtype', 'float32')
  except (ValueError, KeyError, TypeError, UsageError) as error:
    raise UsageError(
      f"bundle '{path}': {MANIFEST} is damaged ({error!r}): copy it again"
    ) from error
  if version not in _READABLE:
    raise UsageError(
      f"bundle '{path}' has schema_version {version}, this release reads "
      f'{SCHEMA_VERSION}: make the bundle again'
    )
  _check_files(path, files)
  contract = TokenContract.read(path / CONTRACT)
  for stage in LANGUAGE_MODELS:
    text = (path / stage / CONTRACT).read_text()
    contract.check(TokenContract.from_json(text), 'the bundle', stage)
  sha256 = hashlib.sha256(raw).hexdigest()
  return Bundle(path, contract, settings, sha256, versions, dtype)


def _check_contracts(
  contract: TokenContract, stages: Mapping[str, Weights]
) -> None:
  for stage in LANGUAGE_MODELS:
    text = stages[stage].contract_json
    if text is None:
      raise UsageError(
        f'the {stage} stage carries no token contract: train it on a token '
        'store'
      )
    contract.check(
      TokenContract.from_json(text), 'the networks', f'the {stage} stage'
    )


def _check_files(path: Path, files: Mapping[str, str]) -> None:
  needed = {CONTRACT, VOCABULARY}
  for stage in STAGES:
    needed |= {f'{stage}/{name}' for name in weights_file.FILES}
  needed |= {f'{stage}/{CONTRACT}' for stage in LANGUAGE_MODELS}
  for name in sorted(needed | files.keys()):
    if not (path / name).is_file():
      raise UsageError(
        f"bundle '{path}': the file {name} is missing: copy the bundle again"
      )
    if files.get(name) != _hash(path / name):
      raise UsageError(
        f"bundle '{path}': the file {name} is damaged (its SHA-256 is not the "
        f'one in {MANIFEST}): copy the bundle again'
      )


def _hash(path: Path) -> str:
  digest = hashlib.sha256()
  with open(path, 'rb') as file:
    while block := file.read(_BLOCK_BYTES):
      digest.update(block)
  return digest.hexdigest()
