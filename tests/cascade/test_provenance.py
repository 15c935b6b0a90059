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
  provenance.write_wav(tmp_path / 'deep' / 'x.wav', waveform, 24000, ABOUT)
  assert provenance.read_provenance(tmp_path / 'deep' / 'x.wav') == ABOUT
  assert json.loads((tmp_path / 'deep' / 'x.json').read_text()) == ABOUT
  read, rate = soundfile.read(tmp_path / 'deep' / 'x.wav')
  assert rate == 24000
  np.testing.assert_allclose(read, waveform, atol=1e-4)
  assert soundfile.info(tmp_path / 'deep' / 'x.wav').subtype == 'PCM_16'
  with soundfile.SoundFile(tmp_path / 'deep' / 'x.wav') as sound:
    assert json.loads(sound.comment) == ABOUT, 'other readers find it too'


def test_long_prompts_fit(tmp_path):
  about = {'prompt': 'loud ' * 2000}
  provenance.write_wav(tmp_path / 'x.wav', np.zeros(10), 24000, about)
  assert provenance.read_provenance(tmp_path / 'x.wav') == about


def test_full_scale_does_not_wrap_around(tmp_path):
  """Mistake 44: scaled twice, or integers taken for samples."""
  waveform = np.asarray([1.0, -1.0, 1.5, -1.5])
  provenance.write_wav(tmp_path / 'x.wav', waveform, 24000, ABOUT)
  read, _ = soundfile.read(tmp_path / 'x.wav')
  np.testing.assert_allclose(read, [1, -1, 1, -1], atol=1e-4)


def test_a_failed_write_leaves_the_older_file(tmp_path, monkeypatch):
  provenance.write_wav(tmp_path / 'x.wav', np.zeros(10), 24000, ABOUT)
  before = (tmp_path / 'x.wav').read_bytes()

  def full(*args):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr('os.fsync', full)
  with pytest.raises(OSError, match='No space'):
    provenance.write_wav(tmp_path / 'x.wav', np.ones(99), 24000, {})
  assert (tmp_path / 'x.wav').read_bytes() == before
  assert {p.name for p in tmp_path.iterdir()} == {'x.wav', 'x.json'}


def test_other_files_are_refused(tmp_path):
  soundfile.write(tmp_path / 'x.wav', np.zeros(10), 24000)
  (tmp_path / 'y.wav').write_text('no sound')
  for name in ('x.wav', 'y.wav'):
    with pytest.raises(UsageError, match='no provenance'):
      provenance.read_provenance(tmp_path / name)
