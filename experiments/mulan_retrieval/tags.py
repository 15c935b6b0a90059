"""Zero-shot tagging: the word of a tag against clips with and without it."""

from collections.abc import Sequence

import numpy as np
from material import Clips
from sklearn.metrics import roc_auc_score

from musiclm_jax.metrics import bootstrap
from musiclm_jax.rendered_music import captions, paraphrases

_FEWEST = 8  # clips with the tag, and without
_METRES = {metre: words[0] for metre, words in captions.METRE.items()}
ATTRIBUTES = (
  *('lead', 'style', 'tempo_class', 'mood', 'metre', 'mode'),
  *('loudness', 'brightness', 'density', 'texture'),
)


class Tags:
  """Tags of all attributes and the clips that bear them.

  Attributes:
    prompts: One a tag, its bare word, as some captions are.
    attributes: Of each tag.
    positive: bool [clips, tags]; near silence bears none.
    audible: bool [clips].
  """

  def __init__(self, clips: Clips):
    """Takes the tags that at least a few clips bear and lack."""
    self.audible = np.array([not h['near_silence'] for h in clips.heard])
    self.prompts, self.attributes, columns = [], [], []
    for attribute in ATTRIBUTES:
      values = [
        paraphrases.lead_word(h) if attribute == 'lead' else h[attribute]
        for h in clips.heard
      ]
      for value in sorted({v for v in values if v}):
        column = np.array([v == value for v in values]) & self.audible
        lacking = self.audible.sum() - column.sum()
        neither = value in ('neutral', 'moderate')  # no word is said of these
        if neither or min(column.sum(), lacking) < _FEWEST:
          continue
        self.prompts.append(_METRES.get(value, value))
        self.attributes.append(attribute)
        columns.append(column)
    self.positive = np.stack(columns, axis=1)

  def auc(self, scores: np.ndarray, attribute: str, index: np.ndarray) -> float:
    """Mean ROC-AUC of an attribute's tags over some of the audible clips.

    Args:
      scores: [clips, tags].
      attribute: In `ATTRIBUTES`, or `all` for the mean over attributes.
      index: Into the audible clips, with repetitions.
    """
    if attribute == 'all':
      return float(np.mean([self.auc(scores, a, index) for a in self.names()]))
    index = np.flatnonzero(self.audible)[index]
    found = [
      roc_auc_score(self.positive[index, tag], scores[index, tag])
      for tag, own in enumerate(self.attributes)
      if own == attribute and 0 < self.positive[index, tag].sum() < len(index)
    ]
    return float(np.mean(found))

  def names(self) -> list[str]:
    """Attributes that have a tag."""
    return list(dict.fromkeys(self.attributes))

  def intervals(
    self, networks: Sequence[np.ndarray], resamples: int = 100
  ) -> dict[str, bootstrap.Interval]:
    """AUC per attribute of one network's scores, or ours minus theirs."""
    ours, *theirs = networks

    def figure(attribute: str):
      def over(index: np.ndarray) -> float:
        value = self.auc(ours, attribute, index)
        return value - (self.auc(theirs[0], attribute, index) if theirs else 0)

      return over

    count = int(self.audible.sum())
    return {
      name: bootstrap.spread(figure(name), count, resamples=resamples)
      for name in ('all', *self.names())
    }
