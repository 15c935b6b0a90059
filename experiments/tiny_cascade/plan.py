"""The stages of the cascade: commands, what each needs, and on what it depends.

prepare -> soundstream, mulan -> mulan_rvq, w2v_bert -> kmeans -> tokenize ->
coarse, semantic, fine, features -> bundle -> generate -> evaluate
"""

import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from experiments.tiny_cascade import artifacts, feature_cache, process, report
from musiclm_jax.cascade import provenance, source_code
from musiclm_jax.contracts import ownership
from musiclm_jax.data import prepared, token_store
from musiclm_jax.training import workdir

PROMPTS = (
  'a calm piano solo',
  'fast rock with electric guitar and drums',
  'slow strings, film music',
  'a cheerful flute waltz',
)
SAMPLE_SECONDS = 10
# A crop of 10 s every 50 s of half of the pieces, about a tenth of the music:
# to tokenize all of it would take ten times as long.
TOKEN_HOP_SECONDS = 50
TOKEN_PIECES = 640
_CONFIGS = source_code.ROOT / 'configs'
_EXAMINE = 'experiments.tiny_cascade.examine'
# training -> (what it needs, expected seconds on one core)
_TRAININGS = {
  'soundstream': (('prepare',), 1250),
  'w2v_bert': (('prepare',), 330),
  'kmeans': (('w2v_bert',), 40),
  'mulan': (('prepare',), 800),
  'mulan_rvq': (('mulan',), 90),
  'semantic': (('tokenize',), 370),
  'coarse': (('tokenize',), 800),
  'fine': (('tokenize',), 270),
}
_FITTED_NETWORK = {'kmeans': 'w2v_bert', 'mulan_rvq': 'mulan'}
# Longest first: two run side by side.
_TOKENIZERS = ('soundstream', 'mulan', 'mulan_rvq', 'w2v_bert', 'kmeans')
_LANGUAGE_MODELS = ('coarse', 'semantic', 'fine')


@dataclasses.dataclass(frozen=True)
class CascadeStage:
  """One step of the cascade.

  Attributes:
    name: Also of its log and stamp.
    command: What follows `python -m`: a module and its arguments.
    needs: Stages whose output it reads.
    output: Folder or file that it makes.
    builds: Networks whose code it runs and that no stage it needs has run.
    expected_seconds: On its share of two cores, for the ETA until measured.
    shares: Whether it runs on half of the cores, beside another such stage.
    config: Module of its config, for trainings.
    kind: Of the output, which is cleared when the inputs have changed; the
      command itself replaces what is of no such kind.
    check_out: Of an output of no kind: given whether files of ours that were
      changed are replaced too, raises where something may not be.
  """

  name: str
  command: tuple[str, ...]
  needs: tuple[str, ...]
  output: Path
  builds: tuple[str, ...]
  expected_seconds: float
  shares: bool = False
  config: str | None = None
  kind: ownership.Kind | None = None
  check_out: Callable[[bool], None] = lambda overwrite: None

  def check(self, overwrite: bool) -> None:
    """Checks that all that is there may be replaced.

    Args:
      overwrite: Whether files of ours that were changed are, too.

    Raises:
      UsageError: Naming what may not.
    """
    if self.kind:
      ownership.check_ours(self.output, self.kind)
    else:
      self.check_out(overwrite)

  def program(self) -> list[str]:
    """Program and arguments, with the interpreter that runs now."""
    return [sys.executable, '-m', *self.command]


@dataclasses.dataclass(frozen=True)
class CascadePlan:
  """What to run, everything below one folder.

  Attributes:
    out: The folder.
    seed: Reaches corpus, trainings and samples.
    size: Of every config.
    pieces: Of the corpus.
    steps: Of every training, instead of its config; for trials.
  """

  out: Path
  seed: int
  size: str
  pieces: int
  steps: int | None = None

  def stages(self) -> list[CascadeStage]:
    """All stages in order."""
    trainings = {name: self._training(name) for name in _TRAININGS}
    return [
      self._prepare(),
      *(trainings[name] for name in _TOKENIZERS),
      self._tokenize(),
      *(trainings[name] for name in _LANGUAGE_MODELS),
      self._features(),
      self._bundle(),
      self._generate(),
      self._evaluate(),
    ]

  @property
  def _source(self) -> str:
    return f'prepared:{self.out / "corpus"}'

  def _prepare(self) -> CascadeStage:
    return CascadeStage(
      name='prepare',
      command=(
        'musiclm_jax.prepare',
        '--source=rendered_music',
        f'--out={self.out / "corpus"}',
        f'--pieces={self.pieces}',
        f'--seed={self.seed}',
      ),
      needs=(),
      output=self.out / 'corpus',
      kind=prepared.FOLDER,
      builds=(),
      expected_seconds=180,
    )

  def _training(self, name: str) -> CascadeStage:
    needs, expected_seconds = _TRAININGS[name]
    workdirs = self.out / 'workdirs'
    command = [
      'musiclm_jax.train',
      f'--config={_CONFIGS / name}.py:{self.size}',
      f'--config.seed={self.seed}',
      f'--workdir={workdirs / name}',
    ]
    if self.steps is not None:
      command.append(f'--config.schedule.total_steps={self.steps}')
    if name in _LANGUAGE_MODELS:
      command.append(f'--tokens={self.out / "tokens"}')
    else:
      command.append(f'--config.data.source={self._source}')
    if name in _FITTED_NETWORK:
      command.append(f'--network={workdirs / _FITTED_NETWORK[name]}')
    return CascadeStage(
      name=name,
      command=tuple(command),
      needs=needs,
      output=workdirs / name,
      kind=workdir.FOLDER,
      builds=(name,),
      expected_seconds=expected_seconds,
      shares=True,
      config=f'musiclm_jax.configs.{name}',
    )

  def _tokenize(self) -> CascadeStage:
    return CascadeStage(
      name='tokenize',
      command=(
        'musiclm_jax.tokenize',
        f'--workdirs={self.out / "workdirs"}',
        f'--source={self._source}',
        f'--out={self.out / "tokens"}',
        f'--hop_seconds={TOKEN_HOP_SECONDS}',
        f'--max_pieces={TOKEN_PIECES}',
      ),
      needs=_TOKENIZERS,
      output=self.out / 'tokens',
      kind=token_store.FOLDER,
      builds=(),
      expected_seconds=330,
    )

  def _features(self) -> CascadeStage:
    return CascadeStage(
      name='features',
      command=(_EXAMINE, f'--demo={self.out}', '--only_features'),
      # It could run before the tokens, but they would have to wait for it.
      needs=('prepare', 'soundstream', 'tokenize'),
      output=self.out / 'features',
      kind=feature_cache.FOLDER,
      builds=(),
      expected_seconds=110,
      shares=True,
    )

  def _bundle(self) -> CascadeStage:
    return CascadeStage(
      name='bundle',
      command=(
        'musiclm_jax.bundle',
        f'--workdirs={self.out / "workdirs"}',
        f'--tokens={self.out / "tokens"}',
        f'--out={self.out / "bundle"}',
      ),
      needs=('tokenize', *_TOKENIZERS, *_LANGUAGE_MODELS),
      output=self.out / 'bundle',
      builds=(),
      expected_seconds=15,
      check_out=lambda overwrite: artifacts.check_bundle(
        self.out / 'bundle', overwrite
      ),
    )

  def _generate(self) -> CascadeStage:
    return CascadeStage(
      name='generate',
      command=(
        'musiclm_jax.generate',
        f'--bundle={self.out / "bundle"}',
        *(f'--text={prompt}' for prompt in PROMPTS),
        f'--seconds={SAMPLE_SECONDS}',
        f'--seed={self.seed}',
        f'--out={self.out / "samples" / "sample.wav"}',
      ),
      needs=('bundle',),
      output=self.out / 'samples',
      builds=(),
      expected_seconds=40,
      check_out=lambda overwrite: _check_samples(
        self.out / 'samples', overwrite
      ),
    )

  def _evaluate(self) -> CascadeStage:
    return CascadeStage(
      name='evaluate',
      command=(_EXAMINE, f'--demo={self.out}', f'--seed={self.seed}'),
      needs=('tokenize', 'features', 'bundle', 'generate'),
      output=self.out / 'report.json',
      builds=(),
      expected_seconds=400,
      check_out=lambda overwrite: report.check_out(self.out, overwrite),
    )


def _check_samples(folder: Path, overwrite: bool) -> None:
  for path in folder.glob('*.wav'):
    provenance.check_out(path, overwrite)


def input_hashes(
  stages: Sequence[CascadeStage],
  *,
  with_code: bool = True,
  root: Path = source_code.ROOT,
) -> dict[str, str]:
  """What each stage's output depends on, as one hash a stage.

  Args:
    stages: In order.
    with_code: Whether the Python files that the stage runs through count
      beside its command, its config and the hashes of what it needs.
    root: Folder of the packages and configs.
  """
  hashes: dict[str, str] = {}
  for stage in stages:
    parts: list[str | Path] = [' '.join(stage.program()[1:])]
    parts += [hashes[name] for name in stage.needs]
    if stage.config:
      parts += source_code.files(stage.config, root=root)
    if with_code:
      parts.append(source_code.digest(stage.command[0], stage.builds, root))
    hashes[stage.name] = process.hash_of(*parts)
  return hashes
