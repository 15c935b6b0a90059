"""What is saved can be read: any path, checked before it counts, kept aside."""

import collections
import os
import shutil

import pytest
from training_games import play

from musiclm_jax.contracts import ownership
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.training import checkpoint, workdir

SHORT = {'total_steps': 2, 'save_every': 1, 'log_every': 1, 'eval_every': 0}


Saved = collections.namedtuple('Saved', 'step')


def steps(path):
  return sorted(int(p.name) for p in (path / 'checkpoints').glob('[0-9]*'))


@pytest.mark.parametrize(
  'name',
  [
    'take[1]*?\\\n#%41',
    os.fsdecode(b'caf\xe9'),
    '\U0001f3b5' * 63 + 'xyz',  # 255 bytes
  ],
)
def test_a_workdir_of_any_name_trains_and_goes_on(name, tmp_path):
  path = tmp_path / name
  for total in (2, 3):
    play('lm', path, schedule=SHORT | {'total_steps': total})
    assert checkpoint.read(path).step == total
  assert checkpoint.read(path / 'checkpoints' / '2').step == 2
  ownership.check_ours(path, workdir.FOLDER)
  assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.fixture
def unreadable(monkeypatch):
  """Lets the checkpoints of some steps come out unreadable; a list of them."""
  broken, before = [], checkpoint.read_back

  def read_back(path, wanted):
    if int(path.name) in broken:
      for file in (path / 'state').rglob('manifest.ocdbt'):
        file.unlink()
    return before(path, wanted)

  monkeypatch.setattr(checkpoint, 'read_back', read_back)
  return broken


def test_the_last_readable_checkpoint_is_kept_whatever_follows(
  unreadable, tmp_path, capsys
):
  plan = SHORT | {'total_steps': 5}
  unreadable += [2, 4]
  play('lm', tmp_path / 'w', schedule=plan)
  assert steps(tmp_path / 'w') == [1, 3, 5]
  assert {p.name for p in (tmp_path / 'w' / 'damaged').iterdir()} == set('24')
  said = capsys.readouterr().out
  assert said.count('cannot be read back') == 2 and 'remove' not in said
  policy, some = checkpoint.BestAndReadable(readable=1), [1, 2, 3, 4, 5]
  kept = policy.should_preserve(list(map(Saved, some)), context=None)
  assert kept == [True, False, False, False, False]


def test_a_run_that_cannot_save_ends_and_says_what_is_kept(
  unreadable, tmp_path
):
  unreadable += [2, 3]
  plan = SHORT | {'total_steps': 5}
  with pytest.raises(UsageError, match=r'put aside.*kept are.*\[1\]'):
    play('lm', tmp_path / 'w', schedule=plan)
  unreadable.clear()
  play('lm', tmp_path / 'w', schedule=plan)
  assert checkpoint.read(tmp_path / 'w').step == 5


def test_done_is_not_said_of_what_cannot_be_read(unreadable, tmp_path, capsys):
  unreadable += [2]
  with pytest.raises(UsageError, match=r'2 cannot be read back'):
    play('lm', tmp_path / 'w', schedule=SHORT)
  assert 'done' not in capsys.readouterr().out


def test_a_damaged_checkpoint_is_set_aside_and_never_replaced(tmp_path):
  """Not by the next one of the same step either."""
  path = tmp_path / 'w'
  for _ in range(2):
    play('lm', path, schedule=SHORT)
    shutil.rmtree(path / 'checkpoints' / '2' / 'state')
    (path / 'checkpoints' / '2' / 'left').touch()
  play('lm', path, schedule=SHORT)
  aside = path / 'damaged'
  assert {p.name for p in aside.iterdir()} == {'2', '2-1'}
  assert all((p / 'left').exists() for p in aside.iterdir())


def test_a_workdir_with_a_users_files_is_refused_by_name(tmp_path):
  for name in ('config.json', 'metrics.jsonl', 'vocab.txt', 'checkpoints/1/x'):
    folder = tmp_path / name.replace('/', '-')
    (folder / name).parent.mkdir(parents=True)
    (folder / name).write_text('mine')
    with pytest.raises(UsageError, match=name):
      play('lm', folder, schedule=SHORT)
    assert (folder / name).read_text() == 'mine'
    assert sum(p.is_file() for p in folder.rglob('*')) == 1


def test_a_refused_start_removes_nothing_but_its_own(tmp_path):
  """Another run may have begun beside it, in a folder that both missed."""
  with (
    pytest.raises(UsageError, match='stop'),
    workdir.claim(tmp_path / 'runs' / 'a') as path,
  ):
    (path / 'vocab.txt').touch()
    (tmp_path / 'runs' / 'b').mkdir()
    raise UsageError('stop')
  assert [p.name for p in (tmp_path / 'runs').iterdir()] == ['b']


def test_too_little_room_for_checkpoints_is_refused_before_a_step(
  tmp_path, monkeypatch
):
  usage = shutil.disk_usage(tmp_path)._replace(free=1000)
  monkeypatch.setattr(shutil, 'disk_usage', lambda path: usage)
  with pytest.raises(UsageError, match=r'checkpoints need .* are free'):
    play('lm', tmp_path / 'w', schedule=SHORT)
  assert not (tmp_path / 'w').exists()
