"""An evaluation: the measures that were asked for -> one set of results."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from musiclm_jax.cascade import provenance
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.evaluation import (
  attribution,
  codec,
  continuations,
  copies,
  distances,
  embedding_sets,
  scores,
)
from musiclm_jax.evaluation.clips import ClipFolder
from musiclm_jax.evaluation.inputs import EvaluationInputs
from musiclm_jax.evaluation.results import Results

DISTANCES = ('fad', 'kad')  # which share their embeddings
_ADD: Mapping[str, Callable[[EvaluationInputs, Results], None]] = {
  'kld': scores.add_kld,
  'mcc': scores.add_mcc,
  'text_score': scores.add_text_score,
  'memorization': copies.add_memorization,
  'continuation': continuations.add_continuation,
  'fingerprint': copies.add_fingerprint,
  'codec': codec.add_codec,
  'attribution': attribution.add_attribution,
}
MEASURES = (*DISTANCES, *_ADD)
# Those that need networks of a bundle.
OF_BUNDLE = ('mcc', 'codec', 'attribution', 'memorization', 'continuation')
# Those that make what they measure, out of the reference.
OF_REFERENCE = ('attribution', 'continuation')


def check_measures(measures: Sequence[str]) -> None:
  """Refuses a name that is none of `MEASURES`.

  Raises:
    UsageError: Naming all that there are.
  """
  for name in measures:
    if name not in MEASURES:
      raise UsageError(
        f"--metrics: unknown measure '{name}': choose of {', '.join(MEASURES)}"
      )


def evaluate(
  inputs: EvaluationInputs,
  measures: Sequence[str],
  save_statistics: Path | None = None,
) -> Results:
  """Takes all measures.

  Args:
    inputs: What they work on.
    measures: Of `MEASURES`.
    save_statistics: An .npz file for the reference's statistics, which then
      can be given as reference.

  Raises:
    UsageError: If a measure lacks what it needs; see each.
  """
  check_measures(measures)
  results = Results()
  wanted = tuple(name for name in DISTANCES if name in measures)
  if wanted or save_statistics:
    references = distances.reference_sets(inputs)
    if save_statistics:
      pairs = list(zip(inputs.embedders, references, strict=True))
      embedding_sets.save(save_statistics, pairs)
      inputs.report(f'wrote {save_statistics}')
    if wanted and inputs.generated is not None:
      distances.add_distances(inputs, results, references, wanted)
  for name, add in _ADD.items():
    if name in measures:
      add(inputs, results)
  results.details['files'] = {
    side: _files(folder)
    for side, folder in (
      ('reference', inputs.reference),
      ('generated', inputs.generated),
      ('training', inputs.training),
    )
    if folder is not None
  }
  results.details['versions'] = provenance.versions()
  return results


def _files(folder: ClipFolder | Path) -> dict:
  """What a folder holds, and what of it could not be used."""
  if isinstance(folder, Path):
    return {'statistics': folder.name}
  return {
    'clips': len(folder),
    'skipped': folder.skipped,
    'silent': sorted(folder.silent),
  }
