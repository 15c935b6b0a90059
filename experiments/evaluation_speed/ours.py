"""Our side: FAD of embeddings, and both log-mels of ten minutes."""

import functools
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

import jax
import task

from musiclm_jax.dsp import spectrogram, vggish_mel
from musiclm_jax.metrics import fad


def frechet(reference: np.ndarray, generated: np.ndarray) -> float:
  """FAD of two sets, statistics included."""
  sets = [
    fad.EmbeddingStatistics.empty(rows.shape[1]).update(rows)
    for rows in (reference, generated)
  ]
  return fad.frechet_distance(*sets)


def main() -> None:
  """Serves all calls."""
  calls = {
    f'fad of {width}': functools.partial(frechet, *task.embeddings(width))
    for width in task.WIDTHS
  }
  speech = task.noise(task.VGGISH_RATE)
  calls['vggish log-mel'] = lambda: vggish_mel.log_mel(speech)
  music = task.noise(task.CODEC_RATE)
  log_mel = jax.jit(
    functools.partial(
      spectrogram.log_mel,
      floor=task.FLOOR,
      sample_rate=task.CODEC_RATE,
      num_mels=task.NUM_MELS,
      low_hz=task.LOW_HZ,
      high_hz=task.HIGH_HZ,
      **task.MEL,
    )
  )
  calls['log-mel'] = lambda: np.asarray(log_mel(music))
  about = {name: version(name) for name in ('numpy', 'jax')}
  task.serve(about, calls)


if __name__ == '__main__':
  main()
