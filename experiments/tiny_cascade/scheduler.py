"""Runs the stages, side by side where they can, and says how it ended.

stage -> process -> stamp; report.json -> table on the screen, exit code.
"""

import json
import threading
from collections.abc import Collection, Mapping, Sequence
from concurrent import futures
from pathlib import Path

from experiments.tiny_cascade import gates, process, slots
from experiments.tiny_cascade.plan import CascadeStage
from experiments.tiny_cascade.status_line import ProgressLine
from musiclm_jax.contracts import atomic_file, ownership
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.terminal import printable
from musiclm_jax.training.speed import duration


def run_all(
  stages: Sequence[CascadeStage],
  hashes: Mapping[str, str],
  out: Path,
  line: ProgressLine,
  overwrite: bool = False,
) -> None:
  """Runs every stage as soon as it may.

  Args:
    stages: In order.
    hashes: Stage -> hash of what its output depends on.
    out: Folder of the demo.
    line: Shows where the run stands.
    overwrite: Whether commands may replace files that were changed.

  Raises:
    UsageError: If a stage fails; one that runs beside it is ended, and
      continues next time.
  """
  waiting, done, free = list(stages), set(), slots.cores_of_slots()
  running: dict[futures.Future, tuple[CascadeStage, set[int]]] = {}
  count, stop = len(free), threading.Event()
  with futures.ThreadPoolExecutor(count) as pool:
    try:
      while waiting or running:
        while stage := slots.next_stage(
          waiting, done, [stage for stage, _ in running.values()], count
        ):
          waiting.remove(stage)
          cores = free.pop() if stage.shares else set()
          future = pool.submit(
            run_stage,
            *(stage, hashes[stage.name], out, line),
            cores=cores,
            stop=stop,
            overwrite=overwrite,
          )
          running[future] = stage, cores
        ended, _ = futures.wait(running, return_when=futures.FIRST_COMPLETED)
        for future in ended:
          future.result()
          stage, cores = running.pop(future)
          done.add(stage.name)
          free += [cores] if cores else []
    except BaseException:
      stop.set()
      raise


def run_stage(
  stage: CascadeStage,
  inputs: str,
  out: Path,
  line: ProgressLine,
  *,
  cores: Collection[int] | None = None,
  stop: threading.Event | None = None,
  overwrite: bool = False,
) -> process.Stamp:
  """Runs one stage unless it was finished with the same inputs.

  Args:
    stage: What to run.
    inputs: Hash of what its output depends on.
    out: Folder of the demo.
    line: Shows where the run stands.
    cores: It may use these only; all by default.
    stop: Ends it when set.
    overwrite: Whether its command may replace files that were changed.

  Raises:
    UsageError: If its process fails; the log's last lines are shown first.
  """
  path = out / 'stamps' / f'{stage.name}.json'
  stamp = process.Stamp.read(path)
  if stamp and stamp.inputs == inputs:
    if stamp.finished and stage.output.exists():
      line.done(stage.name, stamp.seconds)
      return stamp
  else:
    if stage.kind:
      ownership.clear(stage.output, stage.kind)
    stamp = process.Stamp(inputs)
    stamp.write(path)
  log = out / 'logs' / f'{stage.name}.log'
  events = out / 'logs' / f'{stage.name}.progress.jsonl'

  def watch(usage: process.Usage) -> None:
    share = process.progress(events)
    line.show(stage.name, usage.seconds, share, usage.peak_bytes)

  code, usage = process.run(
    stage.program() + ['--overwrite'] * (overwrite and not stage.kind),
    log,
    events,
    watch,
    cores=cores,
    stop=stop,
  )
  stamp = stamp.after(usage, finished=code == 0)
  stamp.write(path)
  if code != 0:
    if not (stop and stop.is_set()):
      for text in process.last_lines(log).splitlines():
        line.say(printable(text))
    raise UsageError(
      f"stage '{stage.name}' ended with exit code {code}: see {log}, mend it "
      'and run the same command again to continue'
    )
  line.done(stage.name, stamp.seconds)
  line.say(
    f'{stage.name:<12} done in {duration(stamp.seconds)}, peak '
    f'{stamp.peak_bytes / 1e9:.2f} GB'
  )
  return stamp


def print_gates(rows: Sequence[dict]) -> None:
  """Prints the table of gates, those of machinery first."""
  columns = ('value', 'chance', 'low', 'high')
  print(f'\n{"gate":<17}{"kind":<11}{"stage":<13}', end='')
  print(''.join(f'{name:>10}' for name in columns))
  for kind, found in gates.by_kind(rows).items():
    for row in found:
      figures = ''.join(
        f'{"-" if row[name] is None else format(row[name], ".4g"):>10}'
        for name in columns
      )
      word = gates.word(row)
      word = 'FAILED' if word == 'failed' else word
      print(f'{row["name"]:<17}{kind:<11}{row["stage"]:<13}{figures}  {word}')


def finish(
  out: Path, stages: Sequence[CascadeStage], strict: bool = False
) -> int:
  """Completes report.json, shows the gates and returns the exit code.

  The report is written by the last stage, which cannot know its own cost.

  Args:
    out: Folder of the demo.
    stages: That were run.
    strict: Whether gates of size bind as those of machinery do.

  Returns:
    1 if a gate fails the run, else 0.
  """
  path = out / 'report.json'
  report = json.loads(path.read_text())
  report.pop(ownership.SEAL, None)
  report['stages'] = [
    {
      'name': stage.name,
      'seconds': stamp.seconds,
      'peak_bytes': stamp.peak_bytes,
    }
    for stage in stages
    if (stamp := process.Stamp.read(out / 'stamps' / f'{stage.name}.json'))
  ]
  text = json.dumps(ownership.seal(report), indent=1) + '\n'
  atomic_file.write_text(path, text)
  print_gates(report['gates'])
  print(f'\n{len(stages)} stages: {printable(out / "report.html")}')
  print(gates.verdict(report['gates']))
  failed = gates.failing(report['gates'], strict)
  for row in report['gates']:
    if row['passed']:
      continue
    words = report['baselines'].get(row['name'], {}).get('conditions', {})
    broken = '; '.join(text for text, holds in words.items() if not holds)
    print(
      f"gate '{row['name']}' {gates.word(row)} ({broken}): look at stage "
      f"'{row['stage']}', {printable(out / 'logs' / row['stage'])}.log"
    )
  return 1 if failed else 0
