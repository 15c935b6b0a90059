"""Whether jax finds the devices that it shall use."""

import os

from musiclm_jax.contracts.errors import UsageError

_EXTRAS = {'cuda': 'gpu', 'gpu': 'gpu', 'tpu': 'tpu'}


def check() -> None:
  """Lets jax open its devices, after the process has joined its run.

  Raises:
    UsageError: If there are none of the platform that `JAX_PLATFORMS` names.
  """
  import jax

  try:
    jax.devices()
  except (RuntimeError, AssertionError) as error:  # jax raises both for it
    reason = str(error).partition('\n')[0].partition(' (set JAX_')[0][:200]
    reason = reason or 'it gives no reason'
    wanted = os.environ.get('JAX_PLATFORMS')
    if not wanted:
      raise UsageError(
        f'jax finds no device that it can use ({reason}): set JAX_PLATFORMS=cpu'
      ) from error
    extra = _EXTRAS.get(wanted.split(',')[0])
    install = f", or pip install 'musiclm_jax[{extra}]'" if extra else ''
    raise UsageError(
      f'JAX_PLATFORMS={wanted}: jax finds no such device here ({reason}): '
      f'unset it, or set it to cpu{install}'
    ) from error
