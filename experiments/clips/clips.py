"""The committed clips: four groups of five, and how far each is from music.

real           held-out pieces, which nothing was trained on
coded          the same through the codec of the model
shipped        what the model makes of their captions
unconditional  what it makes without
"""

from collections.abc import Callable
from pathlib import Path

from musiclm_jax.contracts.progress import ProgressCallback
from musiclm_jax.evaluation import inputs, run

FOLDER = Path(__file__).parent
GROUPS = ('real', 'coded', 'shipped', 'unconditional')
STATISTICS = FOLDER / 'held_out.npz'  # of other held-out pieces
MEASURES = ('fad', 'kad')
_EMBEDDER = 'tagger'


def distances(
  folder: Path = FOLDER,
  progress: ProgressCallback | None = None,
  report: Callable[[str], None] = lambda line: None,
) -> dict[str, dict[str, float]]:
  """Measures each group against the statistics of held-out music.

  Args:
    folder: Holds the groups, and the statistics.
    progress: Takes events, counted in clips.
    report: Takes lines for the user.

  Returns:
    Group -> measure -> distance.
  """
  found = {}
  for group in GROUPS:
    opened = inputs.open_inputs(
      reference=folder / STATISTICS.name,
      generated=folder / group,
      training=None,
      measures=MEASURES,
      embedder_names=[_EMBEDDER],
      windowing='vggish',
      bundle=None,
      vggish=None,
      progress=progress,
      report=report,
    )
    record = run.evaluate(opened, MEASURES).to_json()
    found[group] = {name: record[f'{name}_{_EMBEDDER}'] for name in MEASURES}
  return found
