"""Runs the whole cascade, small: corpus, eight trainings, music, report.

`python -m musiclm_jax.demo --out=runs/demo --seed=0` (or `make demo`). Every
stage is a process of its own; one that was finished with the same inputs is
not run again, and an interrupted one continues. Exit code 1 says that a gate
failed, and which stage to look at.
"""

import dataclasses
import json
import shutil
import sys
from pathlib import Path

from absl import flags

from musiclm_jax import door
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.evaluation import stage_process
from musiclm_jax.evaluation.progress_line import ProgressLine, clock

_OUT = flags.DEFINE_string('out', 'runs/demo', 'Folder of the whole demo.')
_SEED = flags.DEFINE_integer('seed', 0, 'Reaches corpus, trainings, samples.')
_SIZE = flags.DEFINE_string('size', 'tiny', 'Size of every config.')
_PIECES = flags.DEFINE_integer('pieces', 800, 'Pieces of the corpus.', 1)
_STEPS = flags.DEFINE_integer(
  'steps', None, 'Steps of every training, instead of its config; for trials.'
)
_UNTIL = flags.DEFINE_string('until', None, 'Last stage to run.')
_IGNORE_CODE_CHANGES = flags.DEFINE_bool(
  'ignore_code_changes', False, 'Keep finished stages though code has changed.'
)

PROMPTS = (
  'a calm piano solo',
  'fast rock with electric guitar and drums',
  'slow strings, film music',
  'a cheerful accordion waltz',
)
_SAMPLE_SECONDS = 10
_PACKAGE = Path(__file__).parent
_CONFIGS = _PACKAGE.parent / 'configs'
_TRAINING_ROOMS = ('training', 'nn', 'dsp', 'data')
_CASCADE_ROOMS = ('cascade', 'nn', 'dsp', 'data')


@dataclasses.dataclass(frozen=True)
class Stage:
  """One step of the demo.

  Attributes:
    name: Also of its log and stamp.
    module: The door that it goes through.
    arguments: Of the door.
    needs: Stages whose output it reads.
    output: What it makes, removed when its inputs have changed.
    rooms: Code folders that its output depends on.
    config: File name of its config, for trainings.
    expected_seconds: On two cores, for the ETA until measured.
  """

  name: str
  module: str
  arguments: tuple[str, ...]
  needs: tuple[str, ...]
  output: Path
  rooms: tuple[str, ...]
  config: str | None = None
  expected_seconds: float = 60.0

  def command(self) -> list[str]:
    """The process's arguments, of the interpreter that runs now."""
    return [sys.executable, '-m', self.module, *self.arguments]


def stages(
  out: Path, *, seed: int, size: str, pieces: int, steps: int | None
) -> list[Stage]:
  """The demo's stages in order, everything below the folder `out`."""
  corpus, tokens, bundle = out / 'corpus', out / 'tokens', out / 'bundle'
  workdirs, samples = out / 'workdirs', out / 'samples'
  source = f'rendered_music:{corpus}'

  def train(name, room, needs, expected_seconds, *arguments):
    fixed = (
      f'--config={_CONFIGS / name}.py:{size}',
      f'--config.seed={seed}',
      f'--workdir={workdirs / name}',
    )
    if steps is not None:
      fixed += (f'--config.schedule.total_steps={steps}',)
    return Stage(
      name=name,
      module='musiclm_jax.train',
      arguments=fixed + arguments,
      needs=needs,
      output=workdirs / name,
      rooms=(room, *_TRAINING_ROOMS),
      config=f'{name}.py',
      expected_seconds=expected_seconds,
    )

  data = f'--config.data.source={source}'
  at_tokens = f'--tokens={tokens}'
  trainings = [
    train('soundstream', 'soundstream', ('prepare',), 450, data),
    train('w2v_bert', 'w2v_bert', ('prepare',), 180, data),
    train(
      'kmeans',
      'w2v_bert',
      ('w2v_bert',),
      60,
      data,
      f'--network={workdirs / "w2v_bert"}',
    ),
    train('mulan', 'mulan', ('prepare',), 240, data),
    train(
      'mulan_rvq',
      'mulan',
      ('mulan',),
      60,
      data,
      f'--network={workdirs / "mulan"}',
    ),
  ]
  models = [
    train(name, 'token_lm', ('tokenize',), expected, at_tokens)
    for name, expected in (('semantic', 150), ('coarse', 240), ('fine', 200))
  ]
  networks = tuple(stage.name for stage in trainings + models)
  tokenizers = tuple(stage.name for stage in trainings)
  return [
    Stage(
      'prepare',
      'musiclm_jax.prepare',
      (
        '--source=rendered_music',
        f'--out={corpus}',
        f'--pieces={pieces}',
        f'--seed={seed}',
      ),
      needs=(),
      output=corpus,
      rooms=('data', 'data/rendered_music'),
      expected_seconds=120,
    ),
    *trainings,
    Stage(
      'tokenize',
      'musiclm_jax.tokenize',
      (f'--workdirs={workdirs}', f'--source={source}', f'--out={tokens}'),
      needs=tokenizers,
      output=tokens,
      rooms=_CASCADE_ROOMS,
      expected_seconds=180,
    ),
    *models,
    Stage(
      'bundle',
      'musiclm_jax.bundle',
      (f'--workdirs={workdirs}', f'--out={bundle}'),
      needs=networks,
      output=bundle,
      rooms=('cascade',),
      expected_seconds=15,
    ),
    Stage(
      'generate',
      'musiclm_jax.generate',
      (
        f'--bundle={bundle}',
        *(f'--text={prompt}' for prompt in PROMPTS),
        f'--seconds={_SAMPLE_SECONDS}',
        f'--seed={seed}',
        f'--out={samples / "sample.wav"}',
      ),
      needs=('bundle',),
      output=samples,
      rooms=('cascade', 'token_lm', 'nn'),
      expected_seconds=90,
    ),
    Stage(
      'evaluate',
      'musiclm_jax.evaluate',
      (f'--demo={out}', f'--seed={seed}'),
      needs=(*networks, 'tokenize', 'bundle', 'generate'),
      output=out / 'evaluation',
      rooms=('evaluation', 'cascade'),
      expected_seconds=420,
    ),
  ]


def input_hashes(
  plan: list[Stage], *, with_code: bool = True
) -> dict[str, str]:
  """What each stage's output depends on: command, config, code, needs."""
  hashes: dict[str, str] = {}
  for stage in plan:
    parts: list[str | Path] = [' '.join(stage.command()[1:])]
    parts += [hashes[name] for name in stage.needs]
    if stage.config:
      parts.append(_CONFIGS / stage.config)
    if with_code:
      parts += [_PACKAGE / room for room in stage.rooms]
      parts.append(_PACKAGE / f'{stage.module.rpartition(".")[2]}.py')
    hashes[stage.name] = stage_process.hash_of(*parts)
  return hashes


def run_stage(
  stage: Stage, inputs: str, out: Path, line: ProgressLine
) -> stage_process.Stamp:
  """Runs one stage unless it was finished with the same inputs.

  Raises:
    UsageError: If its process fails; the log's last lines are shown first.
  """
  path = out / 'stamps' / f'{stage.name}.json'
  stamp = stage_process.Stamp.read(path)
  if stamp and stamp.inputs == inputs and stamp.finished:
    line.done(stage.name, stamp.seconds)
    return stamp
  if stamp and stamp.inputs != inputs and stage.output.exists():
    shutil.rmtree(stage.output)
  if not stamp or stamp.inputs != inputs:
    stamp = stage_process.Stamp(inputs)
    stamp.write(path)
  log = out / 'logs' / f'{stage.name}.log'
  workdir = stage.output if stage.config else None

  def watch(usage: stage_process.Usage) -> None:
    share = stage_process.progress(log, workdir)
    line.show(stage.name, usage.seconds, share, usage.peak_bytes)

  code, usage = stage_process.run(stage.command(), log, watch)
  stamp = stamp.after(usage, finished=code == 0)
  stamp.write(path)
  if code != 0:
    line.say(stage_process.last_lines(log))
    raise UsageError(
      f"stage '{stage.name}' ended with exit code {code}: see {log}, mend it "
      'and run the same command again to continue'
    )
  line.done(stage.name, stamp.seconds)
  line.say(
    f'{stage.name:<12} done in {clock(stamp.seconds)}, peak '
    f'{stamp.peak_bytes / 1e9:.2f} GB'
  )
  return stamp


def print_gates(report: dict) -> list[dict]:
  """Prints the table of gates and returns those that failed."""
  print(f'\n{"gate":<17}{"stage":<13}{"value":>10}{"chance":>10}', end='')
  print(f'{"low":>10}{"high":>10}')
  for gate in report['gates']:
    figures = ''.join(
      f'{"-" if gate[key] is None else format(gate[key], ".4g"):>10}'
      for key in ('value', 'chance', 'low', 'high')
    )
    word = 'ok' if gate['passed'] else 'FAILED'
    print(f'{gate["name"]:<17}{gate["stage"]:<13}{figures}  {word}')
  return [gate for gate in report['gates'] if not gate['passed']]


def main() -> None:
  """Runs every stage, then says which gates hold."""
  out = Path(_OUT.value)
  plan = stages(
    out,
    seed=_SEED.value,
    size=_SIZE.value,
    pieces=_PIECES.value,
    steps=_STEPS.value,
  )
  names = [stage.name for stage in plan]
  if _UNTIL.value and _UNTIL.value not in names:
    raise UsageError(
      f"unknown stage '{_UNTIL.value}' in --until: choose one of "
      f'{", ".join(names)}'
    )
  hashes = input_hashes(plan, with_code=not _IGNORE_CODE_CHANGES.value)
  out.mkdir(parents=True, exist_ok=True)
  line = ProgressLine({stage.name: stage.expected_seconds for stage in plan})
  for stage in plan:
    run_stage(stage, hashes[stage.name], out, line)
    if stage.name == _UNTIL.value:
      return
  _finish(out, plan)


def _finish(out: Path, plan: list[Stage]) -> None:
  """Shows the gates; leaves with exit code 1 when one has failed."""
  report = json.loads((out / 'report.json').read_text())
  failed = print_gates(report)
  seconds = sum(stage['seconds'] for stage in report['stages'])
  print(f'\n{len(plan)} stages in {clock(seconds)}; {out / "report.html"}')
  if failed:
    for gate in failed:
      print(
        f"gate '{gate['name']}' failed: look at stage '{gate['stage']}' "
        f'({out / "logs" / gate["stage"]}.log)'
      )
    sys.exit(1)
  print('all gates hold')


if __name__ == '__main__':
  door.run(main)
