"""What the evaluation has measured survives an interruption as it was."""

import numpy as np
import pytest

from experiments.tiny_cascade import gates
from musiclm_jax.contracts.kept_parts import KeptParts
from musiclm_jax.metrics import bootstrap


def measure():
  interval = bootstrap.Interval(np.float64(0.1 + 0.2), 0.25, 0.5)
  found = gates.make(
    'codec_usage', interval, np.float32(0.5), {'in range': np.bool_(True)}
  )
  return [found], {3: interval, 'of': np.arange(2)}, (np.ones((2, 3)),)


def test_measures_are_taken_once_and_come_back_as_they_were(tmp_path):
  def again():
    raise AssertionError('this has been measured')

  with pytest.raises(KeyboardInterrupt), KeptParts(tmp_path / 'k', '') as kept:
    first = gates.measured(kept, 'codec', measure)
    raise KeyboardInterrupt
  with KeptParts(tmp_path / 'k', '') as kept:
    second = gates.measured(kept, 'codec', again)
    one = gates.measured(kept, 'usage', lambda: (measure()[0][0], {'a': 1}))
  assert first[:2] == second[:2]
  assert first[0][0].value == 0.1 + 0.2 and first[0][0].conditions
  assert first[1] == {
    '3': {'value': 0.3, 'low': 0.25, 'high': 0.5},
    'of': [0, 1],
  }
  np.testing.assert_array_equal(second[2][0], np.ones((2, 3)))
  assert one == (first[0], {'a': 1}, ())
