"""Joins a run, counts its devices and adds up one number over all of them.

`python -m musiclm_jax.launch.first_sum` prints one JSON object; the preflight
starts it, because jax ends the process where joining fails.
"""

import collections
import json

from musiclm_jax.launch import membership


def main() -> None:
  """Prints kind of device, devices of each process, and the sum."""
  membership.join()
  import jax
  import numpy as np
  from jax.experimental import multihost_utils

  devices = collections.Counter(d.process_index for d in jax.devices())
  sums = multihost_utils.process_allgather(np.asarray(jax.process_index() + 1))
  print(
    json.dumps(
      {
        'kind': jax.devices()[0].device_kind,
        'devices': [devices[index] for index in range(jax.process_count())],
        'sum': int(np.sum(sums)),
      }
    )
  )


if __name__ == '__main__':
  main()
