"""Is what was generated a copy of the training music.

generated, reference and training clips -> semantic tokens -> spans of 5 s that
are equal, or cheap to turn into each other; and fingerprints of their sound
"""

import functools
import hashlib
from collections.abc import Iterator

import jax
import numpy as np

from musiclm_jax.contracts.audio import SAMPLE_RATE
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.terminal import printable
from musiclm_jax.evaluation.clips import ClipFolder
from musiclm_jax.evaluation.embedders import Embedder, Windowing
from musiclm_jax.evaluation.inputs import EvaluationInputs
from musiclm_jax.evaluation.results import Results
from musiclm_jax.metrics import bootstrap, fingerprint, memorization

FALSE_MATCHES = 0.01  # of held-out clips, by which both thresholds are set
_ENOUGH_NEGATIVES = 300  # for a bound of 1 %
_WINDOW_SECONDS = 10.0


def add_memorization(inputs: EvaluationInputs, results: Results) -> None:
  """Shares of 5 s spans that equal a training span, exactly or nearly.

  The reference is music that was not trained on: it sets the threshold of near
  copies and is the null of exact ones.

  Raises:
    UsageError: If the bundle or the training folder is missing, or no clip is
      as long as a window.
  """
  if inputs.model is None:
    raise UsageError(
      'memorization needs the semantic tokens of a bundle: give --bundle=DIR'
    )
  embedder, centroids = _open_tokens(inputs)
  rate = embedder.dimension / _WINDOW_SECONDS
  length = round(memorization.SPAN_SECONDS * rate)
  sides = {}
  for side, folder in _folders(inputs, 'memorization').items():
    read = folder.clips(
      embedder.sample_rate, f'tokens, {side}', inputs.progress
    )
    streams, owners = [], []
    waveforms = (clip.waveform for clip in read)
    for index, tokens in enumerate(embedder.embed_all(waveforms)):
      streams += list(tokens.astype(np.int64))
      owners += [folder.names[index]] * len(tokens)
    if not streams:
      raise UsageError(
        f"memorization: no clip of '{printable(folder.path)}' has "
        f'{_WINDOW_SECONDS:g} s: give longer ones'
      )
    sides[side] = (streams, owners)
  training = sides['training'][0]
  targets = np.concatenate(
    [memorization.spans(t, length, max(1, length // 2)) for t in training]
  )
  found = {}
  for side in ('generated', 'reference'):
    streams, owners = sides[side]
    exact = memorization.measure(streams, owners, training, frame_rate=rate)
    cut = [memorization.spans(t, length, length) for t in streams]
    costs = memorization.nearest_costs(np.concatenate(cut), targets, centroids)
    units = [o for o, part in zip(owners, cut, strict=True) for _ in part]
    found[side] = exact, costs, units
  facts = {
    'sha256': embedder.sha256,
    'windowing': embedder.windowing.name,
    'seed': inputs.seed,
    'span_tokens': length,
  }
  _add_copies(inputs, results, found, facts)


def _add_copies(
  inputs: EvaluationInputs, results: Results, found: dict, facts: dict
) -> None:
  (exact, costs, units), (null, null_costs, _) = (
    found['generated'],
    found['reference'],
  )
  null_exact = null.exact_rate()
  bounds = bootstrap.mean(exact.near_rates(1 - 1e-9), seed=inputs.seed)
  results.add(
    'memorization_exact',
    bounds.value,
    interval=bounds,
    null=null_exact,
    n={'generated': len(exact.shares), 'reference': len(null.shares)},
    **facts,
  )
  threshold, remarks = _threshold(null_costs, 'spans')
  near, names = bootstrap.unit_means(costs < threshold, units)
  bounds = bootstrap.mean(near, seed=inputs.seed)
  results.add(
    'memorization_approximate',
    bounds.value,
    interval=bounds,
    remarks=remarks,
    threshold=threshold,
    false_matches=float((null_costs < threshold).mean()),
    n={'generated': len(costs), 'reference': len(null_costs)},
    per_song=dict(zip(names, near.tolist(), strict=True)),
    **facts,
  )


def add_fingerprint(inputs: EvaluationInputs, results: Results) -> None:
  """Share of clips of which 3 s sound as some training clip does.

  Raises:
    UsageError: If the training folder is missing.
  """
  folders = _folders(inputs, 'fingerprint')
  index = fingerprint.FingerprintIndex()
  for name, found in _fingerprints(inputs, folders['training'], 'training'):
    index.add(name, found)
  nearest = {
    side: {
      name: index.nearest(found)
      for name, found in _fingerprints(inputs, folders[side], side)
      if len(found) >= fingerprint.SPAN_WORDS
    }
    for side in ('reference', 'generated')
  }
  if not all(nearest.values()):
    raise UsageError(
      'fingerprint: a folder has no clip of '
      f'{fingerprint.SPAN_SECONDS + 0.5:g} s: give longer ones'
    )
  rates = {
    side: np.array([match.bit_error_rate for match in found.values()])
    for side, found in nearest.items()
  }
  threshold, remarks = _threshold(rates['reference'], 'clips')
  bounds = fingerprint.duplicate_rate(
    rates['generated'], threshold, seed=inputs.seed
  )
  results.add(
    'fingerprint_duplicates',
    bounds.value,
    interval=bounds,
    remarks=remarks,
    threshold=threshold,
    false_matches=float((rates['reference'] < threshold).mean()),
    windowing=f'{fingerprint.SPAN_SECONDS:g} s every half of it',
    seed=inputs.seed,
    n={side: len(found) for side, found in rates.items()},
    per_song={
      name: match.bit_error_rate for name, match in nearest['generated'].items()
    },
    nearest={
      name: match.clip
      for name, match in nearest['generated'].items()
      if match.bit_error_rate < threshold
    },
  )


def _threshold(negatives: np.ndarray, what: str) -> tuple[float, list[str]]:
  """The threshold at 1 % false matches, and what weakens it."""
  if len(negatives) * FALSE_MATCHES >= 1:
    threshold = memorization.threshold_at(negatives, FALSE_MATCHES)
  else:
    threshold = float(negatives.min())
  return threshold, few_negatives(len(negatives), f'{what} of the reference')


def few_negatives(count: int, what: str) -> list[str]:
  """What must stand beside a threshold that rests on few, `what` in words."""
  if count >= _ENOUGH_NEGATIVES:
    return []
  return [
    f'the threshold rests on {count} {what}; a bound of 1 % needs '
    f'{_ENOUGH_NEGATIVES}'
  ]


def _folders(inputs: EvaluationInputs, measure: str) -> dict[str, ClipFolder]:
  if inputs.training is None:
    raise UsageError(
      f'{measure} compares with what was trained on: give --training=DIR, a '
      'folder of sound files'
    )
  return {
    'training': inputs.training,
    'reference': inputs.reference_folder(measure),
    'generated': inputs.generated_folder(measure),
  }


def _fingerprints(
  inputs: EvaluationInputs, folder: ClipFolder, side: str
) -> Iterator[tuple[str, np.ndarray]]:
  stage = f'fingerprint, {side}'
  for clip in folder.clips(fingerprint.SAMPLE_RATE, stage, inputs.progress):
    yield clip.name, fingerprint.words(clip.waveform)


def _open_tokens(inputs: EvaluationInputs) -> tuple[Embedder, np.ndarray]:
  """Semantic tokens of windows of 10 s, [N, 250], and their centroids."""
  loaded = {n: inputs.model.networks[n] for n in ('w2v_bert', 'kmeans')}
  features, codebook = (loaded[n].model for n in ('w2v_bert', 'kmeans'))
  frames = round(_WINDOW_SECONDS * features.frame_rate)

  @jax.jit
  def apply(parts, batch):
    found = features.features(*parts['w2v_bert'], batch)
    return codebook.assign(parts['kmeans'][1], found)[..., 0]

  parts = {name: (n.params, n.collections) for name, n in loaded.items()}
  embedder = Embedder(
    name='semantic tokens',
    sha256=hashlib.sha256(
      ''.join(network.identity for network in loaded.values()).encode()
    ).hexdigest(),
    sample_rate=SAMPLE_RATE,
    windowing=Windowing(
      f'{_WINDOW_SECONDS:g} s without overlap', _WINDOW_SECONDS, _WINDOW_SECONDS
    ),
    dimension=frames,
    inputs=np.ascontiguousarray,
    apply=functools.partial(apply, parts),
    batch_size=min(inputs.batch_size, 8),
  )
  return embedder, np.asarray(
    loaded['kmeans'].collections['kmeans']['centroids']
  )
