"""Whether generated music copies what was trained on, and negative controls.

Semantic tokens of generated clips and of held-out real pieces -> `metrics/
memorization.py` -> `cascade_copy`; training clips retrieved by their tokens,
and constant tones, must fail -> `negative_controls`.
"""

from collections.abc import Sequence

import numpy as np

from experiments.tiny_cascade import cascade_checks, gates, music
from experiments.tiny_cascade import negative_controls as controls
from experiments.tiny_cascade.artifacts import Artifacts
from experiments.tiny_cascade.cascade_checks import Generated
from musiclm_jax.metrics import bootstrap, memorization

# A span of less entropy is a held token or two: such spans equal each other in
# real music as well, and are no copies.
LEAST_BITS = 2.0
# A span counts as a near copy when it agrees with a training span at more
# positions than this share of the held-out real pieces' spans do.
_HELD_OUT_QUANTILE = 0.95
_EXACT = 1 - 1e-9  # share above which a span is an exact copy
_HELD_OUT_PIECES = 160


def near_threshold(held_out: memorization.Copying) -> float:
  """Share that all but 5 % of the held-out real spans stay below."""
  return float(np.quantile(held_out.shares, _HELD_OUT_QUANTILE))


def copy_gate(
  generated: memorization.Copying, held_out: memorization.Copying
) -> gates.Gate:
  """`cascade_copy`: no more copies of training spans than in real pieces.

  Neither exact nor near copies may be more frequent than what chance among
  the clips explains: the lower bound of the difference is compared with 0.

  Args:
    generated: Spans of generated clips, or of a negative control.
    held_out: Spans of held-out real pieces, at least one.
  """
  if not len(generated.shares):
    words = f'there are spans of >= {LEAST_BITS:g} bits'
    return gates.make('cascade_copy', None, None, {words: False})
  threshold = near_threshold(held_out)
  near, exact = (
    bootstrap.two_samples(
      generated.near_rates(limit), held_out.near_rates(limit)
    )
    for limit in (threshold, _EXACT)
  )
  chance = float(held_out.near_rates(threshold).mean())
  return gates.make(
    'cascade_copy',
    near.shifted(chance),
    chance,
    {
      'exact 5 s copies no more frequent than in held-out pieces': (
        exact.low <= 0
      ),
      'near copies no more frequent than in held-out pieces': near.low <= 0,
    },
  )


def near_matches(
  in_training: memorization.Copying,
  in_unseen: memorization.Copying,
  threshold: float,
  training_share: float,
) -> dict[str, float]:
  """Counts what near copies are nearest to: training or unseen music.

  Args:
    in_training: Spans compared with the music that was trained on.
    in_unseen: The same spans, with music that was not.
    threshold: Share of equal positions above which a match is near.
    training_share: Of the places of both at which a span may match.
  """
  best = np.stack([in_training.shares, in_unseen.shares])
  near = best[:, best.max(axis=0) > threshold]
  return {
    'spans': near.shape[1],
    'nearest_in_training': int((near[0] > near[1]).sum()),
    'nearest_in_unseen': int((near[0] < near[1]).sum()),
    'training_share': training_share,
  }


def copy_figures(
  generated: memorization.Copying, held_out: memorization.Copying
) -> dict:
  """Rates and typical shares of both, for the report."""
  if not len(generated.shares):
    return {'generated_left_out': generated.left_out}
  threshold = near_threshold(held_out)
  return {
    'near_threshold': threshold,
    **{
      f'{name}_{figure}': value
      for name, part in (('generated', generated), ('held_out', held_out))
      for figure, value in (
        ('exact_rate', part.exact_rate()),
        ('near_rate', float(part.near_rates(threshold).mean())),
        ('mean_share', float(part.shares.mean())),
        ('largest_share', float(part.shares.max())),
        ('spans', len(part.shares)),
        ('left_out', part.left_out),
      )
    },
  }


def copy_gates(
  artifacts: Artifacts, made: Generated
) -> tuple[list[gates.Gate], dict]:
  """`cascade_copy` and `negative_controls`."""
  rate = artifacts.bundle.contract.streams['semantic'].frame_rate
  records = artifacts.semantic_training
  training = [record.semantic for record in records]
  unseen = [record.semantic for record in artifacts.test.records]

  def measure(
    streams: Sequence[np.ndarray],
    units: Sequence,
    corpus: Sequence[np.ndarray] = training,
  ) -> memorization.Copying:
    return memorization.measure(
      streams, units, corpus, frame_rate=rate, least_bits=LEAST_BITS
    )

  real = artifacts.test.spread_records(1, _HELD_OUT_PIECES)
  held_out = measure(
    [record.semantic for record in real], [record.piece_id for record in real]
  )
  prompts = range(len(made.prompts))
  streams = list(made.semantic.reshape(-1, made.semantic.shape[-1]))
  owners = [p for p in prompts for _ in range(cascade_checks.SEEDS)]
  ours = measure(streams, owners)
  places = [_places(corpus, rate) for corpus in (training, unseen)]
  matches = near_matches(
    ours,
    measure(streams, owners, unseen),
    near_threshold(held_out),
    places[0] / sum(places),
  )
  levels = max(1, artifacts.bundle.settings.mulan_levels)
  nearest = controls.nearest_by_tokens(
    made.text_codes[:, :levels],
    np.stack([record.mulan for record in records])[:, :levels],
  )
  retrieved = measure([training[i] for i in nearest], list(prompts))
  families = list(dict.fromkeys(made.prompts.families))
  tones = [
    [music.measure(controls.constant_tone(family, cascade_checks.SECONDS))]
    for family in families
  ]
  first_of_each = [made.prompts.families.index(family) for family in families]
  ceiling = [music.measure(made.real[i]) for i in first_of_each]
  never_equal = np.zeros(len(tones))
  gate = copy_gate(ours, held_out)
  control = controls.gate(
    copy_gate(retrieved, held_out),
    cascade_checks.music_gate(tones, ceiling, never_equal),
  )
  return [gate, control], {
    'cascade_copy': {**copy_figures(ours, held_out), 'near_matches': matches},
    'negative_controls': {
      'retrieval': copy_figures(retrieved, held_out),
      'constant_tone': cascade_checks.music_figures(tones),
    },
  }


def _places(corpus: Sequence[np.ndarray], frame_rate: float) -> int:
  """At how many places a span of 5 s can begin."""
  length = round(memorization.SPAN_SECONDS * frame_rate)
  return sum(max(len(stream) - length + 1, 0) for stream in corpus)
