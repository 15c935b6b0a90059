"""The record of a training: one JSON object a logged step, and TensorBoard.

The record holds nothing that depends on the clock, so two runs of one config
write the same bytes.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path

from musiclm_jax.contracts import atomic_file
from musiclm_jax.training import workdir as folder


class Report:
  """Writes `metrics.jsonl` and TensorBoard events of one workdir."""

  def __init__(self, workdir: Path, restored_step: int):
    """Opens the record and forgets steps beyond the restored one.

    Args:
      workdir: Of the training.
      restored_step: Steps that the restored state has done; 0 at the start.
    """
    from tensorboardX import SummaryWriter

    path = Path(workdir) / folder.METRICS
    _truncate(path, restored_step)
    self._file = open(path, 'a')  # noqa: SIM115  closed by `__exit__`
    self._writer = SummaryWriter(
      str(workdir), purge_step=restored_step + 1 if restored_step else None
    )

  def write(self, step: int, metrics: Mapping[str, float]) -> None:
    """Appends one object and flushes it; what is not finite becomes null."""
    ordered = {'loss': metrics['loss'], **metrics}
    finite = {k: v if math.isfinite(v) else None for k, v in ordered.items()}
    self._file.write(json.dumps({'step': step, **finite}) + '\n')
    self._file.flush()
    for name, value in metrics.items():
      group = 'held_out' if name.startswith('eval_') else 'train'
      self._writer.add_scalar(f'{group}/{name}', value, step)

  def __enter__(self) -> 'Report':
    return self

  def __exit__(self, *_: object) -> None:
    self._writer.close()
    self._file.close()


def read_metrics(path: Path) -> list[dict]:
  """Reads the whole lines of a record; a torn last line is left out."""
  lines = []
  for line in path.read_text(errors='replace').splitlines():
    try:
      lines.append(json.loads(line))
    except ValueError:
      break
  return lines


def _truncate(path: Path, last_step: int) -> None:
  if not path.exists():
    return
  text = path.read_text(errors='replace')
  kept = []
  for line in text.splitlines(keepends=True):
    try:
      step = json.loads(line)['step']
    except (ValueError, TypeError, KeyError):
      break
    if step > last_step or not line.endswith('\n'):
      break
    kept.append(line)
  if ''.join(kept) != text:
    atomic_file.write_text(path, ''.join(kept))
