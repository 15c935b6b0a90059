"""Claims on what is found in a folder that a user names."""

import os

import pytest

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.data import folder_listing
from musiclm_jax.data.folder_listing import list_files, some, why_none


def names(listing):
  return [name for name, _, _ in listing.files]


def make(folder, *paths):
  for path in paths:
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(b'x')


def test_files_are_found_at_any_depth_whatever_the_case_of_their_suffix(
  tmp_path,
):
  make(tmp_path, 'b.WAV', 'a/c.wav', 'a/b/d.Flac', 'a.txt', 'e.m4a', 'wav')
  listing = list_files(tmp_path, ('.wav', '.flac'))
  assert names(listing) == ['a/b/d.Flac', 'a/c.wav', 'b.WAV']
  assert listing.files[0][1] == 1
  assert dict(listing.others) == {'.txt': 1, '.m4a': 1, '': 1}


def test_names_that_are_no_utf8_long_or_decomposed_are_found(tmp_path):
  odd = [b'mod\x85.wav', b'n' * 251 + b'.wav', 'e\u0301.wav'.encode()]
  for name in odd:
    with open(os.path.join(os.fsencode(tmp_path), name), 'wb'):
      pass
  found = names(list_files(tmp_path, ('.wav',)))
  assert sorted(map(os.fsencode, found)) == sorted(odd)


def test_links_to_folders_are_followed_and_loops_end(tmp_path):
  music, elsewhere = tmp_path / 'music', tmp_path / 'elsewhere'
  make(music, 'z/a.wav')
  make(elsewhere, 'b.wav', 'deep/c.wav')
  (music / 'linked').symlink_to(elsewhere)
  (music / 'again').symlink_to(music / 'z')
  (music / 'z' / 'up').symlink_to(music)
  (elsewhere / 'back').symlink_to(music)
  found = names(list_files(music, ('.wav',)))
  assert found == ['linked/b.wav', 'linked/deep/c.wav', 'z/a.wav']


def test_what_is_no_file_is_named_with_its_reason(tmp_path):
  make(tmp_path, 'a.wav')
  (tmp_path / 'gone.wav').symlink_to(tmp_path / 'nowhere')
  (tmp_path / 'round.wav').symlink_to(tmp_path / 'round.wav')
  os.mkfifo(tmp_path / 'pipe.wav')
  listing = list_files(tmp_path, ('.wav',))
  assert names(listing) == ['a.wav']
  reasons = dict(listing.unusable)
  assert reasons['gone.wav'] == 'a link to nothing'
  assert reasons['pipe.wav'] == 'no regular file'
  assert 'Too many levels' in reasons['round.wav']


def test_only_true_companions_of_macos_are_passed_over(tmp_path):
  make(tmp_path, 'a.wav', '._song.wav', '.hidden.wav')
  (tmp_path / '._a.wav').write_bytes(b'\0\5\x16\7' + bytes(100))
  listing = list_files(tmp_path, ('.wav',))
  assert names(listing) == ['._song.wav', '.hidden.wav', 'a.wav']
  assert listing.companions == 1


def test_folders_that_cannot_be_entered_are_named(tmp_path, monkeypatch):
  make(tmp_path, 'a.wav', 'closed/b.wav')
  scandir = os.scandir

  def deny(path):
    if str(path).endswith('closed'):
      raise PermissionError(13, 'Permission denied', path)
    return scandir(path)

  monkeypatch.setattr(folder_listing.os, 'scandir', deny)
  listing = list_files(tmp_path, ('.wav',))
  assert names(listing) == ['a.wav']
  assert listing.closed == (('closed', 'Permission denied'),)
  with pytest.raises(UsageError, match=r"closed' cannot be read \(Permission"):
    list_files(tmp_path / 'closed', ('.wav',))


def test_each_cause_of_nothing_has_its_words(tmp_path):
  with pytest.raises(UsageError, match='there is no folder'):
    list_files(tmp_path / 'nowhere', ('.wav',))
  make(tmp_path, 'file')
  with pytest.raises(UsageError, match='is a file: give a folder'):
    list_files(tmp_path / 'file', ('.wav',))
  listing = list_files(tmp_path, ('.wav',))
  assert why_none(listing) == 'files of other kinds: 1'
  (tmp_path / 'file').unlink()
  assert why_none(list_files(tmp_path, ('.wav',))) == 'it is empty'
  (tmp_path / '._a.wav').write_bytes(b'\0\5\x16\7')
  (tmp_path / 'gone.wav').symlink_to(tmp_path / 'nowhere')
  assert why_none(list_files(tmp_path, ('.wav',)), '1 .m4a') == (
    'gone.wav (a link to nothing); what macOS keeps about other files: 1; '
    '1 .m4a'
  )


def test_names_are_printed_escaped_and_only_the_first_of_them():
  reasons = [(f'{k}\n\x1b[31m', 'torn\r') for k in range(7)]
  line = some(reasons)
  assert line.startswith(r'0\n\x1b[31m (torn\r), 1\n')
  assert line.endswith(' and 2 more') and '\n' not in line
