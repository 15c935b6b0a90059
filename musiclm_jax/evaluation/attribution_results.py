"""Rows of sound -> what measures need of them -> figures, costs and a table.

waveforms [B, S] of each row -> sets of embeddings, scores of clips -> one
`metrics.attribution.Measure` for each embedder's FAD and KAD and for each
classifier's KLD and agreement
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import soxr

from musiclm_jax.contracts.audio import SAMPLE_RATE
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.terminal import printable
from musiclm_jax.evaluation import embedding_sets, scores
from musiclm_jax.evaluation.classifiers import Classifier, Heads
from musiclm_jax.evaluation.embedders import Embedder
from musiclm_jax.evaluation.embedding_sets import EmbeddingSet
from musiclm_jax.evaluation.inputs import EvaluationInputs
from musiclm_jax.evaluation.results import Results
from musiclm_jax.metrics import attribution, bootstrap, kad, kld
from musiclm_jax.metrics.attribution import REFERENCE, Measure, Verdict

# Of embedders that share nothing with a cascade, the better known one first.
_DECIDING = ('vggish', 'tagger')
_OWN = 'the embedder is part of the cascade that it measures'


class Rows:
  """What is kept of the rows: no sound, and no more for more clips but scores.

  Attributes:
    heads: The classifiers.
    names: Of the clips that have come.
    losses: (kind, head) -> row -> one loss of each clip; the kinds are `kld`
      and `disagreement`, the share of a clip's classes that are not found in
      its reference.
  """

  def __init__(
    self,
    inputs: EvaluationInputs,
    heads: Heads,
    rows: Sequence[str],
    total: int,
  ):
    """Begins with nothing.

    Args:
      inputs: Embedders and choices.
      heads: The classifiers.
      rows: Their names, the reference first.
      total: Clips that may come.
    """
    self.heads = heads
    self._inputs, self._rows = inputs, tuple(rows)
    # Of one seed and number: the same groups and samples of clips in each row.
    self._collectors = {
      embedder.name: {
        row: embedding_sets.EmbeddingCollector(
          embedder.dimension, total, inputs.seed
        )
        for row in rows
      }
      for embedder in inputs.embedders
    }
    self.losses: dict[tuple[str, str], dict[str, list[float]]] = {
      (kind, head): {row: [] for row in rows}
      for kind in ('kld', 'disagreement')
      for head in heads.classifiers
    }
    self.names: list[str] = []
    self._true_logits: list[np.ndarray] = []

  @property
  def num_clips(self) -> int:
    """Clips of each row."""
    return len(self.names)

  @property
  def names_of_rows(self) -> tuple[str, ...]:
    """All rows but the reference."""
    return self._rows[1:]

  def add(self, row: str, names: Sequence[str], waveforms: np.ndarray) -> None:
    """Takes a batch of clips of a row; the reference comes first.

    Args:
      row: Its name.
      names: Of the clips, for errors.
      waveforms: float32 [B, S] at 24 kHz.

    Raises:
      UsageError: If embeddings are not finite.
    """
    if row == REFERENCE:
      self.names += names
    first = len(self.names) - len(names)
    for embedder in self._inputs.embedders:
      collector = self._collectors[embedder.name][row]
      sounds = (_resample(x, embedder.sample_rate) for x in waveforms)
      for place, found in enumerate(embedder.embed_all(sounds)):
        if not np.isfinite(found).all():
          raise UsageError(
            f"row '{row}' of '{printable(names[place])}' has embeddings of "
            f"'{embedder.name}' that are not finite: check the weights"
          )
        collector.add(first + place, found)
    rate = self.heads.embedder.sample_rate
    logits = list(self.heads.logits(_resample(x, rate) for x in waveforms))
    if row == REFERENCE:
      self._true_logits = logits
    for pair in zip(self._true_logits, logits, strict=True):
      self._score(row, *pair)

  def sets(self, embedder: Embedder) -> dict[str, EmbeddingSet]:
    """The embeddings of each row."""
    collectors = self._collectors[embedder.name]
    return {row: one.finish() for row, one in collectors.items()}

  def _score(self, row: str, true: np.ndarray, made: np.ndarray) -> None:
    """Compares what classifiers say of a clip and of its reference."""
    if not len(true):
      return
    for head, classifier in self.heads.classifiers.items():
      pair = [logits[:, classifier.columns] for logits in (true, made)]
      self.losses['kld', head][row].append(
        kld.kl_divergence(
          *pair,
          scores=self._inputs.kld_scores or classifier.scores,
          direction=self._inputs.kld_direction,
          pooling=self._inputs.kld_pooling,
        )
      )
      found = [_classes(logits, classifier) for logits in pair]
      self.losses['disagreement', head][row].append(
        float(np.mean(found[0] != found[1]))
      )


def _classes(logits: np.ndarray, classifier: Classifier) -> np.ndarray:
  """The class of a clip, [1], or which classes it has, [K]."""
  shares = kld.to_scores(logits, classifier.scores).mean(axis=0)
  if classifier.scores == 'softmax':
    return shares.argmax(keepdims=True)
  return shares > 0.5


def _resample(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
  """Resamples [S] at 24 kHz, as files are resampled when they are read."""
  if sample_rate == SAMPLE_RATE:
    return waveform
  return soxr.resample(waveform, SAMPLE_RATE, sample_rate)


def add(
  inputs: EvaluationInputs,
  results: Results,
  rows: Rows,
  facts: Mapping[str, Any],
  remarks: Sequence[str],
) -> None:
  """Figures of all rows and costs, and which stage loses most.

  KAD by one embedder decides, of VGGish where its weights are given, else of
  the tagger, else of the first that there is; where no stage stands out in it,
  KAD of each clip to its own reference does (`metrics.attribution.RULE`). What
  the other measures name stands beside it.

  Args:
    inputs: Embedders and choices.
    results: Takes them.
    rows: Of two clips or more.
    facts: Of the stages and the clips, for the details.
    remarks: What a reader must know, for instance of a row that is left out.

  Raises:
    UsageError: If no embedder has two windows to compare.
  """
  measures: dict[str, Measure] = {}
  for embedder in inputs.embedders:
    measures |= _add_distances(inputs, results, rows, embedder)
  order = (*_DECIDING, *(embedder.name for embedder in inputs.embedders))
  leading = next((n for n in order if f'kad_{n}' in measures), None)
  if leading is None:
    raise UsageError(
      'attribution: no embedder can tell the clips apart: give others, or '
      'raise --seconds'
    )
  for head, classifier in rows.heads.classifiers.items():
    measures |= _add_classifier(inputs, results, rows, head, classifier)
  verdicts = {
    key: attribution.weakest_stage(measure) for key, measure in measures.items()
  }
  remarks = list(remarks)
  if leading not in _DECIDING:
    remarks.append(_OWN)
  deciding = f'kad_{leading}'
  if verdicts[deciding].weakest is None:
    deciding = f'clip_kad_{leading}'
  found = verdicts[deciding]
  results.details['attribution'] = {
    'weakest': found.weakest,
    'largest': found.largest,
    'cost': dataclasses.asdict(found.costs[found.largest]),
    'excess': {
      stage: dataclasses.asdict(x) for stage, x in found.excess.items()
    },
    'rule': attribution.RULE,
    'deciding': deciding,
    'named_by': {key: verdict.weakest for key, verdict in verdicts.items()},
    'rows': list(rows.names_of_rows),
    'seed': inputs.seed,
    'n': rows.num_clips,
    'remarks': remarks,
    **facts,
  }
  results.summary += _first_words(verdicts, leading, rows.num_clips)
  results.summary += _table(results, measures, leading)
  results.summary += remarks


def _first_words(
  verdicts: Mapping[str, Verdict], leading: str, num_clips: int
) -> list[str]:
  """Which stage loses most: in quality, and of what each clip was."""
  lines = []
  for key, what in (
    (f'kad_{leading}', 'quality'),
    (f'clip_kad_{leading}', 'likeness to its clips'),
  ):
    found = verdicts[key]
    bounds = found.costs[found.largest]
    told = f'{bounds.value:.3g} [{bounds.low:.3g}, {bounds.high:.3g}] of {key}'
    lines.append(
      f'{what}: the {found.weakest} stage loses most, {told}'
      if found.weakest
      else f'{what}: no stage stands out; {found.largest} loses {told}'
    )
  first, second = lines
  return [f'attribution of {num_clips} clips', first, second]


def _table(
  results: Results, measures: Mapping[str, Measure], leading: str
) -> list[str]:
  """Rows and their figures, and what the stage of each costs."""
  shown = [f'{name}_{leading}' for name in ('kad', 'clip_kad', 'fad')]
  shown += [key for key in measures if key.startswith('kld_')][:1]
  shown = [key for key in shown if key in measures]
  deciding = measures[f'kad_{leading}'], measures[f'clip_kad_{leading}']
  lines = [
    f'{"row":12}'
    + ''.join(f'{key:>20}' for key in shown)
    + f'{"cost in KAD":>28}{"and in clip KAD":>28}'
  ]
  for row in (r for r in deciding[0].values if r != REFERENCE):
    values = (results.figures[f'attribution_{row}_{key}'] for key in shown)
    cells = ''.join(
      f'{"none" if value is None else f"{value:.4g}":>20}' for value in values
    )
    for measure in deciding:
      cost = measure.cost(row)
      told = f'{cost.value:+.3g} [{cost.low:+.3g}, {cost.high:+.3g}]'
      cells += f'{told:>28}'
    lines.append(f'{row:12}{cells}')
  return lines


def _add_distances(
  inputs: EvaluationInputs, results: Results, rows: Rows, embedder: Embedder
) -> dict[str, Measure]:
  """FAD, KAD and KAD of each clip, of an embedder."""
  sets = rows.sets(embedder)
  reference = sets[REFERENCE]
  if reference.num_clips < 2 or reference.statistics.count < 2:
    inputs.report(
      f'attribution: clips of {inputs.seconds:g} s have no window of embedder '
      f"'{embedder.name}', which is left out"
    )
    return {}
  facts = {
    'embedder': embedder.name,
    'sha256': embedder.sha256,
    'windowing': embedder.windowing.name,
    'label': embedder.label,
    'dimension': embedder.dimension,
    'n': {'clips': rows.num_clips, 'embeddings': reference.statistics.count},
    'seed': inputs.seed,
  }
  few = embedding_sets.rank_remarks(reference=reference)
  embeddings = {row: found.rows for row, found in sets.items()}
  groups = {row: found.filled for row, found in sets.items()}
  makers: dict[str, Callable[[], Measure]] = {
    'fad': lambda: attribution.frechet(groups, seed=inputs.seed),
    'kad': lambda: attribution.kernel(
      embeddings, reference.clips, seed=inputs.seed
    ),
    'clip_kad': lambda: attribution.clip_kernel(
      embeddings, reference.clips, seed=inputs.seed
    ),
  }
  measures = {}
  for name, make in makers.items():
    key = f'{name}_{embedder.name}'
    try:
      measures[key] = make()
    except ValueError as error:
      inputs.report(f'attribution: there is no {key}: {error}')
      continue
    remarks = few if name == 'fad' else []
    _add(results, key, measures[key], remarks, facts)
  if f'kad_{embedder.name}' in measures:
    _publish_kad(inputs, results, sets, embedder)
  return measures


def _publish_kad(
  inputs: EvaluationInputs,
  results: Results,
  sets: Mapping[str, EmbeddingSet],
  embedder: Embedder,
) -> None:
  """Puts KAD as published, over all pairs, in the place of the unbiased one.

  So that the figure of a row is that of the measure `kad` of the same clips;
  bounds and costs are those over pairs of different clips.
  """
  reference = sets[REFERENCE]
  for row, found in sets.items():
    if row == REFERENCE:
      continue
    key = f'attribution_{row}_kad_{embedder.name}'
    results.details[key]['between_clips'] = results.figures[key]
    published = kad.kernel_audio_distance(
      reference.rows, found.rows, seed=inputs.seed
    )
    results.figures[key] = published.value
    results.details[key]['interval_of'] = (
      'pairs of different clips, without the bias of one clip'
    )


def _add_classifier(
  inputs: EvaluationInputs,
  results: Results,
  rows: Rows,
  head: str,
  classifier: Classifier,
) -> dict[str, Measure]:
  """KLD to the reference of each clip, and agreement on its class."""
  if not rows.losses['kld', head][REFERENCE]:
    return {}
  facts = {
    **scores.classifier_facts(inputs, rows.heads, classifier),
    'n': rows.num_clips,
  }
  remarks = scores.worth(classifier)
  diverged, differing = (
    attribution.clip_means(rows.losses[kind, head], seed=inputs.seed)
    for kind in ('kld', 'disagreement')
  )
  _add(results, f'kld_{classifier.name}', diverged, remarks, facts)
  for row in rows.names_of_rows:
    results.details[f'attribution_{row}_kld_{classifier.name}']['per_song'] = (
      dict(zip(rows.names, rows.losses['kld', head][row], strict=True))
    )
  key = f'agreement_{classifier.name}'
  _add(results, key, differing, remarks, facts)
  for row in rows.names_of_rows:
    own = differing.interval(row)
    results.add(
      f'attribution_{row}_{key}',
      1 - own.value,
      interval=bootstrap.Interval(1 - own.value, 1 - own.high, 1 - own.low),
      remarks=remarks,
      listed=False,
      **facts,
    )
  return {f'kld_{classifier.name}': diverged, key: differing}


def _add(
  results: Results,
  key: str,
  measure: Measure,
  remarks: Sequence[str],
  facts: Mapping[str, Any],
) -> None:
  """A measure's figure of each row, and the cost of each stage."""
  for row in (name for name in measure.values if name != REFERENCE):
    stage = f'cost_{row}'
    for name, bounds in (
      (row, measure.interval(row)),
      (stage, measure.cost(row)),
    ):
      results.add(
        f'attribution_{name}_{key}',
        bounds.value,
        interval=bounds,
        remarks=remarks,
        listed=False,
        **facts,
      )
