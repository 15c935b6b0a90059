"""Measures of the three token LMs on the held-out token store.

Material -> `semantic_nll`, `coarse_nll`, `fine_nll`, `lm_conditioning`,
`lm_perturb`; the arithmetic is in `language_models`.
"""

import functools
from collections.abc import Mapping, Sequence

import numpy as np

from musiclm_jax.data.token_store import TokenRecord
from musiclm_jax.evaluation import gates, language_models, statistics
from musiclm_jax.evaluation.language_models import Batch, Conditioning, Nll
from musiclm_jax.evaluation.material import Material
from musiclm_jax.token_lm.layout import TICK_RATE

_RECORDS_PER_PIECE, _RECORDS = 3, 240
_BATCH = 8
STAGES = ('semantic', 'coarse', 'fine')


class HeldOut:
  """Held-out crops of one LM's length, as one batch of everything.

  Attributes:
    batch: `mulan` [N, 12], `semantic` [N, Ts], `acoustic` [N, Ta, Q] and
      `melody` [N, windows, 24] where the LM hears it.
    records: The record of each crop.
    units: The piece of each crop.
  """

  def __init__(self, material: Material, stage: str):
    """Cuts one crop out of each record, at a place of its own."""
    self.task = material.networks[stage].task
    self.network = material.networks[stage]
    predicted = self.task.lm.layout.predicted
    melody = self.task.lm.layout.melody
    # Crops with a melody begin where one of its windows does.
    step = round(TICK_RATE / melody.frame_rate) if melody else 1
    is_semantic = predicted.stream == 'semantic'
    frames = predicted.num_frames * (2 if is_semantic else 1)
    # A crop of 1.5 s is no whole number of semantic frames: none are cut.
    ticks = -(-frames // 2)
    self.records = material.test.spread_records(_RECORDS_PER_PIECE, _RECORDS)
    self.units = [record.piece_id for record in self.records]
    rng = np.random.default_rng(0)
    semantic, acoustic, tunes = [], [], []
    for record in self.records:
      windows = (len(record.semantic) - ticks) // step
      first = int(rng.integers(0, windows + 1))
      start = step * first
      semantic.append(record.semantic[start : start + frames // 2])
      acoustic.append(record.acoustic[2 * start : 2 * start + frames])
      if melody:
        tunes.append(record.melody[first : first + melody.num_frames])
    self.batch = {
      'mulan': np.stack([record.mulan for record in self.records]),
      'semantic': np.stack(semantic),
      'acoustic': np.stack(acoustic),
    }
    if melody:
      self.batch['melody'] = np.stack(tunes)

  @functools.cached_property
  def predicted(self) -> np.ndarray:
    """The codes that the LM predicts [N, T, Q]."""
    segment = self.task.lm.layout.predicted
    codes = self.batch[segment.stream]
    codes = codes if codes.ndim == 3 else codes[..., None]
    last = segment.first_level + segment.num_levels
    return codes[:, :, segment.first_level : last]

  def nll(
    self, mulan_levels: int | None = None, **changes: np.ndarray
  ) -> np.ndarray:
    """Nats per token of each crop and level [N, Q].

    Args:
      mulan_levels: MuLan levels that are heard; None hears all.
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
  def _score(self, mulan_levels: int | None) -> language_models.Score:
    import jax

    network = self.network
    scored = jax.jit(
      functools.partial(network.task.nll, num_mulan_levels=mulan_levels)
    )
    return lambda rows: scored(network.params, network.collections, rows)

  def logits(self, batch: Batch) -> np.ndarray:
    """Logits of the predicted tokens, teacher-forced [B, T Q, K]."""
    tokens = self.task.tokens(batch)
    logits = self.task.lm.apply({'params': self.network.params['lm']}, tokens)
    return np.asarray(logits).reshape(len(tokens), -1, logits.shape[-1])

  def by_piece(self, values: np.ndarray) -> np.ndarray:
    """Averages [N, Q] over the crops of each piece, [U, Q]."""
    return np.stack(
      [statistics.unit_means(level, self.units)[0] for level in values.T],
      axis=1,
    )


def nll_gates(
  material: Material, held_out: Mapping[str, HeldOut]
) -> tuple[list[gates.Gate], dict]:
  """The three `*_nll` gates and their figures."""
  measured = [_nll(material, stage, held_out[stage]) for stage in STAGES]
  return [nll.gate() for nll in measured], {
    f'{nll.stage}_nll': nll.figures() for nll in measured
  }


def _nll(material: Material, stage: str, held_out: HeldOut) -> Nll:
  """One LM against the unigram, for semantic tokens also the bigram."""
  segment = held_out.task.lm.layout.predicted
  size = segment.codebook_size
  rivals = []
  for level in range(segment.num_levels):
    training = _training_tokens(material, segment, level)
    table = language_models.unigram(np.concatenate(training), size)
    tokens = held_out.predicted[:, :, level]
    rivals.append(language_models.unigram_nll(tokens, table))
  bigram = None
  if stage == 'semantic':
    # `training` and `table` are those of the only level.
    pairs = language_models.bigram(training, size)
    nll = language_models.bigram_nll(tokens, pairs, table)
    bigram = held_out.by_piece(nll[:, None])
  return Nll(
    stage,
    held_out.by_piece(held_out.nll()),
    held_out.by_piece(np.stack(rivals, axis=1)),
    bigram,
  )


def _training_tokens(material: Material, segment, level: int) -> list:
  records = material.train.records
  if segment.stream == 'semantic':
    return [record.semantic for record in records]
  column = segment.first_level + level
  return [record.acoustic[:, column] for record in records]


def conditioning(
  held_out: Mapping[str, HeldOut], seed: int, mulan_levels: int
) -> tuple[gates.Gate, dict]:
  """`lm_conditioning`: audio tokens, text tokens, semantic tokens.

  Args:
    held_out: Stage -> held-out crops.
    seed: Of what is exchanged with what.
    mulan_levels: Levels of text tokens that are heard, as in generation.
  """
  semantic, coarse = held_out['semantic'], held_out['coarse']
  others = language_models.other_pieces(semantic.units, seed)
  text = np.stack([r.mulan_text for r in semantic.records], axis=1)
  audio = semantic.batch['mulan']

  def score(data: HeldOut, **changes) -> np.ndarray:
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

  own = score(semantic)
  by_audio = Conditioning(
    own,
    {
      'other_piece': score(semantic, mulan=audio[others]),
      'same_piece': score(semantic, mulan=_other_windows(semantic.records)),
    },
  )
  by_text = Conditioning(read(text), {'other_piece': read(text[:, others])})
  shuffled = coarse.batch['semantic'][
    language_models.other_pieces(coarse.units, seed)
  ]
  by_semantic = Conditioning(
    score(coarse), {'other_semantic': score(coarse, semantic=shuffled)}
  )
  gate = language_models.conditioning_gate(by_audio, by_text, by_semantic)
  return gate, {
    'semantic_matched': float(own.mean()),
    'semantic_same_piece': by_audio.cost('same_piece').shifted(own.mean()),
    'semantic_other_piece': by_audio.cost('other_piece').shifted(own.mean()),
    'semantic_own_text': float(by_text.own.mean()),
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
  held_out: Mapping[str, HeldOut],
) -> tuple[gates.Gate, dict]:
  """`lm_perturb` of all three LMs, in the middle of a crop."""
  measured = {}
  for stage, data in held_out.items():
    segment = data.task.lm.layout.predicted
    rows = {name: value[:2] for name, value in data.batch.items()}
    frame = segment.num_frames // 2
    level = segment.num_levels // 2
    index = (frame,)
    if segment.stream == 'acoustic':
      index = (frame, segment.first_level + level)
    measured[stage] = language_models.perturbation(
      data.logits,
      rows,
      segment.stream,
      index,
      frame * segment.num_levels + level,
      segment.codebook_size,
    )
  gate = language_models.perturbation_gate(measured)
  return gate, {
    stage: {'past': moved.after, 'future': moved.before}
    for stage, moved in measured.items()
  }
