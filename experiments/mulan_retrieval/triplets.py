"""Text triplets: facts in two wordings, and the second with one fact changed.

An anchor lists two or three facts of a clip in words of training captions;
`same` lists them in other words and another order; `other` is `same` but for
the words of one fact. So only that fact tells the two apart.
"""

import dataclasses

import numpy as np
from material import Clips

from musiclm_jax.rendered_music import (
  captions,
  paraphrases,
  programs,
  styles,
  truth,
)

TRAINED: dict[str, dict[str, tuple[str, ...]]] = {
  'lead': {words[0]: words for words in programs.FAMILY_WORDS.values()},
  'style': {s.name: (s.name, *s.synonyms) for s in styles.STYLES},
  'tempo_class': captions.TEMPO,
  'mood': {moods[0]: moods for moods in truth.MOODS.values()},
  'loudness': captions.LOUD,
  'brightness': captions.BRIGHT,
  'density': captions.DENSE,
}
WORDS = {'trained words': TRAINED, 'unseen words': paraphrases.WORDS}


@dataclasses.dataclass(frozen=True)
class Triplet:
  """Three texts and the attribute in which the last differs."""

  anchor: str
  same: str
  other: str
  changed: str


def make(clips: Clips, kind: str) -> list[Triplet]:
  """One triplet of each clip of which two facts can be said.

  Args:
    clips: What is heard in them.
    kind: In `WORDS`, whence the words of `same` and `other` come.
  """
  made = (
    _triplet(
      paraphrases.sayable(heard), WORDS[kind], np.random.default_rng([3, index])
    )
    for index, heard in enumerate(clips.heard)
    if not heard['near_silence']
  )
  return [triplet for triplet in made if triplet]


def _triplet(facts: dict[str, str], words, rng) -> Triplet | None:
  # A mood goes with a tempo: to change one of them alone would be no fact.
  facts.pop(('mood', 'tempo_class')[rng.integers(2)], None)
  names = [str(name) for name in rng.permutation(sorted(facts))][:3]
  if len(names) < 2:
    return None
  changed = names[0]
  values = [v for v in words[changed] if v != facts[changed]]
  wrong = facts | {changed: values[rng.integers(len(values))]}
  first = {n: rng.permutation(TRAINED[n][facts[n]]) for n in names}
  draw = {n: rng.random() for n in names}

  def again(told: dict[str, str]) -> str:
    chosen = []
    for name in reversed(names):
      options = words[name][told[name]]
      fresh = [o for o in options if o != first[name][0]] or list(options)
      chosen.append(fresh[int(draw[name] * len(fresh))])
    return ', '.join(chosen)

  anchor = ', '.join(str(first[name][0]) for name in names)
  return Triplet(anchor, again(facts), again(wrong), changed)
