"""WAV files that say where they come from."""

import json

import numpy as np
import pytest
import soundfile

from musiclm_jax.cascade import provenance
from musiclm_jax.contracts.errors import UsageError

ABOUT = {'prompt': 'ein Walzer – „süß“', 'seed': 3, 'bundle_sha256': 'ab'}


def test_a_wav_carries_its_origin_inside_and_beside(tmp_path):
  waveform = np.sin(np.arange(24000) / 9).astype(np.float32)
  provenance.write_sound(tmp_path / 'deep' / 'x.wav', waveform, 24000, ABOUT)
  inside = provenance.read_provenance(tmp_path / 'deep' / 'x.wav')
  assert inside.items() >= ABOUT.items()
  assert json.loads((tmp_path / 'deep' / 'x.json').read_text()) == inside
  read, rate = soundfile.read(tmp_path / 'deep' / 'x.wav')
  assert rate == 24000
  np.testing.assert_allclose(read, waveform, atol=1e-4)
  assert soundfile.info(tmp_path / 'deep' / 'x.wav').subtype == 'PCM_16'
  with soundfile.SoundFile(tmp_path / 'deep' / 'x.wav') as sound:
    assert json.loads(sound.comment) == inside, 'other readers find it too'


def test_long_prompts_fit(tmp_path):
  about = {'prompt': 'loud ' * 2000}
  provenance.write_sound(tmp_path / 'x.wav', np.zeros(10), 24000, about)
  found = provenance.read_provenance(tmp_path / 'x.wav')
  assert found['prompt'] == about['prompt']


def test_full_scale_does_not_wrap_around(tmp_path):
  """Mistake 44: scaled twice, or integers taken for samples."""
  waveform = np.asarray([1.0, -1.0, 1.5, -1.5])
  provenance.write_sound(tmp_path / 'x.wav', waveform, 24000, ABOUT)
  read, _ = soundfile.read(tmp_path / 'x.wav')
  np.testing.assert_allclose(read, [1, -1, 1, -1], atol=1e-4)


def test_a_failed_write_leaves_the_older_file(tmp_path, monkeypatch):
  provenance.write_sound(tmp_path / 'x.wav', np.zeros(10), 24000, ABOUT)
  before = (tmp_path / 'x.wav').read_bytes()

  def full(*args):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr('os.fsync', full)
  with pytest.raises(OSError, match='No space'):
    provenance.write_sound(tmp_path / 'x.wav', np.ones(99), 24000, {})
  assert (tmp_path / 'x.wav').read_bytes() == before
  assert {p.name for p in tmp_path.iterdir()} == {'x.wav', 'x.json'}


def test_other_files_are_refused(tmp_path):
  soundfile.write(tmp_path / 'x.wav', np.zeros(10), 24000)
  (tmp_path / 'y.wav').write_text('no sound')
  for name in ('x.wav', 'y.wav'):
    with pytest.raises(UsageError, match='no provenance'):
      provenance.read_provenance(tmp_path / name)


def test_a_file_that_is_not_ours_is_never_replaced(tmp_path):
  """Nor is one of ours that somebody has changed."""
  path, beside = tmp_path / 'x.wav', tmp_path / 'x.json'
  beside.write_text('{"name": "package"}')
  with pytest.raises(UsageError, match=r'x\.json.*--overwrite'):
    provenance.check_out(path)
  provenance.check_out(path, overwrite=True)
  provenance.write_sound(path, np.zeros(10), 24000, ABOUT)
  provenance.check_out(path)
  beside.unlink()
  provenance.check_out(path)
  data = path.read_bytes()
  for changed in (data[:-2] + b'\1\0', b'', data[:40], b'RIFF'):
    path.write_bytes(changed)
    with pytest.raises(UsageError, match=r'x\.wav.*--overwrite'):
      provenance.check_out(path)
  path.write_bytes(data)
  provenance.write_sound(path, np.zeros(10), 24000, ABOUT)
  beside.write_text(beside.read_text().replace('süß', 'sour'))
  beside.write_text(beside.read_text().replace('"seed": 3', '"seed": 4'))
  with pytest.raises(UsageError, match=r'x\.json.*--overwrite'):
    provenance.check_out(path)
  (tmp_path / 'y.json').mkdir()
  with pytest.raises(UsageError, match='is a folder'):
    provenance.check_out(tmp_path / 'y.wav', overwrite=True)


def test_a_flac_says_the_same_and_is_known_again(tmp_path):
  path = tmp_path / 'x.flac'
  about = ABOUT | {'prompt': 'süß ' * 5000}
  waveform = np.sin(np.arange(24000) / 9)
  provenance.write_sound(path, waveform, 24000, about)
  assert provenance.read_provenance(path).items() >= about.items()
  read, rate = soundfile.read(path)
  np.testing.assert_allclose(read, waveform, atol=1e-4)
  assert rate == 24000 and provenance.is_ours(path)
  data = path.read_bytes()
  swapped = data[:-300] + data[-299:-298] + data[-300:-299] + data[-298:]
  for changed in (data[:-2000], data[:100], b'fLaC', swapped):
    path.write_bytes(changed)
    with pytest.raises(UsageError, match=r'x\.flac.*--overwrite'):
      provenance.check_out(path)


def test_a_comment_that_is_no_object_is_no_provenance(tmp_path):
  for name in ('x.wav', 'x.flac'):
    with soundfile.SoundFile(tmp_path / name, 'w', 24000, 1, 'PCM_16') as file:
      file.comment = '[1, 2]'
      file.write(np.zeros(10))
    with pytest.raises(UsageError, match='no provenance'):
      provenance.read_provenance(tmp_path / name)


@pytest.mark.parametrize('size', [245, 251])
def test_the_longest_name_is_written_where_it_was_told(size, tmp_path):
  path = tmp_path / ('a' * size + '.wav')
  provenance.check_out(path)
  provenance.write_sound(path, np.zeros(10), 24000, ABOUT)
  assert provenance.is_ours(path)
  assert (provenance.sidecar(path) is None) == (size == 251)
  assert len(list(tmp_path.iterdir())) == (1 if size == 251 else 2)
  with pytest.raises(UsageError, match='has 256 bytes'):
    provenance.check_out(tmp_path / ('é' * 126 + '.wav'))
