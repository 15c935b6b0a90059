"""The search command: an answer in lines, an index that is kept, refusals."""

import shutil

import pytest


def test_songs_are_ranked_and_embedded_once(
  bundle, music_folder, run_command, tmp_path
):
  songs = shutil.copytree(music_folder, tmp_path / 'songs')
  (songs / '5.wav').rename(songs / 'two\nlines\x1b[31m.wav')
  call = (
    'search',
    f'--bundle={bundle[0]}',
    f'--index={songs}',
    '--text=slow zyzzyva',
    '--top=5',
  )
  first, second = run_command(*call), run_command(*call)
  assert first.returncode == 0, first.stderr
  rows = [line.split() for line in first.stdout.splitlines()]
  assert [row[0] for row in rows] == ['1', '2', '3', '4', '5']
  cosines = [float(row[1]) for row in rows]
  assert cosines == sorted(cosines, reverse=True)
  names = {f'{k}.wav' for k in range(5)} | {r'two\nlines\x1b[31m.wav'}
  assert {row[2] for row in rows} < names, 'names are printed escaped'
  assert 'does not know: zyzzyva' in first.stderr
  assert 'skipped 1 of 7 files' in first.stderr
  assert 'index of 6 songs: 6 embedded' in first.stderr
  assert second.stdout == first.stdout and 'embedded' not in second.stderr


@pytest.mark.parametrize(
  'changes, words',
  [
    ({'bundle': '/nowhere'}, "'/nowhere' is no bundle"),
    ({'index': '{tmp}'}, 'holds no audio'),
    ({'text': '  '}, '--text is empty'),
  ],
)
def test_a_mistaken_search_is_one_line(
  bundle, music_folder, run_command, tmp_path, changes, words
):
  arguments = {
    'bundle': bundle[0],
    'index': music_folder,
    'text': 'piano',
  } | changes
  done = run_command(
    'search',
    *(
      f'--{name}={value}'.replace('{tmp}', str(tmp_path))
      for name, value in arguments.items()
    ),
  )
  assert done.returncode == 2 and done.stdout == ''
  assert done.stderr.startswith('error:') and done.stderr.count('\n') == 1
  assert words in done.stderr
  assert list(tmp_path.iterdir()) == [], 'nothing is left behind'
