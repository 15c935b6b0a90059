"""What a part of the evaluation found, kept as JSON and arrays.

(gates, figures, clips) -> entries of `KeptParts` -> the same, so that an
interrupted evaluation does not measure again. Figures come back as what JSON
holds, which is what the report holds in any case.
"""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import numpy as np

from musiclm_jax.contracts.kept_parts import Arrays, Keep
from musiclm_jax.evaluation.gates import Gate
from musiclm_jax.evaluation.report import plain

Found = tuple[list[Gate], dict[str, Any], tuple[np.ndarray, ...]]


def measured(keep: Keep, name: str, measure: Callable[[], tuple]) -> Found:
  """Measures, or finds what was measured.

  Args:
    keep: Keeps the result.
    name: Of the part.
    measure: Returns a gate or several, figures, and perhaps clips.
  """
  kept = keep(f'measured {name}', lambda: _arrays(*measure()))
  gates, figures = json.loads(str(kept['json']))
  clips = (kept[f'clips {k}'] for k in range(len(kept) - 1))
  return [Gate(**gate) for gate in gates], figures, tuple(clips)


def _arrays(
  gates: Gate | list[Gate], figures: dict, clips: tuple[np.ndarray, ...] = ()
) -> Arrays:
  gates = [gates] if isinstance(gates, Gate) else gates
  rows = [dataclasses.asdict(gate) for gate in gates]
  text = json.dumps([rows, plain(figures)], default=lambda node: node.tolist())
  return {
    'json': np.array(text),
    **{f'clips {k}': some for k, some in enumerate(clips)},
  }
