"""Writes FAD and KAD of drawn embeddings by the published packages.

frechet-audio-distance and kadtk are installed without what they need to read
audio and to run networks, of which empty modules take the place: only their
arithmetic is called. Run under a Python that has torch, scipy and both:

  cd experiments/parity
  python audio_distances.py ../../tests/fixtures/audio_distances.npz
"""

import importlib.metadata
import sys
from unittest import mock

import numpy as np
import torch

_ABSENT = (
  *('resampy', 'soundfile', 'torchaudio', 'tqdm', 'transformers', 'laion_clap'),
  *('encodec', 'librosa', 'hypy_utils', 'hypy_utils.tqdm_utils', 'torchvision'),
  *('hypy_utils.nlp_utils', 'hypy_utils.logging_utils', 'kadtk.model_loader'),
  *('kadtk.emb_loader', 'hypy_utils.downloader', 'pandas'),
  *('torchlibrosa', 'torchlibrosa.stft', 'torchlibrosa.augmentation'),
  'frechet_audio_distance.models.pann',
)


def drawn(rows: int, width: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
  """Two sets of correlated rows that differ in mean and covariance."""
  rng = np.random.default_rng(seed)
  mix = rng.normal(size=(width, width)) / np.sqrt(width)
  reference = rng.normal(size=(rows, width)) @ mix
  generated = 1.2 * rng.normal(size=(rows + 13, width)) @ mix + 0.3
  return reference.astype(np.float32), generated.astype(np.float32)


def main() -> None:
  """Writes embeddings and distances to the path in argv[1]."""
  found = {}
  with mock.patch.dict(
    sys.modules, {name: mock.MagicMock() for name in _ABSENT}
  ):
    from frechet_audio_distance.fad import FrechetAudioDistance
    from kadtk.kad import calc_kernel_audio_distance

    tool = FrechetAudioDistance.__new__(FrechetAudioDistance)
    for name, (rows, width) in {'many': (250, 16), 'few': (30, 48)}.items():
      reference, generated = drawn(rows, width, rows)
      moments = [
        tool.calculate_embd_statistics(x.astype(np.float64))
        for x in (reference, generated)
      ]
      found |= {
        f'{name}/reference': reference,
        f'{name}/generated': generated,
        f'{name}/fad': tool.calculate_frechet_distance(
          *moments[0], *moments[1]
        ),
        f'{name}/kad': calc_kernel_audio_distance(
          torch.from_numpy(generated),
          torch.from_numpy(reference),
          (None, None),
          'cpu',
          precision=torch.float64,
        ).numpy(),
      }
  packages = ('frechet-audio-distance', 'kadtk', 'torch', 'scipy')
  versions = [f'{p} {importlib.metadata.version(p)}' for p in packages]
  np.savez_compressed(sys.argv[1], versions=np.array(versions), **found)


if __name__ == '__main__':
  main()
