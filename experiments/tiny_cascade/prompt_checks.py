"""Whether the music is what the prompts ask for.

Generated clips -> embedders, classifiers -> `cascade_prompt`, `cascade_family`,
`cascade_tempo`. The unit is the prompt; baselines are the unconditional model
and the same clips with the prompts of others; the ceiling are the crops that
the prompts describe, through the codec.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import soxr

from experiments.tiny_cascade import classifiers, gates
from experiments.tiny_cascade.artifacts import Artifacts
from experiments.tiny_cascade.cascade_checks import Generated
from experiments.tiny_cascade.classifiers import Classifiers, Qualification
from musiclm_jax.contracts.audio import SAMPLE_RATE
from musiclm_jax.evaluation import embedders
from musiclm_jax.metrics import bootstrap
from musiclm_jax.rendered_music.truth import tempo_class


@dataclasses.dataclass(frozen=True)
class PromptScores:
  """Mean cosines of what is asked for with what was made, per prompt [P].

  By MuLan, what is asked for is the text: the model was conditioned by the same
  MuLan, so that this shows that the prompt is used, not that the music fits it.
  By an embedder of audio, it is the crop that the prompt describes.

  Attributes:
    own: Of the prompt's own clips.
    shuffled: Of the same clips with what the other prompts ask for.
    unconditional: Of the unconditional model's clips with it.
  """

  own: np.ndarray
  shuffled: np.ndarray
  unconditional: np.ndarray

  @classmethod
  def measure(
    cls, asked: np.ndarray, audio: np.ndarray, unconditional: np.ndarray
  ) -> 'PromptScores':
    """Compares unit embeddings.

    Args:
      asked: Of what the prompts ask for [P, D].
      audio: Of their clips [P, R, D].
      unconditional: Of any number of clips without prompt [N, D].
    """
    scores = np.einsum('pd,qrd->pq', asked, audio) / audio.shape[1]
    own = np.diag(scores)
    others = (scores.sum(axis=0) - own) / (len(asked) - 1)
    return cls(own, others, (asked @ unconditional.T).mean(axis=1))

  @property
  def baselines(self) -> dict[str, np.ndarray]:
    """What the own score must be above."""
    return {
      'unconditional model': self.unconditional,
      'shuffled prompts': self.shuffled,
    }

  def figures(self) -> dict:
    """Mean scores and what the prompt adds, for the report."""
    return {
      'own': float(self.own.mean()),
      'shuffled': float(self.shuffled.mean()),
      'unconditional': float(self.unconditional.mean()),
      'above_shuffled': bootstrap.difference(self.own, self.shuffled),
    }


def prompt_gate(scores: Mapping[str, PromptScores]) -> gates.Gate:
  """`cascade_prompt`: above both baselines, by every embedder.

  Args:
    scores: Embedder -> scores; the first is shown.
  """
  conditions, shown = {}, None
  for name, found in scores.items():
    margins = _margins(found.own, found.baselines)
    conditions |= {
      f'{name}: above {baseline}': margin.low > 0
      for baseline, margin in margins.items()
    }
    shown = shown or _closest(margins, found.baselines)
  return gates.make('cascade_prompt', *shown, conditions)


@dataclasses.dataclass(frozen=True)
class ClassHits:
  """How often a classifier names the class that is asked for, per prompt [P].

  Attributes:
    own: In the prompt's own clips.
    shuffled: What the other prompts' clips would score for this prompt.
    unconditional: In the unconditional model's clips.
    classes: The class that each prompt asks for.
  """

  own: np.ndarray
  shuffled: np.ndarray
  unconditional: np.ndarray
  classes: Sequence[str]

  @classmethod
  def measure(
    cls,
    prompted: Sequence[str],
    named: Sequence[Sequence[str]],
    unconditional: Sequence[str],
  ) -> 'ClassHits':
    """Compares what was asked for with what the classifier names.

    Args:
      prompted: Class per prompt [P].
      named: Classifier's class per clip [P][R].
      unconditional: Classifier's class of clips without prompt [N].
    """
    named = np.asarray(named)
    shares = np.array(
      [[(clips == wanted).mean() for clips in named] for wanted in prompted]
    )
    own = np.diag(shares)
    others = (shares.sum(axis=1) - own) / (len(prompted) - 1)
    free = np.asarray(unconditional)
    alone = np.array([(free == wanted).mean() for wanted in prompted])
    return cls(own, others, alone, list(prompted))

  @property
  def baselines(self) -> dict[str, np.ndarray]:
    """What the own share must be above."""
    return {
      'unconditional model': self.unconditional,
      'shuffled prompts': self.shuffled,
    }

  @property
  def accuracy(self) -> bootstrap.Interval:
    """Share of clips that are what was asked for, classes balanced."""
    return bootstrap.mean(self.own, classes=self.classes)

  def above_baselines(self) -> dict[str, bool]:
    """In words, whether the own share is above each baseline."""
    margins = _margins(self.own, self.baselines, self.classes)
    return {f'above {name}': m.low > 0 for name, m in margins.items()}

  def figures(self) -> dict:
    """Shares, for the report."""
    return {
      'own': self.accuracy,
      'shuffled': bootstrap.balanced_mean(self.shuffled, self.classes),
      'unconditional': bootstrap.balanced_mean(
        self.unconditional, self.classes
      ),
    }


def family_gate(hits: ClassHits, worth: Qualification) -> gates.Gate:
  """`cascade_family`: the prompted lead is heard, by a classifier that may say.

  Args:
    hits: Of the family classifier.
    worth: The same classifier's accuracy.
  """
  codec_keeps = worth.kept.low >= gates.SMALLEST_KEPT_BY_CODEC
  stage = None if codec_keeps else 'soundstream'
  return gates.make(
    'cascade_family',
    hits.accuracy,
    gates.SMALLEST_FAMILY_SHARE,
    {
      'right through the codec >= 0.93 times as often as on plain music': (
        codec_keeps
      ),
      '>= 60 % of clips': hits.accuracy.low >= gates.SMALLEST_FAMILY_SHARE,
      **hits.above_baselines(),
    },
    machinery=_may_say(worth),
    stage=stage if worth.qualified else 'evaluate',
  )


def tempo_gate(hits: ClassHits, worth: Qualification) -> gates.Gate:
  """`cascade_tempo`: the prompted tempo is heard more often than by chance.

  Args:
    hits: Of the tempo classifier, in slow, medium and fast.
    worth: The same classifier's accuracy, within 12 %.
  """
  margins = _margins(hits.own, hits.baselines, hits.classes)
  return gates.make(
    'cascade_tempo',
    *_closest(margins, hits.baselines, hits.classes),
    hits.above_baselines(),
    machinery=_may_say(worth),
    stage=None if worth.qualified else 'evaluate',
  )


def _may_say(worth: Qualification) -> dict[str, bool]:
  words = (
    f'the {worth.name} classifier is right on >= {worth.threshold:.0%} of '
    'plain clips'
  )
  return {words: worth.qualified}


def _margins(
  own: np.ndarray,
  baselines: Mapping[str, np.ndarray],
  classes: Sequence[str] | None = None,
) -> dict[str, bootstrap.Interval]:
  """What `own` is above every baseline, prompt by prompt."""
  return {
    name: bootstrap.difference(own, values, classes=classes)
    for name, values in baselines.items()
  }


def _closest(
  margins: Mapping[str, bootstrap.Interval],
  baselines: Mapping[str, np.ndarray],
  classes: Sequence[str] | None = None,
) -> tuple[bootstrap.Interval, float]:
  """Figure and chance, by the baseline that comes nearest."""
  name = min(margins, key=lambda name: margins[name].low)
  chance = bootstrap.balanced_mean(baselines[name], classes)
  return margins[name].shifted(chance), chance


def prompt_gates(
  artifacts: Artifacts, made: Generated, trained: Classifiers
) -> tuple[list[gates.Gate], dict]:
  """`cascade_prompt`, `cascade_family` and `cascade_tempo`."""
  shape = made.waveforms.shape[:2]
  scores, ceilings = _scores(artifacts, made)
  families, bpm = trained.classify(made.flat)
  free_families, free_bpm = trained.classify(made.unconditional)
  family = ClassHits.measure(
    made.prompts.families, np.reshape(families, shape), free_families
  )
  tempo = ClassHits.measure(
    made.prompts.tempi,
    np.reshape([tempo_class(x) for x in bpm], shape),
    [tempo_class(x) for x in free_bpm],
  )
  worth = trained.qualifications
  found = [
    prompt_gate(scores),
    family_gate(family, worth['family']),
    tempo_gate(tempo, worth['tempo']),
  ]
  return found, {
    'cascade_prompt': {
      name: {
        **one.figures(),
        'through_codec': ceilings[name].figures(),
      }
      for name, one in scores.items()
    },
    'cascade_family': {
      **family.figures(),
      'share_of_coded_ceiling': family.accuracy.value
      / max(worth['family'].resynthesised.value, 1e-9),
    },
    'cascade_tempo': {
      **tempo.figures(),
      'within_12_percent': _strict_tempo(made, bpm.reshape(shape)),
    },
  }


def _strict_tempo(made: Generated, bpm: np.ndarray) -> dict:
  """Share of clips within 12 % of the number that their prompt names.

  Args:
    made: Whose prompts may name one.
    bpm: As heard [P, R].
  """
  named = [stated.get('bpm') for stated in made.prompts.stated]
  rows = [i for i, number in enumerate(named) if number]
  if len(rows) < 2:
    return {'prompts': len(rows)}
  hits = np.array(
    [
      [
        classifiers.tempo_hits(bpm[i], [named[j]] * bpm.shape[1]).mean()
        for i in rows
      ]
      for j in rows
    ]
  )
  own = np.diag(hits)
  return {
    'prompts': len(rows),
    'own': bootstrap.mean(own),
    'shuffled': float((hits.sum() - own.sum()) / (hits.size - len(rows))),
  }


def _scores(
  artifacts: Artifacts, made: Generated
) -> tuple[dict[str, PromptScores], dict[str, PromptScores]]:
  """Scores of the clips by both embedders, and of what the codec leaves."""
  shape = made.waveforms.shape[:2]
  texts = artifacts.text_embeddings(made.prompts.texts)
  audio, free, coded = (
    artifacts.audio_embeddings(clips)
    for clips in (made.flat, made.unconditional, made.coded)
  )
  asked, tagged, tagged_free, tagged_coded = _tagged(
    made.real, made.flat, made.unconditional, made.coded
  )
  sides = {
    'MuLan': (texts, audio, free, coded),
    'tagger': (asked, tagged, tagged_free, tagged_coded),
  }
  scores, ceilings = {}, {}
  for name, (wanted, own, without, ceiling) in sides.items():
    scores[name] = PromptScores.measure(
      wanted, own.reshape(*shape, -1), without
    )
    ceilings[name] = PromptScores.measure(wanted, ceiling[:, None], without)
  return scores, ceilings


def _tagged(
  real: np.ndarray, made: np.ndarray, free: np.ndarray, coded: np.ndarray
) -> list[np.ndarray]:
  """Unit embeddings of clips by the package's tagger, [N, D] each.

  Plain and coded music are each centred: what tells these two apart is not
  asked for.
  """
  found = tagger_means([real, made, free, coded])
  centre = np.concatenate(found[1:]).mean(axis=0)
  found = [found[0] - found[0].mean(axis=0), *(x - centre for x in found[1:])]
  return [
    x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)
    for x in found
  ]


def tagger_means(sides: Sequence[np.ndarray]) -> list[np.ndarray]:
  """Mean embedding of each clip by the package's tagger, [N, S] -> [N, D].

  It has learned apart from every network of the cascade.
  """
  tagger = embedders.open_tagger(embedders.WINDOWINGS['vggish'])
  rows = iter(list(tagger.embed_all(_at(tagger.sample_rate, sides))))
  return [np.stack([next(rows).mean(axis=0) for _ in x]) for x in sides]


def _at(rate: int, sides: Iterable[np.ndarray]) -> Iterable[np.ndarray]:
  """Clips of all sides at another rate, one after another."""
  for side in sides:
    for clip in side:
      yield soxr.resample(clip.astype(np.float32), SAMPLE_RATE, rate)
