"""What is profiled: each network in the phase that most of its steps are."""

import dataclasses
import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from musiclm_jax.rehearsal.rehearsal import with_changes

_CONFIGS = Path(__file__).parents[2] / 'configs'
# Discriminators from the first step, or never.
_GAN = {'loss.adversarial_start': 0.0, 'loss.adversarial_warmup': 0.0}
_NO_GAN = {'loss.adversarial_start': 2.0}
_FITTED = {'loss.statistics_steps': 1}
_ON_A_GPU = {
  'model.attention_kernel': 'cudnn',
  'model.remat': 'elementwise',
  'model.scan_unroll': 24,
}
_JOINED = {'loss.contrastive_only': 0.0}


@dataclasses.dataclass(frozen=True)
class Case:
  """A config with some keys changed.

  Attributes:
    name: Of the row.
    stage: Of the config.
    size: Of the config.
    changes: Dotted key -> value.
  """

  name: str
  stage: str
  size: str
  changes: Mapping[str, Any]

  def config(self) -> dict[str, Any]:
    """The resolved config."""
    get_config = runpy.run_path(str(_CONFIGS / f'{self.stage}.py'))[
      'get_config'
    ]
    return with_changes(get_config(self.size).to_dict(), self.changes)


def _case(stage: str, size: str, what: str = '', **changes: Any) -> Case:
  changes = {key.replace('__', '.'): value for key, value in changes.items()}
  phase = {
    'w2v_bert': _JOINED,
    'kmeans': _FITTED,
    'mulan_rvq': _FITTED,
    'melody_rvq': _FITTED,
  }.get(stage, {})
  return Case(
    f'{stage}:{size}{what and " "}{what}', stage, size, phase | changes
  )


CASES = (
  _case('soundstream', 'small', 'before', **_NO_GAN),
  _case('soundstream', 'small', 'adversarial', **_GAN),
  _case('w2v_bert', 'small'),
  _case('mulan', 'small'),
  _case('semantic', 'small'),
  _case('coarse', 'small'),
  _case('fine', 'small'),
  _case('melody', 'small'),
  _case('kmeans', 'small'),
  _case('mulan_rvq', 'small'),
  _case('melody_rvq', 'small'),
  # Of a pod's batch, what one chip has room for.
  _case('semantic', 'paper', **_ON_A_GPU, data__batch_size=64),
  _case('soundstream', 'paper', 'adversarial', **_GAN, data__batch_size=32),
  _case('mulan', 'paper', data__batch_size=256),
  _case('w2v_bert', 'paper', data__batch_size=64),
)
