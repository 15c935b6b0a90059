"""What a bundle's codec does to reference clips.

clips -> windows of 5 s -> codes and back -> distances of a clip, perplexity of
each level
"""

import importlib.util
from collections.abc import Callable

import jax
import numpy as np

from musiclm_jax.cascade.networks import Network
from musiclm_jax.contracts.audio import SAMPLE_RATE
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.evaluation.inputs import EvaluationInputs
from musiclm_jax.evaluation.results import Results
from musiclm_jax.metrics import bootstrap, codec

WINDOW_SECONDS = 5.0

Coder = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def open_coder(network: Network) -> Coder:
  """Opens a codec: windows [N, W] -> codes [N, T, Q], windows as coded.

  They go through one by one: of any number there is one program.
  """
  model = network.model

  @jax.jit
  def run(params, collections, waveform):
    codes = model.encode(params, collections, waveform)
    return codes, model.decode(params, collections, codes)

  def code(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    parts = [run(network.params, network.collections, r[None]) for r in rows]
    codes, coded = zip(*parts, strict=True)
    return np.concatenate(codes), np.concatenate(coded)

  return code


def cut(network: Network, waveform: np.ndarray) -> np.ndarray:
  """Cuts [S] at 24 kHz into windows [N, W] of 5 s, N = 0 of a shorter clip."""
  window = round(WINDOW_SECONDS * SAMPLE_RATE)
  window -= window % network.model.hop_length
  return waveform[: len(waveform) // window * window].reshape(-1, window)


def add_codec(inputs: EvaluationInputs, results: Results) -> None:
  """SI-SDR, distances, loudest bins and ViSQOL; perplexity by level.

  ViSQOL where visqol-python and libsvm-official are installed.

  Clips below 5 s are left out, and what remains after the last whole 5 s.

  Raises:
    UsageError: If there is no bundle, or no clip of 5 s.
  """
  if inputs.model is None:
    raise UsageError('codec needs the codec of a bundle: give --bundle=DIR')
  folder = inputs.reference_folder('codec')
  network = inputs.model.networks['soundstream']
  model = network.model
  code = open_coder(network)
  counts = np.zeros((model.num_quantizers, model.codebook_size), np.int64)
  measures = dict(codec.MEASURES)
  # Its audio mode needs both; seconds a clip, so that one window must do.
  if all(map(importlib.util.find_spec, ('visqol', 'libsvm'))):
    measures['visqol'] = lambda *sides: codec.visqol(*(x[:1] for x in sides))
  values: dict[str, dict[str, float]] = {name: {} for name in measures}
  for clip in folder.clips(SAMPLE_RATE, 'codec', inputs.progress):
    rows = cut(network, clip.waveform)
    if not len(rows):
      continue
    codes, coded = code(rows)
    counts += codec.code_histograms(codes, model.codebook_size).sum(axis=0)
    for name, measure in measures.items():
      values[name][clip.name] = float(measure(rows, coded).mean())
  if not values['si_sdr']:
    raise UsageError(
      f'codec: no clip has {WINDOW_SECONDS:g} s: give longer ones'
    )
  facts = {
    'sha256': network.sha256,
    'windowing': f'{WINDOW_SECONDS:g} s without overlap',
    'seed': inputs.seed,
    'n': len(values['si_sdr']),
    'visqol': 'of the first 5 s' if 'visqol' in values else 'not installed',
  }
  for name, found in values.items():
    bounds = bootstrap.mean(list(found.values()), seed=inputs.seed)
    results.add(
      f'codec_{name}',
      bounds.value,
      interval=bounds,
      unit='MOS-LQO' if name == 'visqol' else 'dB',
      per_song=found,
      **facts,
    )
  for level, perplexity in enumerate(codec.perplexity(counts), 1):
    results.add(
      f'codec_perplexity_{level}',
      float(perplexity),
      codebook_size=model.codebook_size,
      **facts,
    )
