"""What a call of `evaluate` works on: folders, networks and choices."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from musiclm_jax.cascade.musiclm import MusicLM
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.progress import ProgressCallback
from musiclm_jax.evaluation.clips import ClipFolder
from musiclm_jax.evaluation.embedders import (
  BATCH_SIZE,
  EMBEDDERS,
  Embedder,
  open_all,
)
from musiclm_jax.evaluation.panns import Panns
from musiclm_jax.evaluation.panns import load as load_panns
from musiclm_jax.metrics import kld


@dataclasses.dataclass(frozen=True)
class EvaluationInputs:
  """What a call of `evaluate` works on.

  Attributes:
    reference: Folder of reference clips, or the .npz file of its statistics;
      None where no measure needs one.
    generated: Folder of what is measured; None to save statistics only.
    embedders: Of FAD and KAD.
    model: Of a bundle, for what needs its networks.
    panns: Another classifier of KLD, where its weights are given.
    training: Folder of what the bundle was trained on, for copies.
    seed: Of everything that is drawn.
    batch_size: Windows of one call of a network.
    ablation: A cascade without semantic tokens, for `attribution`.
    seconds: Of each clip that `attribution` makes again.
    keep: Takes what `attribution` makes: row, name of the clip, float32 [S] at
      24 kHz; the row `reference` is the clip itself.
    kld_scores: One of `kld.SCORES`; None: as each classifier was trained.
    kld_direction: One of `kld.DIRECTIONS`.
    kld_pooling: One of `kld.POOLINGS`.
    progress: Takes events, counted in clips.
    report: Takes lines for the user.
  """

  reference: ClipFolder | Path | None = None
  generated: ClipFolder | None = None
  embedders: tuple[Embedder, ...] = ()
  model: MusicLM | None = None
  panns: Panns | None = None
  training: ClipFolder | None = None
  seed: int = 0
  batch_size: int = BATCH_SIZE
  ablation: MusicLM | None = None
  seconds: float = 10.0
  keep: Callable[[str, str, np.ndarray], None] | None = None
  kld_scores: str | None = None
  kld_direction: str = kld.DIRECTIONS[0]
  kld_pooling: str = kld.POOLINGS[0]
  progress: ProgressCallback | None = None
  report: Callable[[str], None] = lambda line: None

  def reference_folder(self, measure: str) -> ClipFolder:
    """The folder of references.

    Raises:
      UsageError: If it is a file of statistics, or missing.
    """
    if not isinstance(self.reference, ClipFolder):
      raise UsageError(
        f'{measure} reads the reference clips: give --reference=DIR, their '
        'folder'
      )
    return self.reference

  def generated_folder(self, measure: str) -> ClipFolder:
    """The folder that is measured.

    Raises:
      UsageError: If it is missing.
    """
    if self.generated is None:
      raise UsageError(
        f'{measure} measures clips: give --generated=DIR, their folder'
      )
    return self.generated


def open_inputs(
  *,
  reference: Path | None,
  generated: Path | None,
  training: Path | None,
  measures: Sequence[str],
  embedder_names: Sequence[str] | None,
  windowing: str,
  bundle: Path | MusicLM | None,
  vggish: Path | None,
  ablation: Path | None = None,
  panns: Path | None = None,
  **others: Any,
) -> EvaluationInputs:
  """Opens folders and embedders by what a user gave.

  Args:
    reference: Folder, or file of statistics.
    generated: Folder.
    training: Folder.
    measures: That will be taken.
    embedder_names: Of `embedders.EMBEDDERS`; None: all whose weights are given.
    windowing: Of `embedders.WINDOWINGS`.
    bundle: Folder of a bundle, or one that is open.
    vggish: File with VGGish's weights.
    ablation: Folder of a bundle whose coarse stage reads no semantic tokens.
    panns: File with the weights of PANNs' Cnn14.
    **others: Fields of `EvaluationInputs`.

  Raises:
    UsageError: If something is missing or cannot be read.
  """
  model = bundle
  if isinstance(bundle, Path):
    model = MusicLM.load(bundle, others.get('report'))
  network = panns and load_panns(panns)
  if embedder_names is None:
    given = {
      'tagger': True,
      'vggish': vggish,
      'panns': network,
      'codec': model,
      'mulan': model,
    }
    embedder_names = [name for name in EMBEDDERS if given[name]]
  opened: list[Embedder] = []
  if not set(measures).isdisjoint(('fad', 'kad', 'attribution')):
    opened = open_all(
      dict.fromkeys(embedder_names),
      windowing=windowing,
      batch_size=others.get('batch_size', BATCH_SIZE),
      model=model,
      vggish=vggish,
      panns=network,
    )
    if not opened:
      raise UsageError(
        f'--embedders is empty: choose of {", ".join(EMBEDDERS)}'
      )
  source: ClipFolder | Path | None = reference
  if reference is not None and reference.suffix != '.npz':
    source = ClipFolder(reference)
  return EvaluationInputs(
    reference=source,
    generated=generated and ClipFolder(generated),
    training=training and ClipFolder(training),
    embedders=tuple(opened),
    model=model,
    ablation=ablation and MusicLM.load(ablation, others.get('report')),
    panns=network,
    **others,
  )
