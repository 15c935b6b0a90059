"""The peers: frechet-audio-distance, fadtk, torchaudio, torchvggish, librosa.

Of the first two only the arithmetic is called: empty modules take the place of
what they need to read audio and to run networks. Run under a Python that has
the packages of requirements.txt.
"""

import functools
import sys
from importlib.metadata import version
from unittest import mock

import numpy as np
import task
import torch
import torchaudio
from librosa.feature import melspectrogram

_ABSENT = (
  *('resampy', 'tqdm', 'transformers', 'laion_clap', 'encodec', 'hypy_utils'),
  *('hypy_utils.tqdm_utils', 'hypy_utils.nlp_utils', 'torchlibrosa'),
  *('hypy_utils.logging_utils', 'hypy_utils.downloader', 'fadtk.model_loader'),
  *('torchlibrosa.stft', 'torchlibrosa.augmentation', 'pandas'),
  'frechet_audio_distance.models.pann',
)
_PACKAGES = (
  *('frechet-audio-distance', 'fadtk', 'torch', 'torchaudio', 'torchvggish'),
  *('librosa', 'scipy', 'numpy'),
)


def torchaudio_mel(
  dtype: torch.dtype, power: float, rate: int, low: float, high: float, **sizes
) -> torchaudio.transforms.MelSpectrogram:
  """A mel spectrogram as the task defines it."""
  return torchaudio.transforms.MelSpectrogram(
    rate,
    n_mels=task.NUM_MELS,
    f_min=low,
    f_max=high,
    power=power,
    center=False,
    **sizes,
  ).to(dtype)


def add_distances(calls: dict) -> None:
  """FAD by both packages, statistics included."""
  with mock.patch.dict(
    sys.modules, {name: mock.MagicMock() for name in _ABSENT}
  ):
    import fadtk.fad as fadtk
    from frechet_audio_distance.fad import FrechetAudioDistance

  tool = FrechetAudioDistance.__new__(FrechetAudioDistance)

  def by_tool(reference: np.ndarray, generated: np.ndarray) -> float:
    moments = [
      tool.calculate_embd_statistics(rows.astype(np.float64))
      for rows in (reference, generated)
    ]
    return tool.calculate_frechet_distance(*moments[0], *moments[1])

  def by_fadtk(reference: np.ndarray, generated: np.ndarray) -> float:
    moments = [
      fadtk.calc_embd_statistics(rows.astype(np.float64))
      for rows in (reference, generated)
    ]
    return float(fadtk.calc_frechet_distance(*moments[0], *moments[1]).real)

  for width in task.WIDTHS:
    sets = task.embeddings(width)
    calls[f'fad of {width}, frechet-audio-distance'] = functools.partial(
      by_tool, *sets
    )
    calls[f'fad of {width}, fadtk'] = functools.partial(by_fadtk, *sets)


def add_vggish(calls: dict) -> None:
  """VGGish's front end: 25 ms every 10 ms, magnitudes, 64 bands."""
  with mock.patch.dict(sys.modules, {'resampy': mock.MagicMock()}):
    from torchvggish import mel_features
  speech = task.noise(task.VGGISH_RATE)
  calls['vggish log-mel, torchvggish'] = functools.partial(
    mel_features.log_mel_spectrogram,
    speech,
    audio_sample_rate=task.VGGISH_RATE,
    log_offset=0.01,
    window_length_secs=0.025,
    hop_length_secs=0.010,
    num_mel_bins=64,
    lower_edge_hertz=125,
    upper_edge_hertz=7500,
  )
  for name, dtype in (('', torch.float32), (' float64', torch.float64)):
    mel = torchaudio_mel(
      dtype,
      *(1.0, task.VGGISH_RATE, 125.0, 7500.0),
      n_fft=512,
      win_length=400,
      hop_length=160,
    )
    signal = torch.from_numpy(speech).to(dtype)
    calls[f'vggish log-mel, torchaudio{name}'] = functools.partial(
      lambda mel, signal: torch.log(mel(signal) + 0.01).numpy(), mel, signal
    )
  calls['vggish log-mel, librosa'] = lambda: np.log(
    melspectrogram(
      y=speech,
      sr=task.VGGISH_RATE,
      n_fft=512,
      win_length=400,
      hop_length=160,
      center=False,
      power=1,
      n_mels=64,
      fmin=125,
      fmax=7500,
      htk=True,
      norm=None,
    )
    + 0.01
  )


def add_log_mel(calls: dict) -> None:
  """A log-mel of magnitudes as a codec is measured by."""
  music = task.noise(task.CODEC_RATE)
  mel = torchaudio_mel(
    torch.float32,
    *(1.0, task.CODEC_RATE, task.LOW_HZ, task.HIGH_HZ),
    n_fft=task.MEL['fft_size'],
    win_length=task.MEL['window_length'],
    hop_length=task.MEL['hop_length'],
  )
  signal = torch.from_numpy(music)
  calls['log-mel, torchaudio'] = lambda: torch.log(
    mel(signal).clamp(min=task.FLOOR)
  ).numpy()
  calls['log-mel, librosa'] = lambda: np.log(
    np.maximum(
      melspectrogram(
        y=music,
        sr=task.CODEC_RATE,
        n_fft=task.MEL['fft_size'],
        hop_length=task.MEL['hop_length'],
        center=False,
        power=1,
        n_mels=task.NUM_MELS,
        fmin=task.LOW_HZ,
        fmax=task.HIGH_HZ,
        htk=True,
        norm=None,
      ),
      task.FLOOR,
    )
  )


def main() -> None:
  """Serves all calls."""
  calls: dict = {}
  add_distances(calls)
  add_vggish(calls)
  add_log_mel(calls)
  task.serve({name: version(name) for name in _PACKAGES}, calls)


if __name__ == '__main__':
  main()
