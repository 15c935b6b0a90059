"""What a bundle's codec does to reference clips.

clips -> windows of 5 s -> codes and back -> distances of a clip, perplexity of
each level
"""

import jax
import numpy as np

from musiclm_jax.contracts.audio import SAMPLE_RATE
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.evaluation.inputs import EvaluationInputs
from musiclm_jax.evaluation.results import Results
from musiclm_jax.metrics import bootstrap, codec

_WINDOW_SECONDS = 5.0


def add_codec(inputs: EvaluationInputs, results: Results) -> None:
  """SI-SDR, log-mel and STFT distance over clips; perplexity by level.

  Clips below 5 s are left out, and what remains after the last whole 5 s.

  Raises:
    UsageError: If there is no bundle, or no clip of 5 s.
  """
  if inputs.model is None:
    raise UsageError('codec needs the codec of a bundle: give --bundle=DIR')
  folder = inputs.reference_folder('codec')
  network = inputs.model.networks['soundstream']
  model = network.model
  window = round(_WINDOW_SECONDS * SAMPLE_RATE)
  window -= window % model.hop_length

  @jax.jit
  def run(params, collections, waveform):
    codes = model.encode(params, collections, waveform)
    return codes, model.decode(params, collections, codes)

  counts = np.zeros((model.num_quantizers, model.codebook_size), np.int64)
  measures = {
    'si_sdr': codec.si_sdr,
    'log_mel': codec.distances,
    'stft': codec.stft_distances,
  }
  values: dict[str, dict[str, float]] = {name: {} for name in measures}
  for clip in folder.clips(SAMPLE_RATE, 'codec', inputs.progress):
    rows = clip.waveform[: len(clip.waveform) // window * window]
    rows = rows.reshape(-1, window)
    if not len(rows):
      continue
    # One by one: of any number there is one program.
    parts = [run(network.params, network.collections, r[None]) for r in rows]
    codes = np.concatenate([np.asarray(part[0]) for part in parts])
    coded = np.concatenate([np.asarray(part[1]) for part in parts])
    counts += codec.code_histograms(codes, model.codebook_size).sum(axis=0)
    for name, measure in measures.items():
      values[name][clip.name] = float(measure(rows, coded).mean())
  if not values['si_sdr']:
    raise UsageError(
      f'codec: no clip has {_WINDOW_SECONDS:g} s: give longer ones'
    )
  facts = {
    'sha256': network.sha256,
    'windowing': f'{_WINDOW_SECONDS:g} s without overlap',
    'seed': inputs.seed,
    'n': len(values['si_sdr']),
    'visqol': 'not available',
  }
  for name, found in values.items():
    bounds = bootstrap.mean(list(found.values()), seed=inputs.seed)
    results.add(
      f'codec_{name}',
      bounds.value,
      interval=bounds,
      unit='dB',
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
