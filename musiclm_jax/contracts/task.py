"""A task is an objective of players, each with parameters and a loss.

SoundStream has two players (codec, discriminators); MuLan, w2v-BERT and the
LMs one; fitting a quantizer has one player that owns codebooks and no
parameters. The training loop knows this protocol and nothing else.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

from jaxtyping import Array

from musiclm_jax.contracts.array_types import PRNGKey, PyTree

Params = Mapping[str, PyTree]  # player -> parameters
Collections = Mapping[str, PyTree]  # player -> codebooks, statistics
Batch = Mapping[str, Array]
Metrics = Mapping[str, Array]
LossFn = Callable[
  [Params, Collections, Batch, PRNGKey, Array],
  tuple[Array, tuple[Collections, Metrics]],
]


@dataclasses.dataclass(frozen=True)
class HealthCheck:
  """A metric in which a training shows that it goes wrong.

  Attributes:
    detector: A name in `training.detectors.DETECTORS`.
    metric: Where it shows.
    reference: What the metric is compared with, a number or another metric:
      the codes in even use at best, the loss of a guess, or what the metric
      is when a discriminator says the same of everything.
    since: Steps before the metric says anything.
  """

  detector: str
  metric: str
  reference: float | str
  since: int = 0


@dataclasses.dataclass(frozen=True)
class BatchInfo:
  """What a training's observer may know of a task.

  Attributes:
    amount: What one global batch holds, in `unit`.
    unit: Such as tokens, or seconds of audio.
    health_checks: What to watch.
  """

  amount: float
  unit: str
  health_checks: tuple[HealthCheck, ...] = ()


class Task(Protocol):
  """What a network must offer to be trained: mathematics, no state."""

  def init(self, rng: PRNGKey, batch: Batch) -> tuple[Params, Collections]:
    """Makes parameters and collections, both keyed by player.

    Args:
      rng: Key of the initial values.
      batch: One batch, of which only shapes and dtypes may matter.
    """

  def losses(self) -> Mapping[str, LossFn]:
    """Player -> loss; the first player's loss is logged as `loss`.

    A loss is called as `(params, collections, batch, rng, step)` and returns
    `(scalar, (collections, metrics))`. It is differentiated with respect to
    `params[player]` alone, and of the collections that it returns only
    `collections[player]` is kept. All players' gradients are taken at the
    same params, collections and rng, then all updates are applied. Schedules
    are functions of `step`, an int32 scalar that starts at 0.
    """

  def evaluate(
    self, params: Params, collections: Collections, batch: Batch
  ) -> Metrics:
    """Held-out metrics per example, each of shape [B], without dropout."""


@runtime_checkable
class HasBatchInfo(Protocol):
  """A task that says what its batches hold and what may go wrong with it."""

  def batch_info(self, batch: Batch) -> BatchInfo:
    """Describes a global batch, of which only shapes may matter."""


@runtime_checkable
class Phased(Protocol):
  """A task whose step is another program in another phase of the training."""

  def at(self, step: int) -> Task:
    """The objective of a step, equal for all steps of a phase."""


def task_at(task: Task, step: int) -> Task:
  """The objective of a task in a step, counted from 0."""
  return task.at(step) if isinstance(task, Phased) else task


@runtime_checkable
class HasCompilerOptions(Protocol):
  """A task whose step wants other compiler options than the default ones.

  Attributes:
    compiler_options: Platform -> option of XLA -> its value.
  """

  compiler_options: Mapping[str, Mapping[str, str]]


@runtime_checkable
class HasAudioSamples(Protocol):
  """A task with waveforms to log while it trains.

  Attributes:
    sample_rate: Of what `audio_samples` returns, in Hz.
  """

  sample_rate: int

  def audio_samples(
    self, params: Params, collections: Collections, batch: Batch
  ) -> Mapping[str, Array]:
    """Returns held-out waveforms by name, each of shape [N, S].

    It is compiled together with `evaluate` on the same batch: what both
    compute costs nothing twice.
    """
