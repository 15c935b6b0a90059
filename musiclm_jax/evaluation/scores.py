"""Scores of single clips: KLD of pairs, MuLan cycle consistency, text score.

folder -> logits or embeddings of each clip, with its partner or prompt ->
`metrics/` -> figures over pairs or prompts
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.terminal import first_few, printable
from musiclm_jax.evaluation import classifiers, clips, embedders, prompts
from musiclm_jax.evaluation.clips import ClipFolder
from musiclm_jax.evaluation.inputs import EvaluationInputs
from musiclm_jax.evaluation.results import Results
from musiclm_jax.metrics import bootstrap, kld, mulan_cycle

_TEXT_HEADS = ('family', 'style', 'tempo')


def add_kld(inputs: EvaluationInputs, results: Results) -> None:
  """KLD of pairs of clips by each classifier, over pairs.

  Raises:
    UsageError: If no names pair.
  """
  folders = (inputs.reference_folder('kld'), inputs.generated_folder('kld'))
  pairs = clips.pair(*folders)
  for names, lacking in (
    (pairs.without_generated, 'generated clip'),
    (pairs.without_reference, 'reference'),
  ):
    if names:
      inputs.report(
        f'kld: {len(names)} clips have no {lacking} of their name: '
        + first_few([printable(name) for name in names])
      )
  opened = [classifiers.open_tagger(inputs.batch_size)]
  if inputs.panns is not None:
    opened.append(classifiers.open_panns(inputs.panns, inputs.batch_size))
  for heads in opened:
    _add_kld_of(heads, inputs, results, folders, pairs)


def _add_kld_of(
  heads: classifiers.Heads,
  inputs: EvaluationInputs,
  results: Results,
  folders: tuple[ClipFolder, ClipFolder],
  pairs: clips.Pairs,
) -> None:
  """KLD by each classifier of one network."""
  values: dict[str, dict[str, float]] = {head: {} for head in heads.classifiers}
  for index, both in zip(
    pairs.indices, _paired_logits(inputs, heads, folders, pairs), strict=True
  ):
    if not all(map(len, both)):
      continue
    for head, classifier in heads.classifiers.items():
      values[head][folders[1].names[index[1]]] = kld.kl_divergence(
        *(logits[:, classifier.columns] for logits in both),
        scores=inputs.kld_scores or classifier.scores,
        direction=inputs.kld_direction,
        pooling=inputs.kld_pooling,
      )
  for head, classifier in heads.classifiers.items():
    found = values[head]
    if not found:
      seconds = heads.embedder.windowing.window_seconds
      raise UsageError(f'kld: no pair of clips has a window of {seconds:g} s')
    bounds = bootstrap.mean(list(found.values()), seed=inputs.seed)
    results.add(
      f'kld_{classifier.name}',
      bounds.value,
      interval=bounds,
      remarks=worth(classifier),
      **classifier_facts(inputs, heads, classifier),
      scores=inputs.kld_scores or classifier.scores,
      direction=inputs.kld_direction,
      pooling=inputs.kld_pooling,
      epsilon=kld.EPSILON,
      n=len(found),
      without_generated=list(pairs.without_generated),
      without_reference=list(pairs.without_reference),
      per_song=found,
    )


def _paired_logits(
  inputs: EvaluationInputs,
  heads: classifiers.Heads,
  folders: tuple[ClipFolder, ClipFolder],
  pairs: clips.Pairs,
) -> Iterator[list[np.ndarray]]:
  """Logits of both clips of each pair, read side by side."""
  rate = heads.embedder.sample_rate
  sides = [
    folder.clips(rate, stage, progress, [pair[side] for pair in pairs.indices])
    for side, (folder, stage, progress) in enumerate(
      zip(folders, ('reference', 'kld'), (None, inputs.progress), strict=True)
    )
  ]
  waveforms = (
    clip.waveform for both in zip(*sides, strict=True) for clip in both
  )
  found = heads.logits(waveforms)
  for first in found:
    yield [first, next(found)]


def worth(classifier: classifiers.Classifier) -> list[str]:
  """What must stand beside a figure of a classifier."""
  if classifier.published:
    return [f'worth of the classifier: {classifier.published}']
  shares = ', '.join(f'{n} {v:.2f}' for n, v in classifier.accuracy.items())
  told = (
    f'accuracy of the classifier on held-out clips: {shares} (the commonest '
    f'class: {classifier.majority:.2f})'
  )
  if not classifier.qualified:
    told += '; not good enough: the figure decides nothing'
  return [told]


def classifier_facts(
  inputs: EvaluationInputs,
  heads: classifiers.Heads,
  classifier: classifiers.Classifier,
) -> dict:
  """What belongs to every figure of a classifier."""
  return {
    'classifier': classifier.name,
    'classes': list(classifier.classes),
    'accuracy': dict(classifier.accuracy),
    'majority': classifier.majority,
    'qualified': classifier.qualified,
    'sha256': heads.embedder.sha256,
    'windowing': heads.embedder.windowing.name,
    'label': heads.embedder.label,
    'seed': inputs.seed,
  }


def _prompted(
  inputs: EvaluationInputs, folder: ClipFolder
) -> tuple[dict[int, str], list[str]]:
  """Prompts by clip, and the names of clips that have none.

  Raises:
    UsageError: If no clip has one.
  """
  asked = {
    index: prompt
    for index in range(len(folder))
    if (prompt := prompts.prompt_of(folder, index))
  }
  without = [name for i, name in enumerate(folder.names) if i not in asked]
  if not asked:
    raise UsageError(
      f"no clip of '{printable(folder.path)}' has a prompt: write captions.csv "
      '(path,caption) beside them, or give WAV files of musiclm_jax.generate'
    )
  if without:
    inputs.report(
      f'{len(without)} clips have no prompt and are left out: '
      + first_few([printable(name) for name in without])
    )
  return asked, without


def add_mcc(inputs: EvaluationInputs, results: Results) -> None:
  """Cosine of the bundle's MuLan between clips and their prompts.

  Raises:
    UsageError: If there is no bundle, or no clip has a prompt.
  """
  if inputs.model is None:
    raise UsageError('mcc needs the MuLan of a bundle: give --bundle=DIR')
  folder = inputs.generated_folder('mcc')
  asked, without = _prompted(inputs, folder)
  embedder = embedders.open_mulan(
    inputs.model.networks['mulan'], inputs.batch_size, 1.0
  )
  window = embedder.windowing.samples(embedder.sample_rate)
  read = folder.clips(embedder.sample_rate, 'mcc', inputs.progress, list(asked))
  # As MuLan reads clips: a shorter one is repeated, of a longer one the mean.
  waveforms = (
    np.resize(clip.waveform, max(window, len(clip.waveform))) for clip in read
  )
  rows = np.stack([x.mean(axis=0) for x in embedder.embed_all(waveforms)])
  audio = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
  texts = list(asked.values())
  found = mulan_cycle.cycle_consistency(
    inputs.model.embed_text(texts), audio, texts, seed=inputs.seed
  )
  names = [folder.names[i] for i in asked]
  facts = {
    'sha256': embedder.sha256,
    'windowing': embedder.windowing.name,
    'label': embedder.label,
    'seed': inputs.seed,
    'n': len(names),
    'prompts': len(set(texts)),
    'without_prompt': without,
  }
  results.add(
    'mcc_mulan',
    found.raw.value,
    interval=found.raw,
    mismatched=found.mismatched,
    per_song=dict(zip(names, found.cosines.tolist(), strict=True)),
    **facts,
  )
  above = found.above_mismatched
  results.add(
    'mcc_above_mismatched_mulan',
    above.value if above else None,
    interval=above,
    remarks=[] if above else ['all clips have one prompt'],
    **facts,
  )


def add_text_score(inputs: EvaluationInputs, results: Results) -> None:
  """Share of clips in which classifiers find what the prompt states.

  The classifiers share nothing with a cascade: beside MCC, whose MuLan may have
  conditioned the music, it is the independent scorer. As MCC it stands plain
  and above what the prompts of others would give.

  Raises:
    UsageError: If no clip has a prompt.
  """
  folder = inputs.generated_folder('text_score')
  asked, without = _prompted(inputs, folder)
  heads = classifiers.open_tagger(inputs.batch_size)
  read = folder.clips(
    heads.embedder.sample_rate, 'text score', inputs.progress, list(asked)
  )
  stated = {prompt: prompts.stated(prompt) for prompt in asked.values()}
  found: dict[str, list[_Heard]] = {head: [] for head in _TEXT_HEADS}
  logits = heads.logits(clip.waveform for clip in read)
  for (index, prompt), scores in zip(asked.items(), logits, strict=True):
    for head, wanted in stated[prompt].items():
      classifier = heads.classifiers[head]
      if wanted in classifier.classes and len(scores):
        shares = kld.to_scores(scores[:, classifier.columns], 'softmax')
        top = classifier.classes[int(shares.mean(axis=0).argmax())]
        chance = _chance(top, prompt, head, stated)
        found[head].append(
          _Heard(folder.names[index], prompt, float(top == wanted), chance)
        )
  for head, heard in found.items():
    classifier = heads.classifiers[head]
    none = [] if heard else [f'no prompt states one {head}']
    _add_agreement(
      inputs,
      results,
      classifier.name,
      heard,
      remarks=[*none, *worth(classifier)],
      **classifier_facts(inputs, heads, classifier),
      without_prompt=without,
    )
  used = [head for head, heard in found.items() if heard] or _TEXT_HEADS
  together = _over_heads([clip for heard in found.values() for clip in heard])
  _add_agreement(
    inputs,
    results,
    heads.embedder.name,
    together,
    remarks=[f'share of all that a prompt states of {", ".join(used)}'],
    sha256=heads.embedder.sha256,
    windowing=heads.embedder.windowing.name,
    label=heads.embedder.label,
    seed=inputs.seed,
    without_prompt=without,
  )


@dataclasses.dataclass(frozen=True)
class _Heard:
  """What classifiers find of a prompt in a clip.

  Attributes:
    clip: Its name.
    prompt: Its prompt.
    hit: Share of what the prompt states that is found, in [0, 1].
    chance: The same of the prompts of other clips; None where no other states
      anything.
  """

  clip: str
  prompt: str
  hit: float
  chance: float | None


def _chance(
  top: str, prompt: str, head: str, stated: Mapping[str, Mapping[str, str]]
) -> float | None:
  """Share of the other prompts that state what is found in a clip."""
  others = [
    told[head]
    for other, told in stated.items()
    if other != prompt and head in told
  ]
  return others.count(top) / len(others) if others else None


def _over_heads(heard: Sequence[_Heard]) -> list[_Heard]:
  """Puts together what several heads find in a clip."""
  by_clip: dict[str, list[_Heard]] = {}
  for one in heard:
    by_clip.setdefault(one.clip, []).append(one)
  together = []
  for clip, parts in by_clip.items():
    chances = [p.chance for p in parts if p.chance is not None]
    together.append(
      _Heard(
        clip,
        parts[0].prompt,
        float(np.mean([p.hit for p in parts])),
        # Of some heads only it would be no baseline of all.
        float(np.mean(chances)) if len(chances) == len(parts) else None,
      )
    )
  return together


def _add_agreement(
  inputs: EvaluationInputs,
  results: Results,
  name: str,
  heard: Sequence[_Heard],
  *,
  remarks: Sequence[str],
  **facts: Any,
) -> None:
  """Adds a text score, and how far it is above that of other prompts."""
  bounds = above = chance = None
  if heard:
    hits, _ = bootstrap.unit_means(
      [one.hit for one in heard], [one.prompt for one in heard]
    )
    bounds = bootstrap.mean(hits, seed=inputs.seed)
  paired = [one for one in heard if one.chance is not None]
  if paired:
    sides = [
      bootstrap.unit_means(values, [one.prompt for one in paired])[0]
      for values in (
        [one.hit for one in paired],
        [one.chance for one in paired],
      )
    ]
    above = bootstrap.difference(*sides, seed=inputs.seed)
    chance = float(sides[1].mean())
  results.add(
    f'text_score_{name}',
    bounds.value if bounds else None,
    interval=bounds,
    remarks=remarks,
    **facts,
    n=len(heard),
    mismatched=chance,
    per_song={one.clip: one.hit for one in heard},
  )
  results.add(
    f'text_score_above_mismatched_{name}',
    above.value if above else None,
    interval=above,
    remarks=remarks if above else ['no two prompts state the same kind'],
    **facts,
    n=len(paired),
  )
