"""One language model of a bundle goes on learning, from other music.

weights and config of the bundle, token store -> the one train loop -> weights
of the step whose held-out loss is the lowest
"""

import copy
import dataclasses
import functools
import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from musiclm_jax import stages
from musiclm_jax.cascade import stage_data
from musiclm_jax.cascade.weights import Weights
from musiclm_jax.contracts.progress import ProgressCallback, ignore
from musiclm_jax.contracts.token_contract import TokenContract
from musiclm_jax.training import loop
from musiclm_jax.training import workdir as folder
from musiclm_jax.training.state import start_from

EVALUATIONS = 10  # of a training that is not ended early
PATIENCE = 3  # evaluations without a lower held-out loss that end a training
MAX_BATCH = 32  # crops of a step; trainings on accelerators take many more
LOSS = 'eval_nll'
_LOGS = 4  # lines of the record from evaluation to evaluation


@dataclasses.dataclass(frozen=True)
class Outcome:
  """How the training of a stage ended.

  Attributes:
    steps: That were taken.
    best_step: Whose held-out loss is the lowest.
    ended: Why there: `steps`, `patience` or `time`.
  """

  steps: int
  best_step: int
  ended: str


class EarlyStop:
  """Ends a training whose held-out loss falls no more, or whose time is up.

  Attributes:
    reason: Why it ended: `patience` or `time`; empty where it did not.
  """

  def __init__(
    self, losses: Mapping[int, float], deadline: float | None = None
  ):
    """Begins, or goes on after an interruption.

    Args:
      losses: Step -> held-out loss, of the steps before.
      deadline: On the clock of `time.monotonic`; None: there is time.
    """
    self._losses, self._deadline = dict(losses), deadline
    self.reason = ''

  def __call__(self, step: int, held_out: Mapping[str, float]) -> bool:
    """Tells after a step whether to end; see `loop.Slice.enough`."""
    if LOSS in held_out:
      self._losses[step] = held_out[LOSS]
    known = {s: loss for s, loss in self._losses.items() if s <= step}
    best = min(known, key=lambda s: (known[s], s), default=step)
    if sum(s > best for s in known) >= PATIENCE:
      self.reason = 'patience'
    if self._deadline is not None and time.monotonic() >= self._deadline:
      self.reason = self.reason or 'time'
    return bool(self.reason)


def config_of(
  config: Mapping[str, Any], *, steps: int, rate_scale: float, seed: int
) -> dict[str, Any]:
  """The config of a stage's training -> that of its fine-tuning.

  The network, its layout and its losses stay. Averages of parameters are left
  out, as they would take longer than this to follow.

  Args:
    config: As a bundle stores it.
    steps: At most.
    rate_scale: Of the learning rates.
    seed: Of order, crops and noise.
  """
  tuned = copy.deepcopy(dict(config))
  every = math.ceil(steps / EVALUATIONS)
  accumulation = tuned['training'].get('accumulation', 1)
  batch_size = tuned['data']['batch_size'] // accumulation
  tuned['data']['batch_size'] = min(max(batch_size, 1), MAX_BATCH)
  tuned['training'] |= {'accumulation': 1, 'ema_decay': 0.0}
  tuned['seed'] = seed
  tuned['schedule'] = {
    'total_steps': steps,
    'log_every': math.ceil(every / _LOGS),
    'eval_every': every,
    'save_every': every,
    'keep_every': 0,
    'keep_best': f'lowest {LOSS}',
  }
  for player in tuned['optimizer'].values():
    player['learning_rate'] *= rate_scale
    player['warmup_steps'] = min(player['warmup_steps'], every)
    player['schedule'] = 'cosine'
  return stages.resolved(tuned)


def train(
  given: Weights,
  config: Mapping[str, Any],
  *,
  tokens: Path,
  workdir: Path,
  deadline: float | None = None,
  progress: ProgressCallback = ignore,
) -> Outcome:
  """Trains a stage from given weights, or goes on with that.

  Args:
    given: Of the bundle.
    config: Of `config_of`.
    tokens: Folder of a token store with a train and a validation split.
    workdir: Folder of the training.
    deadline: See `EarlyStop`.
    progress: Takes an event of every logged step.

  Raises:
    UsageError: If the store is of another contract or too small, or as
      `loop.train`.
    SystemExit: As `loop.train`.
  """
  layout = stages.find(config['stage']).layout(config)
  contract = stage_data.read_contract(tokens, layout)
  theirs = TokenContract.from_json(given.contract_json or '{}')
  theirs.check(contract, 'the bundle', str(tokens))
  begin = functools.partial(
    start_from, params=given.params, collections=given.collections
  )
  stop = EarlyStop(held_out_losses(workdir), deadline)
  with folder.claim(workdir) as claimed:
    inputs = stage_data.Inputs(
      config['data'], config['seed'], claimed, tokens=tokens, layout=layout
    )
    state = loop.train(
      stages.build(config),
      stage_data.open_data(config['stage'], inputs),
      workdir=claimed,
      config=config,
      contract_json=contract.to_json(),
      schedule=config['schedule'],
      optimizers=config['optimizer'],
      seed=config['seed'],
      part=loop.Slice(begin, enough=stop),
      progress=progress,
      **config['training'],
      **config['mesh'],
    )
  losses = held_out_losses(workdir)
  steps = int(state.step)
  best = min(losses, key=lambda step: (losses[step], -step), default=steps)
  return Outcome(steps, best, stop.reason or 'steps')


def held_out_losses(workdir: Path) -> dict[int, float]:
  """Step -> held-out loss, by the record of a training; empty without one."""
  path = workdir / folder.METRICS
  if not path.is_file():
    return {}
  found = {}
  for line in path.read_text(encoding='utf-8', errors='replace').splitlines():
    try:
      row = json.loads(line)
    except ValueError:  # of a disk that was full
      continue
    if row.get(LOSS) is not None:
      found[row['step']] = row[LOSS]
  return found
