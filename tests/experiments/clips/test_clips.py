"""The committed page: what it plays is there, and small enough."""

import re

import soundfile

from experiments.clips import clips

SECONDS, MEGABYTES = 10.0, 6


def test_the_page_plays_what_is_there():
  page = (clips.FOLDER / 'index.html').read_text()
  named = set(re.findall(r'src="([^"]+)"', page))
  there = {
    str(path.relative_to(clips.FOLDER)) for path in clips.FOLDER.rglob('*.opus')
  }
  assert named == there and len(there) == 20
  assert {name.partition('/')[0] for name in there} == set(clips.GROUPS)
  for name in there:
    assert abs(soundfile.info(clips.FOLDER / name).duration - SECONDS) < 0.1
  sizes = [path.stat().st_size for path in clips.FOLDER.rglob('*.opus')]
  assert sum(sizes) <= MEGABYTES * 1e6


def test_a_codec_takes_pieces_away_from_held_out_music():
  found = clips.distances()
  assert set(found) == set(clips.GROUPS)
  for measure in clips.MEASURES:
    assert found['real'][measure] < found['coded'][measure], measure
