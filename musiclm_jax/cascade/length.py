"""The length of a piece: from seconds asked for to samples, exactly."""

import math

from musiclm_jax.contracts.errors import UsageError

MAX_SECONDS = 3600.0


def check_seconds(seconds: float, sample_rate: float = 24000.0) -> int:
  """Returns a length in samples.

  Raises:
    UsageError: If it is not in (0, 3600] or less than one sample.
  """
  samples = round(seconds * sample_rate) if math.isfinite(seconds) else 0
  if not (0 < seconds <= MAX_SECONDS and samples > 0):
    raise UsageError(
      f'--seconds={seconds:g}: give a number of seconds above 0 and up to '
      f'{MAX_SECONDS:g}'
    )
  return samples
