"""Distances of two sets of clips: FAD, FAD∞ and KAD with each embedder.

folder -> embeddings [N, D], streamed -> `EmbeddingSet` -> `metrics/`
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.terminal import first_few, printable
from musiclm_jax.evaluation import embedding_sets as sets
from musiclm_jax.evaluation.clips import ClipFolder
from musiclm_jax.evaluation.embedders import Embedder
from musiclm_jax.evaluation.embedding_sets import EmbeddingSet
from musiclm_jax.evaluation.inputs import EvaluationInputs
from musiclm_jax.evaluation.results import Results
from musiclm_jax.metrics import fad, kad


def reference_sets(inputs: EvaluationInputs) -> list[EmbeddingSet]:
  """Embeds the reference, or reads its statistics; one set an embedder.

  Raises:
    UsageError: If there are fewer than 2 embeddings.
  """
  found = []
  for embedder in inputs.embedders:
    if isinstance(inputs.reference, Path):
      one = sets.load(inputs.reference, embedder)
    else:
      folder = inputs.reference_folder('fad')
      one = _embed(inputs, embedder, folder, 'reference')[0]
    found.append(one)
  return found


def add_distances(
  inputs: EvaluationInputs,
  results: Results,
  references: list[EmbeddingSet],
  measures: tuple[str, ...],
) -> None:
  """FAD, FAD∞ and KAD with each embedder."""
  folder = inputs.generated_folder('fad')
  for embedder, reference in zip(inputs.embedders, references, strict=True):
    statistics = reference.statistics if 'fad' in measures else None
    found, songs = _embed(inputs, embedder, folder, 'generated', statistics)
    facts = _facts(inputs, embedder, reference, found)
    if 'fad' in measures:
      _add_fad(inputs, results, embedder, reference, found, facts, songs)
    if 'kad' in measures:
      _add_kad(inputs, results, embedder, reference, found, facts)


def _embed(
  inputs: EvaluationInputs,
  embedder: Embedder,
  folder: ClipFolder,
  side: str,
  reference: fad.EmbeddingStatistics | None = None,
) -> tuple[EmbeddingSet, dict[str, float | None]]:
  """Embeds a folder; with a reference also FAD of each song."""
  collector = sets.EmbeddingCollector(
    embedder.dimension, len(folder), inputs.seed
  )
  songs: dict[str, float | None] = {}
  short = []
  read = folder.clips(
    embedder.sample_rate, f'{side}, {embedder.name}', inputs.progress
  )
  waveforms = (clip.waveform for clip in read)
  for index, rows in enumerate(embedder.embed_all(waveforms)):
    if not len(rows):
      short.append(folder.names[index])
    if not np.isfinite(rows).all():
      raise UsageError(
        f"'{printable(folder.names[index])}' has embeddings of "
        f"'{embedder.name}' that are not finite: remove it, or check the "
        'weights'
      )
    collector.add(index, rows)
    if reference is not None:
      songs[folder.names[index]] = fad.song_distance(reference, rows)
  if short:
    inputs.report(
      f'{len(short)} clips of {printable(folder.path)} are shorter than a '
      f'window of {embedder.windowing.window_seconds:g} s and are left out: '
      + first_few([printable(name) for name in short])
    )
  found = collector.finish()
  if found.statistics.count < 2:
    raise UsageError(
      f"'{printable(folder.path)}' has {found.statistics.count} windows of "
      f"{embedder.windowing.window_seconds:g} s for embedder '{embedder.name}':"
      ' a distance of sets needs 2 or more, add or lengthen clips'
    )
  return found, songs


def _facts(
  inputs: EvaluationInputs,
  embedder: Embedder,
  reference: EmbeddingSet,
  generated: EmbeddingSet,
) -> dict:
  """What belongs to every figure of an embedder."""
  return {
    'embedder': embedder.name,
    'sha256': embedder.sha256,
    'windowing': embedder.windowing.name,
    'label': embedder.label,
    'sample_rate': embedder.sample_rate,
    'resampler': 'soxr HQ',
    'dimension': embedder.dimension,
    'seed': inputs.seed,
    'n': {
      'reference': reference.statistics.count,
      'generated': generated.statistics.count,
      'reference_clips': reference.num_clips,
      'generated_clips': generated.num_clips,
    },
  }


def _add_fad(
  inputs: EvaluationInputs,
  results: Results,
  embedder: Embedder,
  reference: EmbeddingSet,
  generated: EmbeddingSet,
  facts: dict,
  songs: Mapping[str, float | None],
) -> None:
  remarks = sets.rank_remarks(reference=reference, generated=generated)
  value = fad.frechet_distance(reference.statistics, generated.statistics)
  bounds = None
  if len(generated.filled) > 1 and min(g.count for g in generated.filled):
    bounds = fad.interval(
      reference.statistics, generated.filled, seed=inputs.seed
    )
  results.add(
    f'fad_{embedder.name}',
    value,
    interval=bounds,
    remarks=remarks,
    per_song=songs,
    **facts,
  )
  infinite = fad.fad_infinity(
    reference.statistics, generated.filled, seed=inputs.seed
  )
  few = f'needs 10 clips or more, there are {generated.num_clips}'
  results.add(
    f'fadinf_{embedder.name}',
    infinite,
    remarks=remarks if infinite is not None else [few],
    **facts,
  )


def _add_kad(
  inputs: EvaluationInputs,
  results: Results,
  embedder: Embedder,
  reference: EmbeddingSet,
  generated: EmbeddingSet,
  facts: dict,
) -> None:
  try:
    found = kad.kernel_audio_distance(
      reference.rows,
      generated.rows,
      reference_clips=reference.clips,
      generated_clips=generated.clips,
      seed=inputs.seed,
    )
  except ValueError as error:
    results.add(f'kad_{embedder.name}', None, remarks=[str(error)], **facts)
    return
  between = found.between_clips
  results.add(
    f'kad_{embedder.name}',
    found.value,
    interval=between,
    interval_of='pairs of different clips, without the bias of one clip',
    between_clips=between.value if between else None,
    bandwidth=found.bandwidth,
    bandwidth_rows=min(len(reference.rows), kad.MEDIAN_ROWS),
    rows={'reference': len(reference.rows), 'generated': len(generated.rows)},
    **facts,
  )
