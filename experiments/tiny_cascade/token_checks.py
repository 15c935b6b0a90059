"""Checks of what makes tokens: codec, semantic tokens, MuLan.

Artifacts -> `codec_*`, `semantic_usage`, `mulan_recall`, `mulan_handover`, and
figures. What semantic tokens know of the music: `semantic_checks.py`.
"""

import dataclasses
from collections.abc import Hashable, Sequence

import numpy as np

from experiments.tiny_cascade import codec_checks, gates
from experiments.tiny_cascade.artifacts import Artifacts, CorpusSplit, Excerpt
from musiclm_jax.metrics import bootstrap, retrieval
from musiclm_jax.metrics import codec as codec_metrics

GALLERY = 64

_CODEC_SECONDS = 5.0
_CODEC_CLIPS = 64
_RETRIEVAL_SECONDS = 10.0
_RETRIEVAL_PAIRS = 192
_RETRIEVAL_CAPTIONS = 4  # of each crop, so that its figure is no luck
_DISTINCT = ('style', 'lead_program', 'tempo_class', 'near_silence')


def codec(
  artifacts: Artifacts,
) -> tuple[list[gates.Gate], dict, tuple[np.ndarray, np.ndarray]]:
  """The codec's gates, figures, and clips before and after it."""
  split = artifacts.test
  per_piece = -(-_CODEC_CLIPS // len(split.source))
  crops = split.crops(_CODEC_SECONDS, per_piece, _CODEC_CLIPS)
  clips = np.stack([split.read(crop) for crop in crops])
  figures, decoded = codec_checks.measure(
    clips,
    artifacts.codec.encode,
    artifacts.codec.decode,
    artifacts.codec.forward,
    artifacts.codec.codebook_size,
  )
  return (
    codec_checks.all_gates(figures),
    codec_checks.report_figures(figures),
    (clips, decoded),
  )


def semantic_usage(artifacts: Artifacts) -> tuple[gates.Gate, dict]:
  """`semantic_usage` over all held-out tokens."""
  size = artifacts.bundle.contract.streams['semantic'].codebook_size
  counts = np.stack(
    [
      np.bincount(record.semantic, minlength=size)
      for record in artifacts.test.records
    ]
  )

  def share(units: np.ndarray) -> float:
    return float(codec_metrics.perplexity(counts[units].sum(axis=0))) / size

  interval = bootstrap.spread(share, len(counts))
  least = gates.SMALLEST_SEMANTIC_USAGE
  gate = gates.make(
    'semantic_usage',
    interval,
    least,
    {'perplexity >= 25 % of K': interval.value >= least},
  )
  return gate, {'codebook_size': size, 'tokens': int(counts.sum())}


def distinct(attributes: Sequence[Hashable]) -> list[int]:
  """Indices of the first pair of every attribute tuple."""
  seen: dict[Hashable, int] = {}
  for index, value in enumerate(attributes):
    seen.setdefault(value, index)
  return list(seen.values())


def recall_gate(hits: np.ndarray, gallery: int = GALLERY) -> gates.Gate:
  """`mulan_recall`: the lower bound of R@1 reaches five times chance."""
  interval = bootstrap.mean(hits)
  chance = 1 / gallery
  words = f'R@1 over {gallery} pairs >= {gates.RECALL_OVER_CHANCE} x chance'
  return gates.make(
    'mulan_recall',
    interval,
    chance,
    {words: interval.low >= gates.RECALL_OVER_CHANCE * chance},
  )


@dataclasses.dataclass(frozen=True)
class CodeAgreement:
  """Equal codes of text and audio, per pair and level.

  Attributes:
    matched: Of pairs that belong together, per piece [U, L].
    chance: Of each text with the audio of other pieces, per piece [U, L].
  """

  matched: np.ndarray
  chance: np.ndarray

  def margin(self, level: int) -> bootstrap.Interval:
    """Agreement above chance at a level, from 0."""
    return bootstrap.difference(self.matched[:, level], self.chance[:, level])


def code_agreement(
  text_codes: np.ndarray, audio_codes: np.ndarray, units: Sequence[Hashable]
) -> CodeAgreement:
  """Compares codes of captions and crops.

  Args:
    text_codes: [N, L].
    audio_codes: [N, L] of the crops that the captions describe.
    units: Piece of each pair.
  """
  units = list(units)
  matched, chance = [], []
  others = np.array([[a != b for b in units] for a in units])
  for level in range(text_codes.shape[1]):
    equal = text_codes[:, level, None] == audio_codes[None, :, level]
    matched.append(bootstrap.unit_means(np.diag(equal), units)[0])
    expected = (equal & others).sum(axis=1) / np.maximum(others.sum(axis=1), 1)
    chance.append(bootstrap.unit_means(expected, units)[0])
  return CodeAgreement(np.stack(matched, axis=1), np.stack(chance, axis=1))


def handover_gate(measured: CodeAgreement) -> gates.Gate:
  """`mulan_handover`: the first two levels agree above chance."""
  margins = [measured.margin(level) for level in (0, 1)]
  weakest = int(np.argmin([margin.low for margin in margins]))
  chance = float(measured.chance[:, weakest].mean())
  return gates.make(
    'mulan_handover',
    margins[weakest].shifted(chance),
    chance,
    {
      f'level {level + 1}: text and audio agree above chance': margin.low > 0
      for level, margin in enumerate(margins)
    },
  )


def agreement_figures(measured: CodeAgreement) -> dict:
  """Agreement and chance of every level, for the report."""
  return {
    'agreement_per_level': measured.matched.mean(axis=0),
    'chance_per_level': measured.chance.mean(axis=0),
  }


def mulan_recall(artifacts: Artifacts, seed: int) -> tuple[gates.Gate, dict]:
  """`mulan_recall` over held-out pairs that differ in their attributes."""
  split = artifacts.test
  crops = split.crops(_RETRIEVAL_SECONDS, 3, 3 * len(split.source))
  keys = [_attribute_key(split, crop) for crop in crops]
  chosen = distinct(keys)[:_RETRIEVAL_PAIRS]
  crops = [crops[i] for i in chosen]
  rng = np.random.default_rng([seed, 1])
  audio = artifacts.audio_embeddings(np.stack([split.read(c) for c in crops]))
  gallery = min(GALLERY, len(crops))
  said = [
    artifacts.text_embeddings([split.describe(crop, rng)[0] for crop in crops])
    for _ in range(_RETRIEVAL_CAPTIONS)
  ]
  hits = np.mean(
    [retrieval.gallery_recall(words, audio, gallery=gallery) for words in said],
    axis=0,
  )
  hits, _ = bootstrap.unit_means(hits, [crop.piece for crop in crops])
  gate = recall_gate(hits, gallery)
  if gallery < GALLERY:
    gate = gates.make(
      'mulan_recall',
      gate.value,
      gate.chance,
      {f'{GALLERY} attribute-distinct pairs': False},
    )
  return gate, {
    'r_at_1': bootstrap.mean(hits),
    'gallery': gallery,
    'pairs': len(crops),
    'cosine_own': float(np.mean([(w * audio).sum(axis=1) for w in said])),
    'cosine_other': float(np.mean([w @ audio.T for w in said])),
  }


def _attribute_key(split: CorpusSplit, crop: Excerpt) -> tuple:
  """What a caption is mostly about; pairs that share it are not told apart."""
  attributes = split.attributes(crop)
  return tuple(attributes.get(name) for name in _DISTINCT)


def mulan_handover(artifacts: Artifacts) -> tuple[gates.Gate, dict]:
  """`mulan_handover` over all held-out captions in the token store."""
  text, audio, units = [], [], []
  for record in artifacts.test.spread_records(3, 300):
    for row in record.mulan_text:
      text.append(row)
      audio.append(record.mulan)
      units.append(record.piece_id)
  measured = code_agreement(np.stack(text), np.stack(audio), units)
  return handover_gate(measured), agreement_figures(measured)
