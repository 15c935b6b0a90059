"""The committed clips: four groups of five, and how far each is from music."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from musiclm_jax.contracts.progress import ProgressCallback
from musiclm_jax.evaluation import inputs, run

FOLDER = Path(__file__).parent
GROUPS = {
  'real': 'a held-out piece',
  'coded': 'the same through the codec',
  'shipped': 'what the model makes of the caption',
  'unconditional': 'what it makes without',
}
STATISTICS = FOLDER / 'held_out.npz'  # of other held-out pieces
MEASURES = ('fad', 'kad')
EMBEDDER = 'tagger'


def distance(
  folder: Path,
  statistics: Path = STATISTICS,
  progress: ProgressCallback | None = None,
  report: Callable[[str], None] = lambda line: None,
) -> dict[str, float]:
  """Measures a folder of clips against held-out music.

  Args:
    folder: Of the clips.
    statistics: Of held-out music, as `evaluate --save_statistics` writes it.
    progress: Takes events, counted in clips.
    report: Takes lines for the user.

  Returns:
    Measure -> distance.
  """
  opened = inputs.open_inputs(
    reference=statistics,
    generated=folder,
    training=None,
    measures=MEASURES,
    embedder_names=[EMBEDDER],
    windowing='vggish',
    bundle=None,
    vggish=None,
    progress=progress,
    report=report,
  )
  record = run.evaluate(opened, MEASURES).to_json()
  return {name: record[f'{name}_{EMBEDDER}'] for name in MEASURES}


def distances(folder: Path = FOLDER, **how: Any) -> dict[str, dict[str, float]]:
  """Group -> `distance` of its clips, by the statistics beside them.

  Args:
    folder: Holds the groups, and the statistics.
    **how: `progress` and `report`.
  """
  statistics = folder / STATISTICS.name
  return {
    group: distance(folder / group, statistics, **how) for group in GROUPS
  }
