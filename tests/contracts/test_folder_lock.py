"""Two runs in one folder: the second is refused, and nothing is left."""

import pytest

from musiclm_jax.contracts import ownership
from musiclm_jax.contracts.errors import UsageError


def test_a_second_run_is_refused_until_the_first_ends(tmp_path):
  for _ in range(2):
    with ownership.lock(tmp_path / 'a' / 'b', 'writing tokens into'):
      (tmp_path / 'a' / 'b' / 'x').touch()
      with (
        pytest.raises(UsageError, match='another run is writing tokens into'),
        ownership.lock(tmp_path / 'a' / 'b', 'writing tokens into'),
      ):
        pass
  assert [p.name for p in (tmp_path / 'a' / 'b').iterdir()] == ['x']


def test_a_refused_call_leaves_no_folder_behind(tmp_path):
  with (
    pytest.raises(ValueError),
    ownership.lock(tmp_path / 'a' / 'b', 'writing tokens into'),
  ):
    raise ValueError
  assert list(tmp_path.iterdir()) == []
