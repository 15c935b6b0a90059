"""Which stage runs when: alone, or in two slots side by side.

Small networks use two cores badly: two trainings with half of the cores each
are done sooner than one after the other with all of them.
"""

import os
from collections.abc import Collection, Mapping, Sequence

from experiments.tiny_cascade.plan import CascadeStage


def cores_of_slots() -> list[set[int]]:
  """The cores of each slot; one slot where there is but one core.

  Slots are equal, so that a stage computes alike in either: results depend on
  the number of threads, and which slot is free depends on the timing.
  """
  if hasattr(os, 'sched_getaffinity'):
    cores = sorted(os.sched_getaffinity(0))
  else:
    cores = list(range(os.cpu_count() or 1))
  half = len(cores) // 2
  return (
    [set(cores[:half]), set(cores[half : 2 * half])] if half else [{*cores}]
  )


def next_stage(
  waiting: Sequence[CascadeStage],
  done: Collection[str],
  running: Collection[CascadeStage],
  slots: int,
) -> CascadeStage | None:
  """Picks the first stage that may start now.

  Stages that do not share the machine run alone, and once one of them has all
  that it needs, nothing later overtakes it.

  Args:
    waiting: In order.
    done: Names of the finished stages.
    running: Stages that run now.
    slots: How many may share the machine.
  """
  room = len(running) < slots and all(stage.shares for stage in running)
  for stage in waiting:
    if set(stage.needs) <= set(done):
      if not running or (stage.shares and room):
        return stage
      if not stage.shares:
        return None
  return None


def makespan(
  stages: Sequence[CascadeStage],
  left: Mapping[str, float],
  running: Collection[str],
  slots: int,
) -> float:
  """Seconds until all is done, if every stage takes what is left of it.

  Args:
    stages: All, in order.
    left: Stage -> seconds, of those that are not done.
    running: Names of those that run now.
    slots: How many may share the machine.
  """
  waiting = [s for s in stages if s.name in left and s.name not in running]
  active = {s: left[s.name] for s in stages if s.name in running}
  done = {s.name for s in stages if s.name not in left}
  now = 0.0
  while True:
    while stage := next_stage(waiting, done, active.keys(), slots):
      waiting.remove(stage)
      active[stage] = now + left[stage.name]
    if not active:
      return now
    first = min(active, key=active.__getitem__)
    now = active.pop(first)
    done.add(first.name)
