"""The page: blinded, balanced, and clear about what it cannot use."""

import collections
import json
import shutil

import numpy as np
import pytest
import soundfile
from listening_clips import NAMES, RATE, SYSTEMS

from experiments.listening_test import build, clips
from musiclm_jax.contracts.errors import UsageError


def _trials(out):
  text = (out / 'trials.js').read_text()
  start, end = text.index('{'), text.rindex('}') + 1
  return json.loads(text[start:end])


def _key(out):
  return json.loads(out.with_name(f'{out.name}.key.json').read_text())


@pytest.mark.parametrize('kind', ['ab', 'mushra'])
def test_nothing_on_the_page_names_a_system_or_a_file(tmp_path, systems, kind):
  out = tmp_path / 'page'
  reference = SYSTEMS[2] if kind == 'mushra' else None
  build.build(systems, out, kind=kind, reference=reference)
  files = [path for path in out.rglob('*') if path.is_file()]
  for path in files:
    for name in (*SYSTEMS, 'piece1', 'anchor'):
      assert name not in path.relative_to(out).as_posix()
      assert name.encode() not in path.read_bytes(), path
  sounds = [path for path in files if path.suffix == '.wav']
  infos = [soundfile.info(path) for path in sounds]
  assert {(i.samplerate, i.channels, i.subtype) for i in infos} == {
    (48_000, 1, 'PCM_16')
  }
  assert {path.stat().st_mtime for path in sounds} == {0.0}
  # A header and samples: no room for what a generator wrote into its file.
  assert all(
    path.stat().st_size == 44 + 2 * info.frames
    for path, info in zip(sounds, infos, strict=True)
  )


def test_key_knows_whose_each_clip_is(tmp_path, systems):
  out = tmp_path / 'page'
  build.build(systems, out)
  owners = _key(out)['clips']
  assert {path.stem for path in (out / 'audio').iterdir()} == owners.keys()
  assert sorted((o['system'], o['clip']) for o in owners.values()) == sorted(
    (system, name) for system in SYSTEMS for name in NAMES
  )


def test_every_pair_of_every_clip_is_compared_once(tmp_path, systems):
  out = tmp_path / 'page'
  build.build(systems, out)
  owners, found = _key(out)['clips'], collections.Counter()
  for turn in _trials(out)['rounds']:
    trials = [trial for block in turn for trial in block]
    for trial in trials:
      a, b = (owners[clip] for clip in trial['clips'])
      assert a['clip'] == b['clip']
      assert trial['caption'] == f'A sound of {a["clip"][-1]}'
      found[a['clip'], frozenset((a['system'], b['system']))] += 1
  assert len(found) == 9 and set(found.values()) == {1}


def test_blocks_have_every_pair_and_rounds_every_clip():
  names, pairs = [f'n{k}' for k in range(13)], 6
  rounds = build.trials_of_pairs(names, 'abcd')
  for turn in rounds:
    assert [name for block in turn for name, _ in block] == names
    for block in turn[:-1]:
      assert len({tuple(pair) for _, pair in block}) == pairs
  everything = [(n, *p) for turn in rounds for block in turn for n, p in block]
  assert len(set(everything)) == len(everything) == 13 * pairs


def test_mushra_has_a_hidden_reference_and_an_anchor(tmp_path, systems):
  out = tmp_path / 'page'
  build.build(systems, out, kind='mushra', reference=SYSTEMS[2])
  owners = _key(out)['clips']
  for trial in _trials(out)['rounds'][0][0]:
    shown = {owners[clip]['system'] for clip in trial['clips']}
    assert shown == {*SYSTEMS, 'anchor 3500 Hz'}
    assert trial['reference'] not in trial['clips']
    hidden = next(
      clip for clip in trial['clips'] if owners[clip]['system'] == SYSTEMS[2]
    )
    opened = [
      soundfile.read(out / 'audio' / f'{clip}.wav')[0]
      for clip in (trial['reference'], hidden)
    ]
    np.testing.assert_array_equal(*opened)


@pytest.mark.parametrize('hz', [3500.0, 7000.0])
def test_anchor_lies_within_the_mask_of_bs1534(hz):
  impulse = np.zeros(8192, np.float32)
  impulse[4096] = 1.0
  found = clips.low_passed(clips.Clip('x', impulse), hz, 48_000).waveform
  response = 20 * np.log10(np.abs(np.fft.rfft(found)) + 1e-12)
  bins = np.fft.rfftfreq(8192, 1 / 48_000)
  assert np.abs(response[bins <= hz]).max() < 0.1
  assert response[bins >= hz * 8 / 7].max() < -25
  assert response[bins >= hz * 9 / 7].max() < -50


def test_levels_are_left_alone_unless_asked_for(tmp_path, systems, capsys):
  levels = {}
  for level in ('as_is', 'rms'):
    out = tmp_path / level
    build.build(systems, out, level=level)
    found = collections.defaultdict(dict)
    for clip, owner in _key(out)['clips'].items():
      samples = soundfile.read(out / 'audio' / f'{clip}.wav')[0]
      root = np.sqrt(np.mean(samples**2))
      found[owner['clip']][owner['system']] = 20 * np.log10(root)
    levels[level] = found[NAMES[0]]
  as_is, rms = levels['as_is'], levels['rms']
  assert as_is[SYSTEMS[2]] - as_is[SYSTEMS[0]] == pytest.approx(9.54, abs=0.3)
  assert max(rms.values()) - min(rms.values()) < 0.05
  assert min(rms.values()) == pytest.approx(min(as_is.values()), abs=0.05)
  said = capsys.readouterr().err
  assert 'levels are left as they are; mean level' in said
  assert 'lowered to the softest of each name' in said


def test_clips_are_cut_to_one_length_and_unequal_ones_are_said(
  tmp_path, systems, capsys
):
  short = systems[SYSTEMS[0]] / 'piece1.wav'
  soundfile.write(short, 0.1 * np.ones(RATE // 2), RATE)
  out = tmp_path / 'page'
  build.build(systems, out, seconds=1.0)
  lengths = {
    soundfile.info(path).duration for path in (out / 'audio').iterdir()
  }
  assert lengths == {0.5, 1.0}
  assert "unequal length, by which systems may be told apart: 'piece1'" in (
    capsys.readouterr().err
  )


def test_the_same_call_makes_the_same_page_and_another_seed_another(
  tmp_path, systems
):
  hashes = [
    build.build(systems, tmp_path / f'page{k}', seed=seed)
    for k, seed in enumerate((0, 0, 1))
  ]
  assert hashes[0] == hashes[1] != hashes[2]
  names = [
    sorted(path.name for path in (tmp_path / f'page{k}/audio').iterdir())
    for k in range(3)
  ]
  assert names[0] == names[1] != names[2]


def test_missing_clips_are_named(tmp_path, systems):
  (systems[SYSTEMS[1]] / 'piece2.wav').unlink()
  (systems[SYSTEMS[0]] / 'sub/piece3.wav').unlink()
  with pytest.raises(UsageError, match='2 of 3 names are not in') as caught:
    build.build(systems, tmp_path / 'page')
  assert "'piece2' of their_secret, 'sub/piece3' of our_secret" in str(
    caught.value
  )
  assert not (tmp_path / 'page').exists()


def test_what_is_no_sound_is_named(tmp_path, systems):
  (systems[SYSTEMS[0]] / 'piece2.wav').write_bytes(b'RIFF and no more')
  with pytest.raises(UsageError, match=r'piece2\.wav.* cannot be read as'):
    build.build(systems, tmp_path / 'page')
  assert not (tmp_path / 'page').exists()
  assert not (tmp_path / 'page.key.json').exists()


def test_clips_without_a_caption_are_named(tmp_path, systems):
  path = systems[SYSTEMS[2]] / 'captions.csv'
  path.write_text('path,caption\npiece1.wav,A sound\n')
  with pytest.raises(
    UsageError, match=r"2 of 3 clips .* 'piece2', 'sub/piece3'"
  ):
    build.build(systems, tmp_path / 'page')


def test_without_captions_raters_are_asked_what_they_prefer(tmp_path, systems):
  (systems[SYSTEMS[2]] / 'captions.csv').unlink()
  build.build(systems, tmp_path / 'page')
  assert _trials(tmp_path / 'page')['question'] == 'Which clip do you prefer?'


@pytest.mark.parametrize(
  'change, message',
  [
    ({'kind': 'mushra'}, 'needs a reference of the systems our_secret'),
    ({'key': 'page/key.json'}, 'lies in the page'),
    ({'systems': 1}, '2 systems or more, got 1'),
    (
      {'kind': 'mushra', 'reference': SYSTEMS[0], 'anchors': (30_000.0,)},
      'cannot be made at 48000 Hz',
    ),
    (
      {'kind': 'mushra', 'reference': SYSTEMS[0], 'anchors': (3500.0,) * 7},
      'compares 2 to 9 clips, got 10',
    ),
  ],
)
def test_what_makes_no_test_is_refused(tmp_path, systems, change, message):
  if 'key' in change:
    change = {'key': tmp_path / change['key']}
  few = change.pop('systems', 3) if 'systems' in change else 3
  chosen = dict(list(systems.items())[:few])
  with pytest.raises(UsageError, match=message):
    build.build(chosen, tmp_path / 'page', **change)
  assert not (tmp_path / 'page').exists()


def test_an_older_page_and_its_key_are_kept(tmp_path, systems):
  out = tmp_path / 'page'
  build.build(systems, out)
  with pytest.raises(UsageError, match='is there already: give a new --out'):
    build.build(systems, out)
  shutil.rmtree(out)
  with pytest.raises(UsageError, match='without it the answers'):
    build.build(systems, out)


def test_command_says_in_one_line_what_is_wrong(run_python, systems, tmp_path):
  code = (
    'import subprocess, sys; '
    'done = subprocess.run([sys.executable, "-m", '
    f'"experiments.listening_test.build", "--out={tmp_path}/page", '
    f'"a={tmp_path}/nothing"], capture_output=True, text=True); '
    'print(done.returncode, repr(done.stderr))'
  )
  shown = run_python(code)
  assert shown.strip() == (
    "1 'error: a comparison needs 2 systems or more, got 1: give NAME=FOLDER "
    "for each\\n'"
  )
