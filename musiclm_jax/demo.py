"""Runs the whole cascade, small: corpus, eight trainings, music, report.

`python -m musiclm_jax.demo --out=runs/demo --seed=0` (or `make demo`). Every
stage is a process of its own; one that was finished with the same inputs is
not run again, and an interrupted one continues. Exit code 1 says that a gate
failed, and which stage to look at.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from musiclm_jax import door
from musiclm_jax.contracts import atomic_file
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.evaluation import demo_plan, stage_process
from musiclm_jax.evaluation.demo_plan import Stage
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


def run_stage(
  stage: Stage, inputs: str, out: Path, line: ProgressLine
) -> stage_process.Stamp:
  """Runs one stage unless it was finished with the same inputs.

  Args:
    stage: What to run.
    inputs: Hash of what its output depends on.
    out: Folder of the demo.
    line: Shows where the demo stands.

  Raises:
    UsageError: If its process fails; the log's last lines are shown first.
  """
  path = out / 'stamps' / f'{stage.name}.json'
  stamp = stage_process.Stamp.read(path)
  if stamp and stamp.inputs == inputs:
    if stamp.finished and stage.output.exists():
      line.done(stage.name, stamp.seconds)
      return stamp
  else:
    if stage.output.exists():
      shutil.rmtree(stage.output)
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


def print_gates(gates: Sequence[dict]) -> None:
  """Prints the table of gates."""
  columns = ('value', 'chance', 'low', 'high')
  print(f'\n{"gate":<17}{"stage":<13}', end='')
  print(''.join(f'{name:>10}' for name in columns))
  for gate in gates:
    figures = ''.join(
      f'{"-" if gate[name] is None else format(gate[name], ".4g"):>10}'
      for name in columns
    )
    word = 'ok' if gate['passed'] else 'FAILED'
    print(f'{gate["name"]:<17}{gate["stage"]:<13}{figures}  {word}')


def finish(out: Path, stages: Sequence[Stage]) -> int:
  """Completes report.json, shows the gates and returns the exit code.

  The report is written by the last stage, which cannot know its own cost.
  """
  path = out / 'report.json'
  report = json.loads(path.read_text())
  report['stages'] = [
    {
      'name': stage.name,
      'seconds': stamp.seconds,
      'peak_bytes': stamp.peak_bytes,
    }
    for stage in stages
    if (
      stamp := stage_process.Stamp.read(out / 'stamps' / f'{stage.name}.json')
    )
  ]
  atomic_file.write_text(path, json.dumps(report, indent=1) + '\n')
  print_gates(report['gates'])
  seconds = sum(stage['seconds'] for stage in report['stages'])
  print(f'\n{len(stages)} stages in {clock(seconds)}: {out / "report.html"}')
  failed = [gate for gate in report['gates'] if not gate['passed']]
  for gate in failed:
    words = report['baselines'].get(gate['name'], {}).get('conditions', {})
    broken = '; '.join(text for text, holds in words.items() if not holds)
    print(
      f"gate '{gate['name']}' failed ({broken}): look at stage "
      f"'{gate['stage']}', {out / 'logs' / gate['stage']}.log"
    )
  if not failed:
    print('all gates hold')
  return 1 if failed else 0


def main() -> int:
  """Runs every stage, then says which gates hold."""
  out = Path(_OUT.value)
  plan = demo_plan.Plan(
    out, _SEED.value, _SIZE.value, _PIECES.value, _STEPS.value
  )
  stages = plan.stages()
  names = [stage.name for stage in stages]
  if _UNTIL.value and _UNTIL.value not in names:
    raise UsageError(
      f"unknown stage '{_UNTIL.value}' in --until: choose one of "
      f'{", ".join(names)}'
    )
  hashes = demo_plan.input_hashes(
    stages, with_code=not _IGNORE_CODE_CHANGES.value
  )
  out.mkdir(parents=True, exist_ok=True)
  line = ProgressLine({stage.name: stage.expected_seconds for stage in stages})
  for stage in stages:
    run_stage(stage, hashes[stage.name], out, line)
    if stage.name == _UNTIL.value:
      return 0
  return finish(out, stages)


if __name__ == '__main__':
  door.run(main)
