"""A bundle: the whole cascade in one folder that can be checked and moved.

bundle.json               schema, versions, settings, SHA-256 of every file
contract.json             what the tokens between the networks mean
README.md                 card
mulan/vocab.txt           pieces of words that prompts are made of
<stage>/config.json       resolved config, rebuilt by `stages.build`
<stage>/weights.safetensors
<stage>/contract.json     of a token LM: the contract it was trained under

Which stages made the tokens the contract says: those of a melody may be absent.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from musiclm_jax.cascade import bundle_card as card
from musiclm_jax.cascade import weights as weights_file
from musiclm_jax.cascade.settings import Settings
from musiclm_jax.cascade.weights import Weights
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.token_contract import TokenContract

SCHEMA_VERSION = 1
MANIFEST = 'bundle.json'
CONTRACT = 'contract.json'
VOCABULARY = 'mulan/vocab.txt'
TOKENIZERS = ('soundstream', 'w2v_bert', 'kmeans', 'mulan', 'mulan_rvq')
OPTIONAL = ('melody', 'melody_rvq')  # they make melody tokens as well
LANGUAGE_MODELS = ('semantic', 'coarse', 'fine')
STAGES = (*TOKENIZERS, *LANGUAGE_MODELS)
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
  """

  path: Path
  contract: TokenContract
  settings: Settings
  sha256: str
  versions: Mapping[str, str]

  @property
  def stages(self) -> tuple[str, ...]:
    """What is in it."""
    return stages_of(self.contract)

  @property
  def vocabulary(self) -> Path:
    """The file of MuLan's word pieces."""
    return self.path / VOCABULARY

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
  settings: Settings,
  versions: Mapping[str, str],
) -> Bundle:
  """Writes a bundle beside `out` and renames it when it is whole.

  An older bundle at `out` is replaced; any other folder is not.

  Raises:
    UsageError: If a stage is missing, a token LM was trained under another
      contract, or `out` is a folder that is no bundle.
  """
  out = Path(out)
  needed = stages_of(contract)
  missing = [stage for stage in needed if stage not in stages]
  if missing:
    raise UsageError(f'a bundle needs the stages {", ".join(missing)} as well')
  _check_contracts(contract, stages)
  if out.exists() and not (out / MANIFEST).exists() and any(out.iterdir()):
    raise UsageError(
      f"'{out}' holds something that is no bundle: choose another --out"
    )
  with _replacing(out) as folder:
    for stage in needed:
      weights_file.write(folder / stage, stages[stage])
    (folder / CONTRACT).write_text(contract.to_json())
    (folder / VOCABULARY).write_text(vocabulary, encoding='utf-8')
    (folder / 'README.md').write_text(card.text(stages, contract, settings))
    manifest = {
      'schema_version': SCHEMA_VERSION,
      'settings': dataclasses.asdict(settings),
      'versions': dict(versions),
      'files': {name: _hash(folder / name) for name in _files(folder)},
    }
    (folder / MANIFEST).write_text(
      json.dumps(manifest, indent=1, sort_keys=True)
    )
  return read(out)


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
    settings = Settings(**manifest['settings'])
    versions = dict(manifest['versions'])
  except (ValueError, KeyError, TypeError) as error:
    raise UsageError(
      f"bundle '{path}': {MANIFEST} is damaged ({error!r}): copy it again"
    ) from error
  if version != SCHEMA_VERSION:
    raise UsageError(
      f"bundle '{path}' has schema_version {version}, this release reads "
      f'{SCHEMA_VERSION}: make the bundle again'
    )
  _check_files(path, files)
  contract = TokenContract.from_json((path / CONTRACT).read_text())
  for stage in LANGUAGE_MODELS:
    text = (path / stage / CONTRACT).read_text()
    contract.check(TokenContract.from_json(text), 'the bundle', stage)
  sha256 = hashlib.sha256(raw).hexdigest()
  return Bundle(path, contract, settings, sha256, versions)


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


@contextlib.contextmanager
def _replacing(out: Path) -> Iterator[Path]:
  """Yields a new neighbour folder that takes the place of `out` at the end."""
  out.parent.mkdir(parents=True, exist_ok=True)
  folder = Path(tempfile.mkdtemp(dir=out.parent, prefix=f'.{out.name}.'))
  folder.chmod(0o755)
  old = folder.with_name(f'{folder.name}.old')
  try:
    yield folder
    if out.exists():
      os.rename(out, old)
    os.rename(folder, out)
  except BaseException:
    if old.exists() and not out.exists():
      os.rename(old, out)
    raise
  finally:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def _files(folder: Path) -> list[str]:
  paths = (p for p in folder.rglob('*') if p.is_file())
  return sorted(p.relative_to(folder).as_posix() for p in paths)


def _hash(path: Path) -> str:
  digest = hashlib.sha256()
  with open(path, 'rb') as file:
    while block := file.read(_BLOCK_BYTES):
      digest.update(block)
  return digest.hexdigest()
