"""MusicCaps: its CSV, names of clips, and which figures stand in a table."""

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.evaluation import musiccaps, published
from musiclm_jax.evaluation.inputs import EvaluationInputs
from musiclm_jax.evaluation.results import Results

PUBLISHED = Path(__file__).parents[3] / 'shared' / 'musiccaps.csv'
COLUMNS = (
  *('ytid', 'start_s', 'end_s', 'audioset_positive_labels', 'aspect_list'),
  *('caption', 'author_id', 'is_balanced_subset', 'is_audioset_eval'),
)
SONGS = (
  ('-0Gj8-vB1q4', 30, 'a "slow", sad ballad\non a piano', False, True),
  ('0_abc-DEF12', 0, 'fast techno', True, True),
  ('Yzzzzzzzz_9', 120, 'a waltz', False, False),
)


def write_csv(path, songs=SONGS, columns=COLUMNS):
  with path.open('w', newline='', encoding='utf-8') as file:
    rows = csv.DictWriter(file, columns, extrasaction='ignore')
    rows.writeheader()
    for ytid, start, caption, balanced, evaluation in songs:
      rows.writerow(
        dict.fromkeys(COLUMNS, '')
        | {
          'ytid': ytid,
          'start_s': start,
          'end_s': start + 10,
          'caption': caption,
          'is_balanced_subset': balanced,
          'is_audioset_eval': evaluation,
        }
      )
  return path


@pytest.fixture
def songs(tmp_path):
  return musiccaps.read(write_csv(tmp_path / 'musiccaps.csv'))


def test_the_csv_is_read_as_it_is_published(songs):
  assert list(songs) == [ytid for ytid, *_ in SONGS]
  first = songs['-0Gj8-vB1q4']
  assert first.caption == 'a "slow", sad ballad\non a piano'
  assert first.start_seconds == 30 and first.is_eval and not first.is_balanced
  assert musiccaps.counts(songs, ['Yzzzzzzzz_9', '0_abc-DEF12']) == {
    'all': (2, 3),
    'eval': (1, 2),
    'train': (1, 1),
    'balanced': (1, 1),
  }


@pytest.mark.parametrize(
  ('change', 'words'),
  [
    ({'columns': COLUMNS[:-1]}, 'has no column is_audioset_eval'),
    ({'songs': (*SONGS, SONGS[0])}, "'-0Gj8-vB1q4' stands there twice"),
    ({'songs': ()}, 'holds no row'),
    ({'songs': [('x' * 11, 'soon', 'c', True, True)]}, 'expected seconds'),
    ({'songs': [('x' * 11, 1, 'c', 'maybe', True)]}, 'expected True or False'),
    ({'songs': [('x' * 11, 1, ' ', True, True)]}, 'caption is empty'),
  ],
)
def test_a_csv_that_is_none_is_refused(tmp_path, change, words):
  # A start that is no number has no end either.
  if change.get('songs') and change['songs'][0][1] == 'soon':
    path = write_csv(tmp_path / 'x.csv', [('x' * 11, 1, 'c', True, True)])
    path.write_text(path.read_text().replace(',1,11,', ',soon,11,'))
  else:
    path = write_csv(tmp_path / 'x.csv', **change)
  with pytest.raises(UsageError, match=words):
    musiccaps.read(path)


def test_a_csv_that_is_not_there_is_refused(tmp_path):
  with pytest.raises(UsageError, match='cannot be read'):
    musiccaps.read(tmp_path / 'nowhere.csv')


@pytest.mark.parametrize(
  ('name', 'ytid'),
  [
    ('-0Gj8-vB1q4.wav', '-0Gj8-vB1q4'),
    ('deep/er/0_abc-DEF12.flac', '0_abc-DEF12'),
    ('Y0_abc-DEF12.wav', '0_abc-DEF12'),
    ('[-0Gj8-vB1q4]-[30-40].wav', '-0Gj8-vB1q4'),
    ('-0Gj8-vB1q4_30.wav', '-0Gj8-vB1q4'),
    ('-0Gj8-vB1q4-30-40.wav', '-0Gj8-vB1q4'),
    ('-0Gj8-vB1q4_30000_40000.wav', '-0Gj8-vB1q4'),
    ('Yzzzzzzzz_9_120.mp3', 'Yzzzzzzzz_9'),
    ('YYzzzzzzzz_9_120.mp3', 'Yzzzzzzzz_9'),
    ('-0Gj8-vB1q4_60_70.wav', None),  # another part of the video
    ('-0gj8-vb1q4.wav', None),  # another video
    ('notes.wav', None),
    ('-0Gj8-vB1q4 (copy).wav', None),
  ],
)
def test_names_of_clips_say_their_song(songs, name, ytid):
  assert musiccaps.song_of(name, songs) == ytid


def clips(folder, *names):
  folder.mkdir()
  rng = np.random.default_rng(0)
  for name in names:
    soundfile.write(folder / name, rng.uniform(-0.1, 0.1, 16_000), 16_000)
  return folder


def test_every_clip_of_the_published_csv_is_known_by_its_names():
  if not PUBLISHED.is_file():
    pytest.skip('needs the published CSV at ../shared/musiccaps.csv')
  songs = musiccaps.read(PUBLISHED)
  assert musiccaps.counts(songs, songs) == {
    'all': (musiccaps.NUM_SONGS, musiccaps.NUM_SONGS),
    'eval': (2858, 2858),
    'train': (2663, 2663),
    'balanced': (1000, 1000),
  }
  for ytid, song in songs.items():
    start = round(song.start_seconds)
    for name in (f'{ytid}.wav', f'Y{ytid}.wav', f'[{ytid}]-[{start}-9].wav'):
      assert musiccaps.song_of(name, songs) == ytid


def test_clips_of_both_folders_meet_by_song(tmp_path):
  table = write_csv(tmp_path / 'musiccaps.csv')
  reference = clips(
    tmp_path / 'reference',
    *('[-0Gj8-vB1q4]-[30-40].wav', '0_abc-DEF12.wav', 'Yzzzzzzzz_9_120.wav'),
    'other.wav',
  )
  generated = clips(
    tmp_path / 'generated', '-0Gj8-vB1q4.wav', '0_abc-DEF12_0.wav'
  )
  lines = []
  inputs = EvaluationInputs(
    musiccaps.ClipFolder(reference),
    musiccaps.ClipFolder(generated),
    report=lines.append,
  )
  found = musiccaps.open_songs(inputs, table, 'all', None)
  both = ['-0Gj8-vB1q4', '0_abc-DEF12']
  assert found.inputs.reference.names == found.inputs.generated.names == both
  assert found.found == ('-0Gj8-vB1q4', '0_abc-DEF12', 'Yzzzzzzzz_9')
  assert found.inputs.generated.caption(1) == 'fast techno'
  clip = found.inputs.reference.read(0, 16_000)
  assert clip.name == '-0Gj8-vB1q4' and len(clip.waveform) == 16_000
  told = '\n'.join(lines)
  assert 'no generated clip and are left out: Yzzzzzzzz_9' in told
  assert 'other.wav' in told
  balanced = musiccaps.open_songs(inputs, table, 'balanced', None)
  assert balanced.inputs.generated.names == ['0_abc-DEF12']
  with pytest.raises(UsageError, match='another --musiccaps_split'):
    musiccaps.open_songs(inputs, table, 'train', None)


@pytest.mark.parametrize(
  ('names', 'words'),
  [
    (['a.wav'], 'is named as a clip of MusicCaps'),
    (['0_abc-DEF12.wav', '0_abc-DEF12_0.wav'], 'keep one'),
  ],
)
def test_a_folder_without_its_clips_is_refused(tmp_path, songs, names, words):
  folder = clips(tmp_path / 'clips', *names)
  with pytest.raises(UsageError, match=words):
    musiccaps.SongClips(folder, songs)


def test_only_figures_of_one_kind_stand_in_the_table():
  results = Results()
  results.add('fad_vggish', 3.21)
  results.add('fad_tagger', 8.0)
  results.add('kld_tagger_family', 0.5)

  def lines(windowing='vggish', songs=5400, whole=True):
    return published.table(
      results,
      name='mine',
      windowing=windowing,
      counts={'all': (5400, 5521), 'balanced': (980, 1000)},
      split='all',
      songs=songs,
      whole=whole,
    )

  told = lines()
  assert told[0] == (
    'MusicCaps: 5,400 clips found of 5,521 (balanced 980 of 1,000)'
  )
  assert '| mine | – | 3.21 | – | – | – | measured here, n = 5,400 |' in told
  assert any('| MusicLM | 0.44 | 4 | 1.01 | 0.51 | 312 |' in x for x in told)
  assert not any('MusicGen' in line for line in told)
  assert any('not comparable: other embedder' in line for line in told)
  told = '\n'.join(lines('fad_tool'))
  assert '| mine |' in told and 'MusicGen 3.3B' in told
  assert 'MusicLM (' not in told, 'their figure is of another windowing'
  for told in (lines(songs=900), lines(whole=False)):
    assert not any(line.startswith('| mine') for line in told)
    assert any('fad_vggish' in x and 'not comparable' in x for x in told)
