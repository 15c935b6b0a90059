"""Classifiers: waveform [S] -> logits [N, K], with what they are worth.

The heads of the tagger that comes with the package, and PANNs where its
published weights are given. Each of ours knows its accuracy on held-out clips,
plain and coded; one that is not good enough decides nothing, and its figures
say so.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from musiclm_jax.dsp import vggish_mel
from musiclm_jax.evaluation import embedders, panns, tagger
from musiclm_jax.nn.precision import exact

# What a head must reach on plain and on coded clips before its figures count:
# the family as elsewhere in this project, the others likewise.
THRESHOLD = 0.85


@dataclasses.dataclass(frozen=True)
class Classifier:
  """One head of a network.

  Attributes:
    name: In keys of results, such as `tagger_family`.
    classes: Names, [K].
    scores: `'softmax'` or `'sigmoid'`, as it was trained.
    accuracy: On held-out clips: `'plain'`, `'mp3'`, …; in [0, 1]. Empty
      where it was not measured here.
    majority: What always naming the commonest class would reach there.
    columns: Of the network's logits.
    published: What its authors say of it, where it is not ours.
  """

  name: str
  classes: tuple[str, ...]
  scores: str
  accuracy: Mapping[str, float]
  majority: float
  columns: slice
  published: str = ''

  @property
  def qualified(self) -> bool | None:
    """Whether it is good enough, plain and coded; None if it was not measured.

    Its accuracy reaches 85 %, and it errs at most half as often as who always
    names the commonest class.
    """
    if self.published and not self.accuracy:
      return None
    needed = max(THRESHOLD, 1 - (1 - self.majority) / 2)
    return min(self.accuracy.values(), default=0.0) >= needed


@dataclasses.dataclass(frozen=True)
class Heads:
  """All classifiers of one network; they share one pass.

  Attributes:
    classifiers: By head, such as `family`.
    embedder: Gives the logits of all heads side by side.
  """

  classifiers: Mapping[str, Classifier]
  embedder: embedders.Embedder

  def logits(self, waveforms: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Logits of all heads, [N, sum of K] of each clip."""
    return self.embedder.embed_all(waveforms)


def open_tagger(batch_size: int = embedders.BATCH_SIZE) -> Heads:
  """Opens the tagger that comes with the package.

  It reads examples of 0.96 s without overlap, whatever FAD reads: so it was
  trained and measured.
  """
  trained = tagger.load()
  found, start = {}, 0
  for head, names in trained.classes.items():
    found[head] = Classifier(
      f'{tagger.NAME}_{head}',
      names,
      trained.kinds[head],
      trained.accuracy[head],
      trained.majority[head],
      slice(start, start + len(names)),
    )
    start += len(names)

  @jax.jit
  @exact
  def apply(params, batch):
    logits = trained.network.apply({'params': params}, batch)[1]
    return jnp.concatenate([logits[head] for head in found], axis=1)

  embedder = embedders.Embedder(
    name=tagger.NAME,
    sha256=trained.sha256,
    sample_rate=vggish_mel.SAMPLE_RATE,
    windowing=embedders.WINDOWINGS['vggish'],
    dimension=start,
    inputs=embedders.examples,
    apply=lambda batch: apply(trained.params, batch),
    batch_size=batch_size,
    label='learned from composed music',
  )
  return Heads(found, embedder)


def open_panns(
  network: panns.Panns, batch_size: int = embedders.BATCH_SIZE
) -> Heads:
  """AudioSet's 527 classes by PANNs, of 10 s at a time."""
  embedder = embedders.open_panns(network, 1, batch_size)
  width = embedder.dimension
  classifier = Classifier(
    panns.NAME,
    tuple(f'AudioSet class {k}' for k in range(width)),
    'sigmoid',
    accuracy={},
    majority=0.0,
    columns=slice(0, width),
    published=panns.PUBLISHED,
  )
  return Heads({panns.NAME: classifier}, embedder)
