"""Who listens: what was asked for and what was made -> scores [P, P].

Row p of a score is what prompt p asks for, column q what was made of prompt q.
The tagger and the classifier of lead families have learned apart from every
network of a cascade; a text score is of the very MuLan that conditions.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from experiments.tiny_cascade import (
  classifiers,
  feature_cache,
  prompt_checks,
)
from musiclm_jax.cascade.musiclm import MusicLM
from musiclm_jax.nn.embedding import unit

TAGGER, FAMILY, MULAN = 'tagger', 'lead family', 'MuLan'


@dataclasses.dataclass(frozen=True)
class Asked:
  """What P prompts ask for.

  Attributes:
    texts: The prompts.
    families: The lead family that each names.
    crops: Music that each describes [P, S].
  """

  texts: Sequence[str]
  families: Sequence[str]
  crops: np.ndarray

  def rolled(self, places: int) -> 'Asked':
    """The prompts of others: prompt p becomes that of p + places."""
    return self.chosen(np.roll(np.arange(len(self.texts)), -places))

  def chosen(self, order: Sequence[int]) -> 'Asked':
    """The prompts in these places."""
    return Asked(
      [self.texts[i] for i in order],
      [self.families[i] for i in order],
      self.crops[order],
    )


def hear(
  model: MusicLM, asked: Asked, groups: Mapping[str, np.ndarray]
) -> dict[str, dict[str, np.ndarray]]:
  """Scores groups of clips, each with a clip a prompt.

  Embeddings are centred over all groups, so that what all clips share, such as
  the codec, is nobody's.

  Args:
    model: Whose MuLan scores texts.
    asked: Of P prompts.
    groups: Name -> clips [P, S].

  Returns:
    Ear -> group -> scores [P, P].
  """
  names = list(groups)
  crops, *heard = prompt_checks.tagger_means([asked.crops, *groups.values()])
  centre = np.concatenate(heard).mean(axis=0)
  wanted = unit(crops - crops.mean(axis=0))
  by_tagger = {
    name: np.asarray(wanted @ unit(clips - centre).T)
    for name, clips in zip(names, heard, strict=True)
  }
  families, _ = classifiers.load()
  columns = [list(families.names).index(name) for name in asked.families]
  by_family, by_mulan = {}, {}
  texts = model.embed_text(list(asked.texts))
  for name, clips in groups.items():
    windows = [timbre for timbre, _ in feature_cache.features_of(clips)]
    found = families.scores(windows)
    by_family[name] = (found - found.mean(axis=1, keepdims=True))[:, columns].T
    by_mulan[name] = texts @ model.embed_audio(clips).T
  return {TAGGER: by_tagger, FAMILY: by_family, MULAN: by_mulan}


def own(scores: np.ndarray) -> np.ndarray:
  """Of each prompt's own clip [P]."""
  return np.diag(scores)


def above_others(scores: np.ndarray) -> np.ndarray:
  """Own score less the mean of what other prompts find in the clip [P]."""
  others = (scores.sum(axis=0) - own(scores)) / (len(scores) - 1)
  return own(scores) - others


def likeness(melody: np.ndarray, made: np.ndarray) -> float:
  """Correlation of two chromas [T, 12] in time, in the best of twelve keys.

  Each class is centred over time: to be in one key is no melody.
  """
  length = min(len(melody), len(made))
  a, b = (x[:length] - x[:length].mean(axis=0) for x in (melody, made))
  norm = np.linalg.norm(a) * np.linalg.norm(b)
  if not norm:
    return 0.0
  return max(float((a * np.roll(b, k, axis=1)).sum() / norm) for k in range(12))
