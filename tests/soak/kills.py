"""Kills a training with signal 9, at a moment or in a phase of it."""

import dataclasses
import os
import random
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
_WATCHED = Path(__file__).with_name('watched_train.py')
# 'save' is also while checkpoints are written beside the steps.
PHASES = ('compile', 'evaluate', 'save')


@dataclasses.dataclass(frozen=True)
class Kill:
  """What was aimed at and what was hit.

  Attributes:
    aim: A phase, or 'any moment'.
    phase: What the run was at.
    saving: Whether a checkpoint was half-written.
    seconds: Since the start of the process.
  """

  aim: str
  phase: str
  saving: bool
  seconds: float

  @property
  def hit(self) -> str:
    """The phase, `save` where a checkpoint was half-written."""
    return 'save' if self.saving else self.phase


def kill(
  call: list[str],
  workdir: Path,
  aim: str,
  longest: float,
  chance: random.Random,
) -> Kill | None:
  """Starts a training and kills it; None where it was done before.

  Args:
    call: Arguments of the train command.
    workdir: Of it.
    aim: One of `PHASES`, or 'any moment'.
    longest: Seconds within which a random moment lies.
    chance: Draws the moment, or how long after a phase began.
  """
  phase = workdir.parent / f'{workdir.name}.phase'
  phase.write_text('start')
  moment = chance.uniform(0.05, 0.95) * longest
  later = chance.uniform(0.0, {'compile': 2.0, 'evaluate': 0.3}.get(aim, 0.03))
  started = time.monotonic()
  process = subprocess.Popen(
    [sys.executable, _WATCHED, *call, f'--workdir={workdir}'],
    cwd=ROOT,
    env=os.environ | {'PHASE': str(phase), 'PYTHONPATH': str(ROOT)},
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )
  try:
    while process.poll() is None:
      seconds = time.monotonic() - started
      if aim == 'any moment':
        due = seconds >= moment
      else:
        due = aim in (phase.read_text(), 'save' if _saving(workdir) else '')
        if due:
          time.sleep(later)
      if due:
        return Kill(
          aim,
          phase.read_text() or 'step',
          _saving(workdir),
          round(time.monotonic() - started, 1),
        )
      time.sleep(0.002)
    return None
  finally:
    process.kill()
    process.wait()


def _saving(workdir: Path) -> bool:
  checkpoints = workdir / 'checkpoints'
  return any(checkpoints.glob('*.orbax-checkpoint-tmp*'))
