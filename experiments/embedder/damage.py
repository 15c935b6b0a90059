"""Do FAD and KAD of the tagger rise with damage?

python experiments/embedder/damage.py CORPUS

Ten seconds of pieces of the validation split against ten other seconds of the
same pieces, which are left as they are, made noisy, low-pass filtered or played
in another tempo, at four strengths each.
"""

import json
import sys
from pathlib import Path

import numpy as np
import soxr

from musiclm_jax.evaluation import embedders
from musiclm_jax.metrics import fad, kad
from musiclm_jax.rendered_music.source import RenderedMusicSource

HERE = Path(__file__).parent
RATE = 16_000
SECONDS = 10.0
SEED = 0
NOISE = (0.003, 0.01, 0.03, 0.1)  # of full scale
LOW_PASS_HZ = (4000, 2000, 1000, 500)
TEMPO = (1.1, 1.25, 1.5, 2.0)


def noisy(waveform: np.ndarray, level: float) -> np.ndarray:
  rng = np.random.default_rng([SEED, len(waveform)])
  return waveform + level * rng.standard_normal(len(waveform)).astype('f4')


def low_pass(waveform: np.ndarray, hz: float) -> np.ndarray:
  spectrum = np.fft.rfft(waveform)
  spectrum[np.fft.rfftfreq(len(waveform), 1 / RATE) > hz] = 0
  return np.fft.irfft(spectrum, len(waveform)).astype(np.float32)


def faster(waveform: np.ndarray, ratio: float) -> np.ndarray:
  """Another tempo at the same pitch."""
  import librosa

  return librosa.effects.time_stretch(waveform, rate=ratio)


def clips(corpus: str, start: float) -> list[np.ndarray]:
  source = RenderedMusicSource(corpus, 'validation')
  first, count = (round(s * source.sample_rate) for s in (start, SECONDS))
  return [
    soxr.resample(source.read(i, first, count), source.sample_rate, RATE)
    for i in range(len(source))
  ]


def statistics(embedded: list[np.ndarray]) -> fad.EmbeddingStatistics:
  empty = fad.EmbeddingStatistics.empty(embedded[0].shape[1])
  return empty.update(np.concatenate(embedded))


def main() -> None:
  """Measures each damage and writes damage.json."""
  embedder = embedders.open_tagger(embedders.WINDOWINGS['vggish'])
  reference = list(embedder.embed_all(clips(sys.argv[1], 5.0)))
  plain = clips(sys.argv[1], 30.0)
  owners = np.repeat(np.arange(len(reference)), [len(x) for x in reference])

  def distances(changed: list[np.ndarray]) -> dict[str, float]:
    found = list(embedder.embed_all(changed))
    kernel = kad.kernel_audio_distance(
      np.concatenate(reference),
      np.concatenate(found),
      reference_clips=owners,
      generated_clips=np.repeat(np.arange(len(found)), list(map(len, found))),
    )
    return {
      'fad': fad.frechet_distance(statistics(reference), statistics(found)),
      'kad': kernel.value,
      'kad_between_clips': kernel.between_clips.value,
    }

  results = {'clips': len(plain), 'plain': {'0': distances(plain)}}
  for name, damage, strengths in (
    ('noise', noisy, NOISE),
    ('low_pass_hz', low_pass, LOW_PASS_HZ),
    ('tempo', faster, TEMPO),
  ):
    results[name] = {
      f'{strength:g}': distances([damage(x, strength) for x in plain])
      for strength in strengths
    }
  text = json.dumps(results, indent=1)
  (HERE / 'damage.json').write_text(text + '\n')
  print(text)


if __name__ == '__main__':
  main()
