"""Paths mean what they mean elsewhere, and names are checked before work."""

import os
from pathlib import Path

import pytest

from musiclm_jax.contracts import paths
from musiclm_jax.contracts.errors import UsageError


@pytest.fixture
def home(monkeypatch, tmp_path):
  monkeypatch.setenv('HOME', str(tmp_path))
  return tmp_path


@pytest.mark.parametrize(
  'text, expected',
  [
    ('~', ''),
    ('~/a b/x.wav', 'a b/x.wav'),
    ('./~/x.wav', None),
    ('a/~/x.wav', None),
    ('gs:/x', None),
    ('x.wav', None),
    ('-x.wav', None),
  ],
)
def test_a_tilde_is_the_home_folder_and_only_in_front(text, expected, home):
  assert paths.local(text) == (
    Path(text) if expected is None else home / expected
  )


def test_the_home_of_another_user_is_found_or_refused():
  name = os.environ.get('USER') or 'root'
  assert paths.local(f'~{name}/x') == Path(os.path.expanduser(f'~{name}')) / 'x'
  with pytest.raises(UsageError, match=r'\./~nobody-of-that-name for a name'):
    paths.local('~nobody-of-that-name/x')


@pytest.mark.parametrize(
  'text, expected',
  [
    ('file:///a/b.wav', '/a/b.wav'),
    ('FILE://localhost/a', '/a'),
    ('file:///a%20b/%5B1%5D#2?', '/a b/[1]#2?'),
    ('file:///caf%E9', os.fsdecode(b'/caf\xe9')),
  ],
)
def test_file_urls_are_paths(text, expected):
  assert paths.local(text) == Path(expected)


@pytest.mark.parametrize(
  'text, words',
  [
    ('gs://bucket/x.wav', 'gs:// is not supported, only paths and file://'),
    ('s3://bucket', 's3:// is not supported'),
    ('https://host/x', 'https:// is not supported'),
    ('file://host/x', 'three slashes'),
    ('file://x.wav', 'three slashes'),
    ('', 'is no path'),
    ('file:///a%00b', 'is no path'),
  ],
)
def test_what_is_no_path_here_is_refused_and_no_folder_of_that_name(
  text, words, tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(UsageError, match=words):
    paths.local(text)
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  'name, words',
  [
    ('x' * 256, 'has 256 bytes'),
    ('é' * 128, 'has 256 bytes'),
    ('new/' + 'x' * 300 + '/y', 'has 300 bytes'),
    ('folder', 'is a folder'),
    ('file/x', 'cannot write'),
  ],
)
def test_what_cannot_be_written_is_refused_before_the_work(
  name, words, tmp_path
):
  (tmp_path / 'folder').mkdir()
  (tmp_path / 'file').touch()
  with pytest.raises(UsageError, match=words):
    paths.check_file(tmp_path / name)
  paths.check_file(tmp_path / ('x' * 255))
  paths.check_file(tmp_path / 'new' / 'deep' / 'x')
  assert {p.name for p in tmp_path.iterdir()} == {'folder', 'file'}


def test_a_folder_that_nobody_can_write_is_named():
  for folder in ('/proc', '/sys/x'):
    with pytest.raises(UsageError, match=f"'{folder}/x.wav'"):
      paths.check_file(Path(folder) / 'x.wav')


def test_too_little_room_is_said_with_both_sizes(tmp_path):
  paths.check_room(tmp_path / 'new' / 'x', 1000, 'the pieces')
  with pytest.raises(
    UsageError, match=r"the pieces need 100,000,000,000 GB at '.*new"
  ):
    paths.check_room(tmp_path / 'new', 1e20, 'the pieces')


@pytest.mark.parametrize(
  'name', ['a[1]', 'a*', 'a?', 'a\\b', 'a\nb', os.fsdecode(b'caf\xe9')]
)
def test_a_folder_with_any_name_has_a_plain_one_too(name, tmp_path):
  folder = tmp_path / name
  link = paths.plain(folder)
  assert paths.is_plain(str(link)) and not link.exists()
  folder.mkdir()
  (link / 'x').write_text('here')
  assert (folder / 'x').read_text() == 'here'
  assert paths.plain(folder) == link
  assert paths.plain_file(folder / 'x') == link / 'x'


def test_plain_names_stay_as_they_are(tmp_path):
  for name in ('a', 'a b', 'caf\u00e9', '\U0001f3b5', 'a#b', "a'b"):
    assert paths.plain(tmp_path / name) == tmp_path / name
  for bucket in ('/gs/x', '/s3/x', '/hf'):
    assert not paths.is_plain(bucket)
