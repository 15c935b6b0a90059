"""What semantic tokens know of the music: notes rather than instruments.

Held-out crops -> features of the layer that becomes tokens -> linear probes of
single frames: the lead's pitch class, the chord, the beginning of notes. Takes
of one melody by two casts -> share of semantic tokens that stay, beside that of
acoustic ones -> `semantic_probe`. The same network untrained, and log-mels,
stand beside it.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from experiments.semantic_tokens import labels, takes, token_agreement
from experiments.tiny_cascade import gates
from experiments.tiny_cascade.artifacts import (
  Artifacts,
  CorpusSplit,
  in_batches,
)
from musiclm_jax.contracts.audio import SAMPLE_RATE
from musiclm_jax.metrics import bootstrap, probe

OURS = 'w2v_bert'
SECONDS = 10.0
TASKS = ('lead_pitch', 'chord', 'onset')
# What always naming one class has: classes are balanced.
CHANCE = {'lead_pitch': 1 / 12, 'chord': 1 / 24, 'onset': 0.5}
_PIECES = {'train': 256, 'test': 128}  # a crop of each
_FRAMES = 16  # of each crop
_CHUNK = 64  # clips in memory at once
TAKES = 32

Features = Callable[[np.ndarray], np.ndarray]  # [B, S] -> [B, T, D]


@dataclasses.dataclass(frozen=True)
class ProbedFrames:
  """Single frames of the crops of one split.

  Attributes:
    pieces: Piece of each frame [N].
    labels: Task -> label of each frame [N], `probe.NO_LABEL` without one.
    features: Stream (`w2v_bert`, `untrained`, `log_mel`) -> [N, D].
  """

  pieces: np.ndarray
  labels: Mapping[str, np.ndarray]
  features: Mapping[str, np.ndarray]


def frame_probes(
  train: ProbedFrames, test: ProbedFrames
) -> dict[str, dict[str, bootstrap.Interval]]:
  """Probes every stream: stream -> task -> accuracy, of onsets the AUC."""
  return {
    name: {
      task: _probed(
        task,
        (train.features[name], test.features[name]),
        (train.labels[task], test.labels[task]),
        test.pieces,
      )
      for task in TASKS
    }
    for name in train.features
  }


def _probed(
  task: str,
  features: tuple[np.ndarray, np.ndarray],
  truth: tuple[np.ndarray, np.ndarray],
  pieces: np.ndarray,
) -> bootstrap.Interval:
  """One stream's probe of one task; of two sides the first is learned from."""
  if task == 'onset':
    scores = probe.probe_scores(features[0], truth[0] == 1, features[1])
    return probe.area_under_curve(scores, truth[1], pieces)
  known = [side != probe.NO_LABEL for side in truth]
  (train_x, test_x), (train_y, test_y) = (
    [side[rows] for side, rows in zip(sides, known, strict=True)]
    for sides in (features, truth)
  )
  hits = probe.probe_hits(train_x, train_y.tolist(), test_x, test_y.tolist())
  return probe.balanced_accuracy(hits, test_y, pieces[known[1]])


def probe_gate(
  probed: Mapping[str, bootstrap.Interval], kept: bootstrap.Interval
) -> gates.Gate:
  """`semantic_probe`: frames know pitch, chord and onset, not instruments.

  The figure that is shown is that of the lead's pitch.

  Args:
    probed: Task -> what our stream's probe reaches.
    kept: How often more semantic than acoustic tokens stay when other
      instruments play the same notes.
  """
  least = {
    'lead_pitch': gates.SMALLEST_PITCH_ACCURACY,
    'chord': gates.SMALLEST_CHORD_ACCURACY,
    'onset': gates.SMALLEST_ONSET_AREA,
  }
  return gates.make(
    'semantic_probe',
    probed['lead_pitch'],
    least['lead_pitch'],
    {
      "the lead's pitch class in >= 75 % of frames": (
        probed['lead_pitch'].low >= least['lead_pitch']
      ),
      'the chord in >= 40 % of frames': probed['chord'].low >= least['chord'],
      'onsets with an AUC >= 0.8': probed['onset'].low >= least['onset'],
      'other instruments keep >= 2 x as many tokens as of the coarse codes': (
        kept.low >= gates.SMALLEST_INVARIANCE
      ),
    },
    machinery={
      "the lead's pitch class above chance": (
        probed['lead_pitch'].low > CHANCE['lead_pitch']
      ),
    },
  )


def semantic_probe(artifacts: Artifacts, seed: int) -> tuple[gates.Gate, dict]:
  """`semantic_probe` of held-out crops, and of takes of held-out melodies."""
  rate = artifacts.bundle.contract.streams['semantic'].frame_rate
  features = artifacts.trained_features()
  streams: dict[str, Features] = {
    OURS: features,
    'untrained': artifacts.initial_features(),
    'log_mel': lambda rows: np.stack([_log_mels(row, rate) for row in rows]),
  }
  probed = frame_probes(
    *(
      _frames(split, _PIECES[name], streams)
      for name, split in (('train', artifacts.train), ('test', artifacts.test))
    )
  )
  kept, figures = timbre_invariance(artifacts, features, seed)
  return probe_gate(probed[OURS], kept), {
    'chance': CHANCE,
    **probed,
    'invariance': figures,
  }


def _log_mels(waveform: np.ndarray, rate: float) -> np.ndarray:
  """Log-mel frames [T, 64] with the middles of the semantic ones."""
  half = round(SAMPLE_RATE / rate / 2)
  return probe.log_mel_frames(np.append(waveform[half:], np.zeros(half)), rate)


def _frames(
  split: CorpusSplit, pieces: int, streams: Mapping[str, Features]
) -> ProbedFrames:
  """Some frames of a crop of each of the first pieces with a lead."""
  count = round(SECONDS / labels.FRAME)
  crops = [
    crop
    for crop in split.crops(SECONDS, 1, pieces)
    if split.attributes(crop)['lead_family']
  ]
  owners: list[int] = []
  truth: dict[str, list] = {task: [] for task in TASKS}
  found: dict[str, list] = {name: [] for name in streams}
  for first in range(0, len(crops), _CHUNK):
    some = crops[first : first + _CHUNK]
    clips = np.stack([split.read(crop) for crop in some])
    chosen = [_chosen(crop.piece, count) for crop in some]
    for name, stream in streams.items():
      rows = in_batches(stream, clips)
      found[name] += [row[at] for row, at in zip(rows, chosen, strict=True)]
    for crop, at in zip(some, chosen, strict=True):
      record = split.source.descriptions.truth(crop.piece)
      sounding = labels.of_frames(record, crop.start_seconds, count)
      for task in TASKS:
        truth[task].append(sounding[task][at])
      owners += [crop.piece] * len(at)
  return ProbedFrames(
    np.array(owners),
    {task: np.concatenate(parts) for task, parts in truth.items()},
    {name: np.concatenate(parts) for name, parts in found.items()},
  )


def _chosen(piece: int, count: int) -> np.ndarray:
  """The frames of a piece's crop that are probed."""
  rng = np.random.default_rng([piece, 3])
  return np.sort(rng.permutation(count)[:_FRAMES])


def timbre_invariance(
  artifacts: Artifacts, features: Features, seed: int
) -> tuple[bootstrap.Interval, dict]:
  """How often more semantic than coarse tokens stay with other instruments.

  Args:
    artifacts: Of the run.
    features: Of the layer that becomes tokens.
    seed: Of the run's corpus, whose held-out melodies are played.
  """
  played = takes.play('solo', TAKES, seed)
  levels = artifacts.networks['coarse'].model.layout.predicted.num_levels
  codebook = artifacts.networks['kmeans']

  def semantic(rows: np.ndarray) -> np.ndarray:
    return codebook.model.assign(codebook.collections, features(rows))

  ours, theirs = (
    token_agreement.mean_of(_agreement(encode, played))
    for encode in (
      lambda clips: in_batches(semantic, clips),
      lambda clips: artifacts.codec.encode(clips)[..., :levels],
    )
  )
  kept = token_agreement.ratio(ours, theirs)
  return kept, {
    'over_coarse': kept,
    'semantic': token_agreement.interval(ours),
    'coarse': token_agreement.interval(theirs),
  }


def _agreement(
  encode: Callable[[np.ndarray], np.ndarray], played: takes.Takes
) -> Sequence[token_agreement.Agreement]:
  """Agreement of both takes' tokens [U, T, Q] at each level."""
  first, second = encode(played.first), encode(played.second)
  repeats = first.shape[1] // played.heard.shape[1]
  heard = np.repeat(played.heard, repeats, axis=1)
  return token_agreement.measure(first, second, heard, played.groups)
