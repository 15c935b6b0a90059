"""Checks of the three token LMs on the held-out token store.

Held-out crops are scored in nats per token, per level, against the unigram
(and for semantic tokens the bigram) of the *training* tokens on the very same
held-out tokens; then again with conditioning that is not theirs ->
`semantic_nll`, `coarse_nll`, `fine_nll`, `lm_conditioning`, `lm_perturb`.
"""

import dataclasses
import functools
from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np

from experiments.tiny_cascade import gates, ngrams
from experiments.tiny_cascade.artifacts import Artifacts
from musiclm_jax.data.token_store import TokenRecord
from musiclm_jax.metrics import bootstrap
from musiclm_jax.token_lm.layout import TICK_RATE

_RECORDS_PER_PIECE, _RECORDS = 3, 240
_BATCH = 8
STAGES = ('semantic', 'coarse', 'fine')
Batch = Mapping[str, np.ndarray]
# batch -> mean nats per token, per example and level [B, L]
Score = Callable[[Batch], np.ndarray]
# batch -> logits of the predicted positions [B, N, V]
Logits = Callable[[Batch], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Nll:
  """Held-out cross-entropy of one LM and its baselines, per piece.

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

  def margin(self, baseline: np.ndarray) -> bootstrap.Interval:
    """Model minus baseline on the mean of the levels: below 0 is better."""
    return bootstrap.difference(self.model.mean(axis=1), baseline.mean(axis=1))

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
        part = bootstrap.difference(
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
class ConditioningCost:
  """What conditioning that is not its own costs an LM, per piece.

  Attributes:
    own: Nats per token with the example's own conditioning [U].
    variants: Name -> nats per token with another one [U].
  """

  own: np.ndarray
  variants: Mapping[str, np.ndarray]

  def cost(self, variant: str) -> bootstrap.Interval:
    """Nats per token that the variant costs: above 0 where it is used."""
    return bootstrap.difference(self.variants[variant], self.own)


def conditioning_gate(
  audio: ConditioningCost, text: ConditioningCost, coarse: ConditioningCost
) -> gates.Gate:
  """`lm_conditioning`: a prompt is better than none.

  Tokens are compared with none, not with those of another piece: an LM that
  follows wrong tokens confidently makes the others dear as well. That it uses
  at all what it is given is machinery.

  Args:
    audio: Semantic LM given audio tokens, with variants `none` and
      `other_piece`.
    text: Semantic LM given text tokens, with a variant `none`.
    coarse: Coarse LM, with a variant `other_semantic`.
  """
  hears_music = audio.cost('other_piece').low > 0
  hears_tokens = coarse.cost('other_semantic').low > 0
  gains = {
    'own MuLan text tokens better than none': text.cost('none'),
    'own MuLan audio tokens better than none': audio.cost('none'),
  }
  stage = 'mulan_rvq'  # where text tokens part from audio tokens
  if not hears_tokens:
    stage = 'coarse'
  if not hears_music:
    stage = 'semantic'
  return gates.make(
    'lm_conditioning',
    text.cost('none'),
    0.0,
    {words: gain.low > 0 for words, gain in gains.items()},
    machinery={
      'own MuLan audio tokens better than shuffled': hears_music,
      'coarse worse with shuffled semantic tokens': hears_tokens,
    },
    stage=stage,
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


def perturb(
  logits: Logits,
  batch: Batch,
  stream: str,
  index: tuple[int, ...],
  position: int,
  codebook_size: int,
) -> Perturbation:
  """Changes one token and looks at the logits beside it.

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


class HeldOutCrops:
  """Held-out crops of one LM's length, as one batch of everything.

  Attributes:
    batch: `mulan` [N, 12], `semantic` [N, Ts], `acoustic` [N, Ta, Q] and
      `melody` [N, windows, 24] where the LM reads it.
    records: The record of each crop.
    units: The piece of each crop.
  """

  def __init__(self, artifacts: Artifacts, stage: str):
    """Cuts one crop out of each record, at a place of its own."""
    self.network = artifacts.networks[stage]
    self.lm = self.network.model
    predicted = self.lm.layout.predicted
    melody = self.lm.layout.melody
    # Crops with a melody begin where one of its windows does.
    step = round(TICK_RATE / melody.frame_rate) if melody else 1
    is_semantic = predicted.stream == 'semantic'
    frames = predicted.num_frames * (2 if is_semantic else 1)
    # A crop of 1.5 s is no whole number of semantic frames: none are cut.
    ticks = -(-frames // 2)
    self.records = artifacts.test.spread_records(_RECORDS_PER_PIECE, _RECORDS)
    self.units = [record.piece_id for record in self.records]
    rng = np.random.default_rng(0)
    semantic, acoustic, melodies = [], [], []
    for record in self.records:
      windows = (len(record.semantic) - ticks) // step
      first = int(rng.integers(0, windows + 1))
      start = step * first
      semantic.append(record.semantic[start : start + frames // 2])
      acoustic.append(record.acoustic[2 * start : 2 * start + frames])
      if melody:
        melodies.append(record.melody[first : first + melody.num_frames])
    self.batch = {
      'mulan': np.stack([record.mulan for record in self.records]),
      'semantic': np.stack(semantic),
      'acoustic': np.stack(acoustic),
    }
    if melody:
      self.batch['melody'] = np.stack(melodies)

  @functools.cached_property
  def predicted(self) -> np.ndarray:
    """The codes that the LM predicts [N, T, Q]."""
    segment = self.lm.layout.predicted
    codes = self.batch[segment.stream]
    codes = codes if codes.ndim == 3 else codes[..., None]
    last = segment.first_level + segment.num_levels
    return codes[:, :, segment.first_level : last]

  def nll(
    self, mulan_levels: int | None = None, **changes: np.ndarray
  ) -> np.ndarray:
    """Nats per token of each crop and level [N, Q].

    Args:
      mulan_levels: MuLan levels that are read; None reads all.
      **changes: Streams that replace those of the batch.
    """
    score = self._score(mulan_levels)
    batch = {**self.batch, **changes}
    out = []
    count = len(self.units)
    for first in range(0, count, _BATCH):
      index = np.minimum(np.arange(first, first + _BATCH), count - 1)
      rows = {name: value[index] for name, value in batch.items()}
      out.append(np.asarray(score(rows))[: count - first])
    nll = np.concatenate(out)
    return nll.reshape(*self.predicted.shape).mean(axis=1)

  @functools.cache  # noqa: B019 (lives as long as the process)
  def _score(self, mulan_levels: int | None) -> Score:
    import jax

    network = self.network
    scored = jax.jit(
      functools.partial(network.model.nll, num_mulan_levels=mulan_levels)
    )
    return lambda rows: scored(network.params, network.collections, rows)

  def logits(self, batch: Batch) -> np.ndarray:
    """Logits of the predicted tokens, teacher-forced [B, T Q, K]."""
    network = self.network
    logits = self.lm.logits(network.params, network.collections, batch)
    return np.asarray(logits)

  def by_piece(self, values: np.ndarray) -> np.ndarray:
    """Averages [N, Q] over the crops of each piece, [U, Q]."""
    return np.stack(
      [bootstrap.unit_means(level, self.units)[0] for level in values.T],
      axis=1,
    )


def nll_gates(
  artifacts: Artifacts, held_out: Mapping[str, HeldOutCrops]
) -> tuple[list[gates.Gate], dict]:
  """The three `*_nll` gates and their figures."""
  measured = [_nll(artifacts, stage, held_out[stage]) for stage in STAGES]
  return [nll.gate() for nll in measured], {
    f'{nll.stage}_nll': nll.figures() for nll in measured
  }


def _nll(artifacts: Artifacts, stage: str, held_out: HeldOutCrops) -> Nll:
  """One LM against the unigram, for semantic tokens also the bigram."""
  segment = held_out.lm.layout.predicted
  size = segment.codebook_size
  baselines = []
  for level in range(segment.num_levels):
    training = _training_tokens(artifacts, segment, level)
    table = ngrams.unigram(np.concatenate(training), size)
    tokens = held_out.predicted[:, :, level]
    baselines.append(ngrams.unigram_nll(tokens, table))
  bigram = None
  if stage == 'semantic':
    # `training` and `table` are those of the only level.
    pairs = ngrams.bigram(training, size)
    nll = ngrams.bigram_nll(tokens, pairs, table)
    bigram = held_out.by_piece(nll[:, None])
  return Nll(
    stage,
    held_out.by_piece(held_out.nll()),
    held_out.by_piece(np.stack(baselines, axis=1)),
    bigram,
  )


def _training_tokens(artifacts: Artifacts, segment, level: int) -> list:
  if segment.stream == 'semantic':
    return [record.semantic for record in artifacts.semantic_training]
  column = segment.first_level + level
  return [record.acoustic[:, column] for record in artifacts.train.records]


def conditioning(
  held_out: Mapping[str, HeldOutCrops], seed: int, mulan_levels: int
) -> tuple[gates.Gate, dict]:
  """`lm_conditioning`: audio tokens, text tokens, semantic tokens.

  Args:
    held_out: Stage -> held-out crops.
    seed: Of what is exchanged with what.
    mulan_levels: Levels of text tokens that are read, as in generation.
  """
  semantic, coarse = held_out['semantic'], held_out['coarse']
  others = other_pieces(semantic.units, seed)
  text = np.stack([r.mulan_text for r in semantic.records], axis=1)
  audio = semantic.batch['mulan']

  def score(data: HeldOutCrops, **changes) -> np.ndarray:
    return data.by_piece(data.nll(**changes)).mean(axis=1)

  def read(captions: np.ndarray) -> np.ndarray:
    # [C, N, 12]: the mean over captions, so that no figure hangs on one.
    return np.mean(
      [
        score(semantic, mulan=tokens, mulan_levels=mulan_levels)
        for tokens in captions
      ],
      axis=0,
    )

  own, none = score(semantic), score(semantic, mulan_levels=0)
  by_audio = ConditioningCost(
    own,
    {
      'none': none,
      'other_piece': score(semantic, mulan=audio[others]),
      'same_piece': score(semantic, mulan=_other_windows(semantic.records)),
    },
  )
  by_text = ConditioningCost(
    read(text), {'none': none, 'other_piece': read(text[:, others])}
  )
  shuffled = coarse.batch['semantic'][other_pieces(coarse.units, seed)]
  by_semantic = ConditioningCost(
    score(coarse), {'other_semantic': score(coarse, semantic=shuffled)}
  )
  gate = conditioning_gate(by_audio, by_text, by_semantic)
  return gate, {
    'semantic_matched': float(own.mean()),
    'semantic_same_piece': by_audio.cost('same_piece').shifted(own.mean()),
    'semantic_other_piece': by_audio.cost('other_piece').shifted(own.mean()),
    'semantic_own_text': float(by_text.own.mean()),
    'semantic_none': float(none.mean()),
    'cost_without_audio': by_audio.cost('none'),
    'cost_without_text': by_text.cost('none'),
    'cost_of_other_text': by_text.cost('other_piece'),
    'cost_of_other_semantic': by_semantic.cost('other_semantic'),
  }


def _other_windows(records: Sequence[TokenRecord]) -> np.ndarray:
  """MuLan tokens of the farthest window of the same piece [N, 12]."""
  return np.stack(
    [
      record.piece_mulan[
        np.abs(record.piece_starts - record.start_seconds).argmax()
      ]
      for record in records
    ]
  )


def perturbation(
  held_out: Mapping[str, HeldOutCrops],
) -> tuple[gates.Gate, dict]:
  """`lm_perturb` of all three LMs, in the middle of a crop."""
  measured = {}
  for stage, data in held_out.items():
    segment = data.lm.layout.predicted
    rows = {name: value[:2] for name, value in data.batch.items()}
    frame = segment.num_frames // 2
    level = segment.num_levels // 2
    index = (frame,)
    if segment.stream == 'acoustic':
      index = (frame, segment.first_level + level)
    measured[stage] = perturb(
      data.logits,
      rows,
      segment.stream,
      index,
      frame * segment.num_levels + level,
      segment.codebook_size,
    )
  gate = perturbation_gate(measured)
  return gate, {
    stage: {'past': moved.after, 'future': moved.before}
    for stage, moved in measured.items()
  }
