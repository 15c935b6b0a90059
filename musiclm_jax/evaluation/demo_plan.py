"""The stages of the demo: commands, what each needs, and on what it depends.

prepare -> soundstream, mulan -> mulan_rvq, w2v_bert -> kmeans -> tokenize ->
coarse, semantic, fine, hearing -> bundle -> generate -> evaluate
"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from musiclm_jax.cascade import bundle, provenance, source_code
from musiclm_jax.contracts import ownership
from musiclm_jax.data import token_store
from musiclm_jax.evaluation import hearing, report, stage_process
from musiclm_jax.rendered_music import shards
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
_CONFIGS = source_code.ROOT.parent / 'configs'
# training -> (what it needs, expected seconds on one core)
_TRAININGS = {
  'soundstream': (('prepare',), 1250),
  'w2v_bert': (('prepare',), 330),
  'kmeans': (('w2v_bert',), 40),
  'mulan': (('prepare',), 800),
  'mulan_rvq': (('mulan',), 90),
  'semantic': (('tokenize',), 120),
  'coarse': (('tokenize',), 800),
  'fine': (('tokenize',), 270),
}
_FITTED_NETWORK = {'kmeans': 'w2v_bert', 'mulan_rvq': 'mulan'}
# Longest first: two run side by side.
_TOKENIZERS = ('soundstream', 'mulan', 'mulan_rvq', 'w2v_bert', 'kmeans')
_LANGUAGE_MODELS = ('coarse', 'semantic', 'fine')


@dataclasses.dataclass(frozen=True)
class Stage:
  """One step of the demo.

  Attributes:
    name: Also of its log and stamp.
    door: The module that it goes through, `musiclm_jax.<door>`.
    arguments: Of the door.
    needs: Stages whose output it reads.
    output: Folder or file that it makes.
    builds: Networks whose code it runs and that no stage it needs has run.
    expected_seconds: On its share of two cores, for the ETA until measured.
    shares: Whether it runs on half of the cores, beside another such stage.
    config: File name of its config, for trainings.
    kind: Of the output, which is cleared when the inputs have changed; the
      command itself replaces what is of no such kind.
  """

  name: str
  door: str
  arguments: tuple[str, ...]
  needs: tuple[str, ...]
  output: Path
  builds: tuple[str, ...]
  expected_seconds: float
  shares: bool = False
  config: str | None = None
  kind: ownership.Kind | None = None

  def check(self, overwrite: bool) -> None:
    """Checks that all that is there may be replaced.

    Args:
      overwrite: Whether files of ours that were changed are, too.

    Raises:
      UsageError: Naming what may not.
    """
    if self.kind:
      ownership.check_ours(self.output, self.kind)
    elif self.door == 'bundle':
      bundle.check_out(self.output, overwrite)
    elif self.door == 'generate':
      for path in self.output.glob('*.wav'):
        provenance.check_out(path, overwrite)
    elif self.door == 'evaluate':
      report.check_out(self.output.parent, overwrite)

  def command(self) -> list[str]:
    """Program and arguments, with the interpreter that runs now."""
    return [sys.executable, '-m', f'musiclm_jax.{self.door}', *self.arguments]


@dataclasses.dataclass(frozen=True)
class Plan:
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

  def stages(self) -> list[Stage]:
    """All stages in order."""
    trainings = {name: self._training(name) for name in _TRAININGS}
    return [
      self._prepare(),
      *(trainings[name] for name in _TOKENIZERS),
      self._tokenize(),
      *(trainings[name] for name in _LANGUAGE_MODELS),
      self._hearing(),
      self._bundle(),
      self._generate(),
      self._evaluate(),
    ]

  @property
  def _source(self) -> str:
    return f'rendered_music:{self.out / "corpus"}'

  def _prepare(self) -> Stage:
    return Stage(
      name='prepare',
      door='prepare',
      arguments=(
        '--source=rendered_music',
        f'--out={self.out / "corpus"}',
        f'--pieces={self.pieces}',
        f'--seed={self.seed}',
      ),
      needs=(),
      output=self.out / 'corpus',
      kind=shards.FOLDER,
      builds=(),
      expected_seconds=180,
    )

  def _training(self, name: str) -> Stage:
    needs, expected_seconds = _TRAININGS[name]
    workdirs = self.out / 'workdirs'
    arguments = [
      f'--config={_CONFIGS / name}.py:{self.size}',
      f'--config.seed={self.seed}',
      f'--workdir={workdirs / name}',
    ]
    if self.steps is not None:
      arguments.append(f'--config.schedule.total_steps={self.steps}')
    if name in _LANGUAGE_MODELS:
      arguments.append(f'--tokens={self.out / "tokens"}')
    else:
      arguments.append(f'--config.data.source={self._source}')
    if name in _FITTED_NETWORK:
      arguments.append(f'--network={workdirs / _FITTED_NETWORK[name]}')
    return Stage(
      name=name,
      door='train',
      arguments=tuple(arguments),
      needs=needs,
      output=workdirs / name,
      kind=workdir.FOLDER,
      builds=(name,),
      expected_seconds=expected_seconds,
      shares=True,
      config=f'{name}.py',
    )

  def _tokenize(self) -> Stage:
    return Stage(
      name='tokenize',
      door='tokenize',
      arguments=(
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

  def _hearing(self) -> Stage:
    return Stage(
      name='hearing',
      door='evaluate',
      arguments=(f'--demo={self.out}', '--only_hearing'),
      # It could run before the tokens, but they would have to wait for it.
      needs=('prepare', 'soundstream', 'tokenize'),
      output=self.out / 'hearing',
      kind=hearing.FOLDER,
      builds=(),
      expected_seconds=510,
      shares=True,
    )

  def _bundle(self) -> Stage:
    return Stage(
      name='bundle',
      door='bundle',
      arguments=(
        f'--workdirs={self.out / "workdirs"}',
        f'--tokens={self.out / "tokens"}',
        f'--out={self.out / "bundle"}',
      ),
      needs=('tokenize', *_TOKENIZERS, *_LANGUAGE_MODELS),
      output=self.out / 'bundle',
      builds=(),
      expected_seconds=15,
    )

  def _generate(self) -> Stage:
    return Stage(
      name='generate',
      door='generate',
      arguments=(
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
    )

  def _evaluate(self) -> Stage:
    return Stage(
      name='evaluate',
      door='evaluate',
      arguments=(f'--demo={self.out}', f'--seed={self.seed}'),
      needs=('tokenize', 'hearing', 'bundle', 'generate'),
      output=self.out / 'report.json',
      builds=(),
      expected_seconds=230,
    )


def input_hashes(
  stages: Sequence[Stage], *, with_code: bool = True
) -> dict[str, str]:
  """What each stage's output depends on, as one hash a stage.

  Args:
    stages: In order.
    with_code: Whether the Python files that the stage runs through count
      beside its command, its config and the hashes of what it needs.
  """
  hashes: dict[str, str] = {}
  for stage in stages:
    parts: list[str | Path] = [' '.join(stage.command()[1:])]
    parts += [hashes[name] for name in stage.needs]
    if stage.config:
      parts.append(_CONFIGS / stage.config)
    if with_code:
      parts.append(
        source_code.digest(f'musiclm_jax.{stage.door}', stage.builds)
      )
    hashes[stage.name] = stage_process.hash_of(*parts)
  return hashes
