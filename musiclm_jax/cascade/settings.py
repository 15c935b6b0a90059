"""Settings of sampling: the numbers a bundle proposes and a user may change."""

import dataclasses

from musiclm_jax.contracts import bounds

_BOUNDS = (0, 1000)  # beyond, all is chance, and float32 overflows


@dataclasses.dataclass(frozen=True)
class Settings:
  """How to sample (temperatures: MusicLM §4.2).

  Attributes:
    mulan_levels: Levels of the text's MuLan tokens that are heard.
    temperature_semantic: Of the semantic stage.
    temperature_coarse: Of the coarse stage.
    temperature_fine: Of the fine stage.
    guidance: Scale of classifier-free guidance towards the MuLan tokens, in
      every stage that hears them; 1.0 is off, as in the paper.
  """

  mulan_levels: int = 12
  temperature_semantic: float = 1.0
  temperature_coarse: float = 0.95
  temperature_fine: float = 0.4
  guidance: float = 1.0


def check(name: str, value: float) -> None:
  """Refuses a temperature or a scale that cannot be sampled with.

  Raises:
    UsageError: If it is negative, above 1000 or no number.
  """
  bounds.check(f'--{name}', value, _BOUNDS)
