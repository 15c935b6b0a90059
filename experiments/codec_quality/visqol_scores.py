"""ViSQOL in its audio mode; runs in the environment of the peers.

`python visqol_scores.py clips.npz coded.npz`: waveforms [N, S] and lengths
[N]; setting -> [N, S]. Prints setting -> MOS-LQO of each clip, 1 to 5.
"""

import json
import sys

import numpy as np
from scipy import signal
from visqol import VisqolApi

_RATE = 48_000  # of the audio mode


def main(clips: str, coded: str) -> None:
  """Scores all clips of all settings."""
  given, settings = np.load(clips), np.load(coded)
  api = VisqolApi()
  api.create(mode='audio')

  def raised(waveform: np.ndarray, length: int) -> np.ndarray:
    return signal.resample_poly(waveform[:length].astype(float), 2, 1)

  scores = {setting: [] for setting in settings.files}
  for i, length in enumerate(given['lengths']):
    clip = raised(given['waveforms'][i], length)
    for setting, own in scores.items():
      other = raised(settings[setting][i], length)
      own.append(api.measure_from_arrays(clip, other, _RATE).moslqo)
  print(json.dumps(scores))


if __name__ == '__main__':
  main(*sys.argv[1:])
