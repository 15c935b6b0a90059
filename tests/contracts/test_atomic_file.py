"""Files and folders appear whole, under our name, by the user's umask."""

import os
import stat

import pytest

from musiclm_jax.contracts import atomic_file


@pytest.fixture(params=[0o022, 0o077, 0o002])
def umask(request):
  before = os.umask(request.param)
  yield request.param
  os.umask(before)


def mode(path):
  return stat.S_IMODE(path.stat().st_mode)


def test_the_umask_decides_who_may_read(umask, tmp_path):
  with atomic_file.atomic_folder(tmp_path / 'deep' / 'folder') as folder:
    atomic_file.write_text(folder / 'x', 'x')
  assert mode(tmp_path / 'deep' / 'folder' / 'x') == 0o666 & ~umask
  assert mode(tmp_path / 'deep' / 'folder') == 0o777 & ~umask
  assert mode(tmp_path / 'deep') == 0o777 & ~umask


@pytest.mark.parametrize('name', ['x' * 255, '-x', ' ', 'a\nb', '\U0001f3b5'])
def test_any_legal_name_is_written_and_nothing_beside_it(name, tmp_path):
  for text in ('one', 'two'):
    atomic_file.write_text(tmp_path / name, text)
  assert [p.name for p in tmp_path.iterdir()] == [name]
  assert (tmp_path / name).read_text() == 'two'


@pytest.mark.parametrize(
  'error', [OSError(28, 'No space'), KeyboardInterrupt()]
)
def test_what_was_there_stays_when_the_new_one_fails(error, tmp_path):
  file, folder = tmp_path / 'x', tmp_path / 'folder'
  atomic_file.write_text(file, 'old')
  with atomic_file.atomic_folder(folder) as part:
    (part / 'x').write_text('old')
  for opened in (
    atomic_file.atomic_open(file, 'wb'),
    atomic_file.atomic_folder(folder),
  ):
    with pytest.raises(type(error)), opened:
      raise error
  assert file.read_text() == 'old' and (folder / 'x').read_text() == 'old'
  assert {p.name for p in tmp_path.iterdir()} == {'x', 'folder'}


def test_a_folder_takes_the_place_of_an_older_one(tmp_path):
  for name in ('one', 'two'):
    with atomic_file.atomic_folder(tmp_path / 'folder') as part:
      (part / name).touch()
  assert [p.name for p in (tmp_path / 'folder').iterdir()] == ['two']
  assert [p.name for p in tmp_path.iterdir()] == ['folder']


def test_a_link_stays_and_what_it_points_to_is_written(tmp_path):
  (tmp_path / 'link').symlink_to(tmp_path / 'disk' / 'x')
  atomic_file.write_text(tmp_path / 'link', 'x')
  assert (tmp_path / 'link').is_symlink()
  assert (tmp_path / 'disk' / 'x').read_text() == 'x'


def test_a_full_disk_names_the_file_and_not_its_part(full_disk, tmp_path):
  with full_disk(1000), pytest.raises(OSError) as raised:
    atomic_file.write_text(tmp_path / 'x', 'x' * 5000)
  assert raised.value.filename == str(tmp_path / 'x')
  assert not list(tmp_path.iterdir())


def test_leftovers_of_the_killed_go_and_nothing_else_does(tmp_path):
  """Not what another run is writing, nor a user's file called .part."""
  for k in range(2):  # nobody holds what a killed process held
    part = tmp_path / f'.musiclm_jax-{k:016}.part'
    part.mkdir() if k else part.touch()
  mine = tmp_path / '.corpus.1.part'
  mine.touch()
  with atomic_file.atomic_path(tmp_path / 'w') as writing:
    atomic_file.remove_leftovers(tmp_path)
    assert set(tmp_path.iterdir()) == {mine, writing}
