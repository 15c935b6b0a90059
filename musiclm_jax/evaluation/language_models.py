"""Do the token LMs predict, and do they use what they are conditioned on.

Held-out crops are scored in nats per token, per level, against the unigram
(and for semantic tokens the bigram) of the *training* tokens on the very
same held-out tokens; then again with conditioning that is not theirs.
"""

import dataclasses
from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np

from musiclm_jax.evaluation import gates, statistics

Batch = Mapping[str, np.ndarray]
# batch -> mean nats per token, per example and level [B, L]
Score = Callable[[Batch], np.ndarray]
# batch -> logits of the predicted positions [B, N, V]
Logits = Callable[[Batch], np.ndarray]


def unigram(tokens: np.ndarray, codebook_size: int) -> np.ndarray:
  """Add-one log-probabilities [K] of training tokens."""
  counts = np.bincount(np.ravel(tokens), minlength=codebook_size) + 1.0
  return np.log(counts / counts.sum())


def bigram(streams: Sequence[np.ndarray], codebook_size: int) -> np.ndarray:
  """Add-one log-probabilities [K, K] of the next training token."""
  counts = np.ones((codebook_size, codebook_size))
  for stream in streams:
    np.add.at(counts, (stream[:-1], stream[1:]), 1.0)
  return np.log(counts / counts.sum(axis=1, keepdims=True))


def unigram_nll(tokens: np.ndarray, table: np.ndarray) -> np.ndarray:
  """Nats per token of each example [B, T] -> [B]."""
  return -table[tokens].mean(axis=1)


def bigram_nll(
  tokens: np.ndarray, table: np.ndarray, first: np.ndarray
) -> np.ndarray:
  """Nats per token of each example [B, T] -> [B].

  Args:
    tokens: Held-out tokens.
    table: Of `bigram`.
    first: Unigram log-probabilities of the first token.
  """
  rest = table[tokens[:, :-1], tokens[:, 1:]]
  return -np.concatenate([first[tokens[:, :1]], rest], axis=1).mean(axis=1)


@dataclasses.dataclass(frozen=True)
class Nll:
  """Held-out cross-entropy of one LM and its rivals, per piece.

  Attributes:
    stage: `semantic`, `coarse` or `fine`.
    model: Nats per token, per piece and level [U, L].
    unigram: Of the training unigram [U, L].
    bigram: Of the training bigram [U, L]; semantic only.
  """

  stage: str
  model: np.ndarray
  unigram: np.ndarray
  bigram: np.ndarray | None = None

  def margin(self, rival: np.ndarray) -> statistics.Interval:
    """Model minus rival on the mean of the levels: below 0 is better."""
    return statistics.bootstrap_difference(
      self.model.mean(axis=1), rival.mean(axis=1)
    )

  def gate(self) -> gates.Gate:
    """`<stage>_nll`: below the unigram, for semantic below the bigram too."""
    unigram_margin = self.margin(self.unigram)
    conditions = {'below the training unigram': unigram_margin.high < 0}
    chance, margin = float(self.unigram.mean()), unigram_margin
    if self.bigram is not None:
      margin = self.margin(self.bigram)
      chance = float(self.bigram.mean())
      conditions['below the training bigram'] = margin.high < 0
    if self.stage == 'coarse':
      for level in range(self.model.shape[1]):
        part = statistics.bootstrap_difference(
          self.model[:, level], self.unigram[:, level]
        )
        conditions[f'level {level + 1} below its unigram'] = part.high < 0
    return gates.make(
      f'{self.stage}_nll', margin.shifted(chance), chance, conditions
    )

  def figures(self) -> dict:
    """Nats per token and level, for the report."""
    out = {
      'nats_per_level': self.model.mean(axis=0),
      'unigram_per_level': self.unigram.mean(axis=0),
    }
    if self.bigram is not None:
      out['bigram'] = float(self.bigram.mean())
    return out


def other_pieces(units: Sequence[Hashable], seed: int = 0) -> np.ndarray:
  """For each example, the index of one of another piece [B].

  Raises:
    ValueError: If all examples are of one piece.
  """
  rng = np.random.default_rng([seed, len(units)])
  names = {unit: i for i, unit in enumerate(dict.fromkeys(units))}
  ids = np.array([names[unit] for unit in units])
  if ids.max() == 0:
    raise ValueError('expected examples of at least two pieces')
  chosen = rng.integers(0, len(ids), len(ids))
  while (same := ids[chosen] == ids).any():
    chosen[same] = rng.integers(0, len(ids), int(same.sum()))
  return chosen


@dataclasses.dataclass(frozen=True)
class Conditioning:
  """What conditioning that is not its own costs an LM, per piece.

  Attributes:
    own: Nats per token with the example's own conditioning [U].
    variants: Name -> nats per token with another one [U].
  """

  own: np.ndarray
  variants: Mapping[str, np.ndarray]

  def cost(self, variant: str) -> statistics.Interval:
    """Nats per token that the variant costs: above 0 where it is used."""
    return statistics.bootstrap_difference(self.variants[variant], self.own)


def conditioning_gate(
  audio: Conditioning, text: Conditioning, coarse: Conditioning
) -> gates.Gate:
  """`lm_conditioning`: the LMs hear what they are told.

  Args:
    audio: Semantic LM given audio tokens, with a variant `other_piece`.
    text: Semantic LM given text tokens, with a variant `other_piece`.
    coarse: Coarse LM, with a variant `other_semantic`.
  """
  costs = {
    'own MuLan audio tokens better than shuffled': audio.cost('other_piece'),
    'own MuLan text tokens better than shuffled': text.cost('other_piece'),
    'coarse worse with shuffled semantic tokens': coarse.cost('other_semantic'),
  }
  conditions = {words: cost.low > 0 for words, cost in costs.items()}
  weakest = min(costs, key=lambda words: costs[words].low)
  stage = 'coarse' if weakest.startswith('coarse') else 'semantic'
  if all(list(conditions.values())[:1]) and 'text' in weakest:
    stage = 'mulan_rvq'
  return gates.make(
    'lm_conditioning', costs[weakest], 0.0, conditions, stage=stage
  )


@dataclasses.dataclass(frozen=True)
class Perturbation:
  """How far logits move when one token is changed.

  Attributes:
    after: Largest change of the logits at t when token t-1 changes.
    before: Largest change of the logits at t when token t+1 changes.
  """

  after: float
  before: float


def perturbation(
  logits: Logits,
  batch: Batch,
  stream: str,
  index: tuple[int, ...],
  position: int,
  codebook_size: int,
) -> Perturbation:
  """Changes one token and looks at the logits beside it.

  They must move: a language model that never uses the output of its attention
  learns all the same, each token by itself.

  Args:
    logits: The LM, teacher-forced: row n of its result predicts target n.
    batch: One batch of tokens.
    stream: The predicted stream, `semantic` or `acoustic`.
    index: Where the target token lies in `batch[stream]`, after the batch.
    position: Which target that is, n.
    codebook_size: Its K.
  """
  changed = {name: np.array(value) for name, value in batch.items()}
  at = (slice(None), *index)
  changed[stream][at] = (changed[stream][at] + 1) % codebook_size
  moved = np.abs(logits(changed) - logits(batch))
  moved = np.where(np.isfinite(moved), moved, 0.0)
  return Perturbation(
    after=float(moved[:, position + 1].max()),
    before=float(moved[:, : position + 1].max()),
  )


def perturbation_gate(measured: Mapping[str, Perturbation]) -> gates.Gate:
  """`lm_perturb`: the past moves the logits, the future does not."""
  conditions, failing = {}, None
  for stage, moved in measured.items():
    past, future = moved.after > 1e-4, moved.before < 1e-4
    conditions[f'{stage}: token t-1 moves the logits at t'] = past
    conditions[f'{stage}: token t+1 does not'] = future
    failing = failing or (None if past and future else stage)
  smallest = min(moved.after for moved in measured.values())
  largest = max(moved.before for moved in measured.values())
  return gates.make('lm_perturb', smallest, largest, conditions, stage=failing)
