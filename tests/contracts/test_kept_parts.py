"""Parts of a long work: kept at an interruption, used once, then gone."""

import numpy as np
import pytest

from musiclm_jax.contracts import kept_parts
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.kept_parts import KeptParts


def part(value):
  return {'tokens': np.full(3, value, np.int32), 'word': np.array('x')}


def unwanted():
  raise AssertionError('this part is there already')


def interrupted(folder, key='a'):
  with pytest.raises(KeyboardInterrupt), KeptParts(folder, key) as parts:
    parts('one', lambda: part(1))
    parts('two', lambda: part(2))
    raise KeyboardInterrupt


def test_what_was_made_before_an_interruption_is_not_made_again(tmp_path):
  interrupted(tmp_path / 'kept')
  with KeptParts(tmp_path / 'kept', 'a') as parts:
    assert 'one' in parts and 'three' not in parts
    found = parts('two', unwanted)
    np.testing.assert_array_equal(found['tokens'], part(2)['tokens'])
    assert found['tokens'].dtype == np.int32 and str(found['word']) == 'x'
    parts('three', lambda: part(3))
  assert not (tmp_path / 'kept').exists(), 'the work is done'


def test_a_killed_run_has_kept_all_but_the_last_seconds(tmp_path, monkeypatch):
  monkeypatch.setattr(kept_parts, 'SAVE_SECONDS', 0.0)
  with (
    pytest.raises(KeyboardInterrupt),
    KeptParts(tmp_path / 'kept', 'a') as killed,
  ):
    for name in ('one', 'two'):
      killed(name, lambda: part(1))
    killed('one', unwanted)
    monkeypatch.setattr(KeptParts, '_save', lambda self: None)
    raise KeyboardInterrupt
  with KeptParts(tmp_path / 'kept', 'a') as parts:
    assert 'one' in parts and 'two' in parts


def test_the_same_work_is_done_by_one_run_at_a_time(tmp_path):
  refused = pytest.raises(UsageError, match='another run is at work in')
  with KeptParts(tmp_path / 'kept', 'a'), refused:
    KeptParts(tmp_path / 'kept', 'a').__enter__()
  with KeptParts(tmp_path / 'kept', 'a'):
    pass


def test_parts_of_other_things_are_not_used(tmp_path):
  interrupted(tmp_path / 'kept')
  with KeptParts(tmp_path / 'kept', 'b') as parts:
    assert 'one' not in parts


def test_a_damaged_file_of_parts_is_made_again(tmp_path):
  interrupted(tmp_path / 'kept')
  (path,) = (tmp_path / 'kept').iterdir()
  data = bytearray(path.read_bytes())
  data[len(data) // 3] ^= 255
  path.write_bytes(data)
  with KeptParts(tmp_path / 'kept', 'a') as parts:
    assert 'one' not in parts


def test_what_others_put_there_stays(tmp_path):
  interrupted(tmp_path / 'kept')
  (tmp_path / 'kept' / 'mine.txt').touch()
  with KeptParts(tmp_path / 'kept', 'a'):
    pass
  assert [p.name for p in (tmp_path / 'kept').iterdir()] == ['mine.txt']


def test_a_work_that_made_nothing_leaves_no_trace(tmp_path):
  with (
    pytest.raises(ValueError),
    KeptParts(tmp_path / 'new' / 'folder' / 'kept', 'a'),
  ):
    raise ValueError
  assert list(tmp_path.iterdir()) == []


def test_a_finished_work_leaves_no_trace(tmp_path):
  with KeptParts(tmp_path / 'kept', 'a') as parts:
    parts('one', lambda: part(1))
  assert list(tmp_path.iterdir()) == []
