"""Measures of what makes tokens: codec, semantic tokens, MuLan.

Material -> gates and figures; the arithmetic is in `codec_gates`,
`semantic_probe` and `retrieval`.
"""

from collections.abc import Callable

import numpy as np

from musiclm_jax.data.token_store import TokenRecord
from musiclm_jax.evaluation import (
  codec_gates,
  codec_quality,
  gates,
  retrieval,
  semantic_probe,
  statistics,
)
from musiclm_jax.evaluation.material import Crop, Material, Split, in_batches

_CODEC_SECONDS = 5.0
_CODEC_CLIPS = 64
_PROBE_TRAIN, _PROBE_TEST = 600, 240
_PROBE_CHUNK = 64  # clips in memory at once
_RETRIEVAL_SECONDS = 10.0
_RETRIEVAL_PAIRS = 192
_RETRIEVAL_CAPTIONS = 4  # of each crop, so that its figure is no luck
_DISTINCT = ('style', 'lead_program', 'tempo_class', 'near_silence')


def codec(
  material: Material,
) -> tuple[list[gates.Gate], dict, tuple[np.ndarray, np.ndarray]]:
  """The codec's gates, figures, and clips before and after it."""
  split = material.test
  per_piece = -(-_CODEC_CLIPS // len(split.source))
  crops = split.crops(_CODEC_SECONDS, per_piece, _CODEC_CLIPS)
  clips = np.stack([split.read(crop) for crop in crops])
  network = material.networks['soundstream']

  def forward(waveforms: np.ndarray) -> np.ndarray:
    import jax

    def whole(rows):
      task = network.task
      return task.reconstruct(network.params, network.collections, rows)[0]

    return in_batches(jax.jit(whole), waveforms)

  figures, decoded = codec_gates.measure(
    clips,
    material.codec.encode,
    material.codec.decode,
    forward,
    network.task.codebook_size,
  )
  return (
    codec_gates.all_gates(figures),
    codec_gates.report_figures(figures),
    (clips, decoded),
  )


def semantic_usage(material: Material) -> tuple[gates.Gate, dict]:
  """`semantic_usage` over all held-out tokens."""
  size = material.bundle.contract.streams['semantic'].codebook_size
  counts = np.stack(
    [
      np.bincount(record.semantic, minlength=size)
      for record in material.test.records
    ]
  )

  def share(units: np.ndarray) -> float:
    return float(codec_quality.perplexity(counts[units].sum(axis=0))) / size

  interval = statistics.bootstrap_spread(share, len(counts))
  least = gates.SMALLEST_SEMANTIC_USAGE
  gate = gates.make(
    'semantic_usage',
    interval,
    least,
    {'perplexity >= 25 % of K': interval.value >= least},
  )
  return gate, {'codebook_size': size, 'tokens': int(counts.sum())}


def semantic_probe_gate(
  material: Material, seed: int
) -> tuple[gates.Gate, dict]:
  """`semantic_probe`, with all baselines of equal K."""
  size = material.bundle.contract.streams['semantic'].codebook_size
  rate = material.bundle.contract.streams['semantic'].frame_rate
  sides = (
    _led(material.train, material.train.spread_records(1, _PROBE_TRAIN)),
    _led(material.test, material.test.spread_records(3, _PROBE_TEST)),
  )
  untrained_features = _untrained_features(material)
  ours, mels, untrained, labels = [], [], [], []
  for split, records in sides:
    crops = [split.crop(record) for record in records]
    ours.append([record.semantic for record in records])
    labels.append([split.attributes(crop) for crop in crops])
    mels.append([])
    untrained.append([])
    for first in range(0, len(crops), _PROBE_CHUNK):
      part = [split.read(crop) for crop in crops[first : first + _PROBE_CHUNK]]
      mels[-1] += [semantic_probe.log_mel_frames(c, rate) for c in part]
      untrained[-1] += list(in_batches(untrained_features, np.stack(part)))
  edges = semantic_probe.tempo_edges([a['bpm'] for a in labels[0]])
  train, test = (
    semantic_probe.Crops(
      [record.piece_id for record in records],
      {
        'family': [a['lead_family'] for a in side],
        'tempo': semantic_probe.tempo_classes([a['bpm'] for a in side], edges),
      },
    )
    for (_, records), side in zip(sides, labels, strict=True)
  )
  cepstra = [[semantic_probe.mfcc_frames(m) for m in side] for side in mels]
  streams = {
    semantic_probe.OURS: tuple(ours),
    'log_mel': semantic_probe.kmeans_tokens(*mels, size, seed),
    'mfcc': semantic_probe.kmeans_tokens(*cepstra, size, seed),
    'untrained': semantic_probe.kmeans_tokens(*untrained, size, seed),
  }
  results = semantic_probe.probe(streams, train, test, size)
  return semantic_probe.gate(results), semantic_probe.figures(results)


def _led(
  split: Split, records: list[TokenRecord]
) -> tuple[Split, list[TokenRecord]]:
  """The split with those records in which a lead is audible."""
  return split, [
    record
    for record in records
    if split.attributes(split.crop(record))['lead_family']
  ]


def _untrained_features(
  material: Material,
) -> Callable[[np.ndarray], np.ndarray]:
  """Features [B, T, D] of the same network before any training.

  It reads input that is standardised like the trained one's: statistics of
  the corpus are not what training has to show.
  """
  import jax
  from flax import linen as nn

  network = material.networks['w2v_bert']
  example = {'waveform': np.zeros((1, 48_000), np.float32)}
  params, _ = network.task.init(jax.random.key(0), example)
  params = nn.unbox(params)
  return jax.jit(
    lambda rows: network.task.features(params, network.collections, rows)
  )


def mulan_recall(material: Material, seed: int) -> tuple[gates.Gate, dict]:
  """`mulan_recall` over held-out pairs that differ in their attributes."""
  split = material.test
  crops = split.crops(_RETRIEVAL_SECONDS, 3, 3 * len(split.source))
  keys = [_attribute_key(split, crop) for crop in crops]
  chosen = retrieval.distinct(keys)[:_RETRIEVAL_PAIRS]
  crops = [crops[i] for i in chosen]
  rng = np.random.default_rng([seed, 1])
  audio = material.audio_embeddings(np.stack([split.read(c) for c in crops]))
  gallery = min(retrieval.GALLERY, len(crops))
  said = [
    material.text_embeddings([split.caption(crop, rng) for crop in crops])
    for _ in range(_RETRIEVAL_CAPTIONS)
  ]
  hits = np.mean(
    [retrieval.recall_at_1(words, audio, gallery=gallery) for words in said],
    axis=0,
  )
  hits, _ = statistics.unit_means(hits, [crop.piece for crop in crops])
  gate = retrieval.recall_gate(hits, gallery)
  if gallery < retrieval.GALLERY:
    gate = gates.make(
      'mulan_recall',
      gate.value,
      gate.chance,
      {f'{retrieval.GALLERY} attribute-distinct pairs': False},
    )
  return gate, {
    'r_at_1': statistics.bootstrap_mean(hits),
    'gallery': gallery,
    'pairs': len(crops),
    'cosine_own': float(np.mean([(w * audio).sum(axis=1) for w in said])),
    'cosine_other': float(np.mean([w @ audio.T for w in said])),
  }


def _attribute_key(split: Split, crop: Crop) -> tuple:
  """What a caption is mostly about; pairs that share it are not told apart."""
  attributes = split.attributes(crop)
  return tuple(attributes.get(name) for name in _DISTINCT)


def mulan_handover(material: Material) -> tuple[gates.Gate, dict]:
  """`mulan_handover` over all held-out captions in the token store."""
  text, audio, units = [], [], []
  for record in material.test.spread_records(3, 300):
    for row in record.mulan_text:
      text.append(row)
      audio.append(record.mulan)
      units.append(record.piece_id)
  measured = retrieval.agreement(np.stack(text), np.stack(audio), units)
  return retrieval.handover_gate(measured), retrieval.figures(measured)
