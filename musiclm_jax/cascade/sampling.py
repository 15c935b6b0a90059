"""Sampling settings: what a bundle proposes and a user may change."""

import dataclasses
import numbers
from collections.abc import Mapping
from typing import Any

from musiclm_jax.contracts import bounds
from musiclm_jax.contracts.errors import UsageError

# Beyond a scale of 1000 all is chance, and float32 overflows.
_BOUNDS = {
  'mulan_levels': (0, bounds.COUNT[1]),
  'temperature': (0, 1000),
  'guidance': (0, 1000),
  'top_k': bounds.COUNT,
  'top_p': (0.0, 1.0),
}
_WHOLE = ('mulan_levels', 'top_k')
_GUIDANCE = 'guidance'  # of all stages, as it was before each had its own


@dataclasses.dataclass(frozen=True)
class SamplingConfig:
  """How to sample (MusicLM section 4).

  A bundle stores one; a field that was added later has its default there. A
  parallel LM takes what is of the coarse stage.

  Attributes:
    mulan_levels: Levels of the text's MuLan tokens that are used; text and
      audio agree on the first ones only.
    temperature_semantic: Of the semantic stage.
    temperature_coarse: Of the coarse stage.
    temperature_fine: Of the fine stage.
    guidance_semantic: Scale of classifier-free guidance towards what the
      semantic stage has learned to do without: MuLan tokens; 1.0 is off, as in
      the paper.
    guidance_coarse: Of the coarse stage, towards semantic tokens as well where
      it was trained to do without; see `TokenLMTask.no_semantic_probability`.
    guidance_fine: Of the fine stage.
    top_k_semantic: Draw among so many likeliest codes; None among all.
    top_k_coarse: Of the coarse stage.
    top_k_fine: Of the fine stage.
    top_p_semantic: Draw among the likeliest codes of this total probability;
      None among all.
    top_p_coarse: Of the coarse stage.
    top_p_fine: Of the fine stage.
  """

  mulan_levels: int = 12
  temperature_semantic: float = 1.0
  temperature_coarse: float = 0.95
  temperature_fine: float = 0.4
  guidance_semantic: float = 1.0
  guidance_coarse: float = 1.0
  guidance_fine: float = 1.0
  top_k_semantic: int | None = None
  top_k_coarse: int | None = None
  top_k_fine: int | None = None
  top_p_semantic: float | None = None
  top_p_coarse: float | None = None
  top_p_fine: float | None = None

  def __post_init__(self) -> None:
    """Refuses what cannot be sampled with; see `check`."""
    check(dataclasses.asdict(self))

  @property
  def guidances(self) -> dict[str, float]:
    """The scale of each stage, by its field."""
    return {name: getattr(self, name) for name in _GUIDANCES}

  def changed(self, changes: Mapping[str, Any]) -> 'SamplingConfig':
    """A copy with other values.

    Args:
      changes: Field -> value; `guidance` is that of all stages that have none
        of their own here.

    Raises:
      UsageError: If there is no such field, or a value is out of bounds.
    """
    check(changes)
    plain = {k: getattr(v, 'item', lambda v=v: v)() for k, v in changes.items()}
    if _GUIDANCE in plain:
      plain = dict.fromkeys(_GUIDANCES, plain.pop(_GUIDANCE)) | plain
    return dataclasses.replace(self, **plain)

  def check_levels(self, num_levels: int) -> None:
    """Compares `mulan_levels` with the levels that there are.

    Raises:
      UsageError: If there are fewer.
    """
    if self.mulan_levels > num_levels:
      raise UsageError(
        f'--mulan_levels={self.mulan_levels}: choose 0 to {num_levels}'
      )


_GUIDANCES = tuple(
  field.name
  for field in dataclasses.fields(SamplingConfig)
  if field.name.startswith(_GUIDANCE)
)


def check(values: Mapping[str, Any]) -> None:
  """Refuses numbers that cannot be sampled with.

  Args:
    values: Field of `SamplingConfig`, or `guidance` -> value.

  Raises:
    UsageError: Naming the first field that does not exist, is out of bounds or
      no number.
  """
  fields = {field.name: field for field in dataclasses.fields(SamplingConfig)}
  fields[_GUIDANCE] = fields[_GUIDANCES[0]]
  for name, value in values.items():
    if name not in fields:
      raise UsageError(
        f"sampling has no '{name}': choose among {', '.join(fields)}"
      )
    if value is None and fields[name].default is None:
      continue
    kind = name if name in _BOUNDS else name.rpartition('_')[0]
    wanted = numbers.Integral if kind in _WHOLE else numbers.Real
    if not isinstance(value, wanted) or isinstance(value, bool):
      what = 'a whole number' if kind in _WHOLE else 'a number'
      raise UsageError(f'--{name}={value!r}: choose {what}')
    bounds.check(f'--{name}', value, _BOUNDS[kind])
