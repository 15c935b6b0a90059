"""Which stage of a bundle loses the quality: oracle substitution.

reference clips -> true tokens -> rows, each made with one stage more of the
cascade -> embeddings and logits, streamed -> `metrics/attribution.py`

A batch of clips goes through all rows before the next one is read; of its sound
nothing is kept but what sets of embeddings and scores of clips need.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from musiclm_jax.cascade import decoder
from musiclm_jax.cascade.conditioning import Conditioning
from musiclm_jax.cascade.generator import Generator
from musiclm_jax.cascade.musiclm import MusicLM
from musiclm_jax.cascade.tokenizer import FRAME_SAMPLES
from musiclm_jax.contracts.audio import SAMPLE_RATE
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.progress import Meter
from musiclm_jax.contracts.terminal import first_few, printable
from musiclm_jax.evaluation import attribution_results, classifiers, prompts
from musiclm_jax.evaluation.attribution_results import Rows
from musiclm_jax.evaluation.clips import ClipFolder
from musiclm_jax.evaluation.inputs import EvaluationInputs
from musiclm_jax.evaluation.results import Results
from musiclm_jax.metrics.attribution import ABLATION, REFERENCE, STAGES

CLIPS_AT_ONCE = 8


@dataclasses.dataclass(frozen=True)
class Prompt:
  """What a batch of clips is made from.

  Attributes:
    mulan: MuLan tokens of texts or of audio, int [B, 12].
    is_text: Of which; texts are read as the bundle proposes, whose deep levels
      say little, audio with all levels.
    seed: Of what is drawn; the same for all rows of a batch.
  """

  mulan: np.ndarray
  is_text: bool
  seed: int


@dataclasses.dataclass(frozen=True)
class CascadeStages:
  """The stages as functions of batches: the one place where rows get them.

  Attributes:
    tokenize: float32 [B, S] at 24 kHz, S whole frames of 40 ms -> the true
      tokens `mulan` [B, 12], `semantic` [B, Ts], `acoustic` [B, 2 Ts, Q].
    encode_text: Captions -> MuLan tokens [B, 12].
    semantic: Prompt -> semantic tokens [B, Ts or more].
    coarse: Prompt and semantic tokens -> coarse levels [B, 2 Ts or more, Qc].
    fine: Prompt and coarse levels -> all levels [B, 2 Ts, Q].
    decode: All levels -> float32 [B, S].
    coarse_levels: Qc.
    no_semantic: Prompt -> coarse levels, by a stage without semantic tokens.
    facts: What they are, such as hashes.
  """

  tokenize: Callable[[np.ndarray], Mapping[str, np.ndarray]]
  encode_text: Callable[[Sequence[str]], np.ndarray]
  semantic: Callable[[Prompt], np.ndarray]
  coarse: Callable[[Prompt, np.ndarray], np.ndarray]
  fine: Callable[[Prompt, np.ndarray], np.ndarray]
  decode: Callable[[np.ndarray], np.ndarray]
  coarse_levels: int
  no_semantic: Callable[[Prompt], np.ndarray] | None = None
  facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def stages_of(
  model: MusicLM, samples: int, ablation: MusicLM | None = None
) -> CascadeStages:
  """The stages of a bundle, in the generator's own programs.

  Args:
    model: The bundle.
    samples: S of a clip.
    ablation: A cascade over the same tokens whose coarse stage reads no
      semantic ones; its coarse stage alone is used.

  Raises:
    UsageError: If a coarse stage reads what it should not, or does not read
      what it should; the tokens of both differ; or clips are too short.
  """
  generator = Generator(model.networks)
  if not generator.reads_semantic:
    raise UsageError(
      f"the coarse stage of '{model.bundle.path}' reads no semantic tokens: "
      'give it as --ablation, and the whole cascade as --bundle'
    )
  other = ablation and _without_semantic(model, ablation)
  least = max(one.least_seconds for one in (generator, other) if one)
  if samples < least * SAMPLE_RATE:
    raise UsageError(
      f'--seconds={samples / SAMPLE_RATE:g}: the stages see {least:g} s at '
      'once, give so much or more'
    )
  codec = model.networks['soundstream']
  frames = samples // codec.model.hop_length
  contract = model.bundle.contract
  all_levels = contract.streams['mulan'].num_levels

  def make(of: Generator, name: str, prompt: Prompt, read=None) -> np.ndarray:
    changes = {} if prompt.is_text else {'mulan_levels': all_levels}
    return of.make_stage(
      name,
      Conditioning(prompt.mulan),
      read,
      frames=frames,
      seed=prompt.seed,
      sampling=model.sampling.changed(changes),
    )

  def fine(prompt: Prompt, coarse: np.ndarray) -> np.ndarray:
    made = make(generator, 'fine', prompt, coarse)
    return np.concatenate([coarse[:, :frames], made], axis=2)

  def decode(acoustic: np.ndarray) -> np.ndarray:
    return decoder.limit(decoder.decode(codec, acoustic))

  return CascadeStages(
    tokenize=model.tokenizer.encode,
    encode_text=model.tokenizer.encode_text,
    semantic=lambda prompt: make(generator, 'semantic', prompt)[..., 0],
    coarse=lambda prompt, read: make(generator, 'coarse', prompt, read),
    fine=fine,
    decode=decode,
    coarse_levels=contract.coarse_levels,
    no_semantic=other and (lambda prompt: make(other, 'coarse', prompt)),
    facts={
      'bundle_sha256': model.bundle.sha256,
      'ablation_sha256': ablation and ablation.bundle.sha256,
      'settings': dataclasses.asdict(model.sampling),
      'audio_mulan_levels': all_levels,
    },
  )


def _without_semantic(model: MusicLM, ablation: MusicLM) -> Generator:
  """The cascade with the coarse stage of another bundle."""
  there = f"--ablation='{ablation.bundle.path}'"
  model.bundle.contract.check(ablation.bundle.contract, '--bundle', there)
  networks = {**model.networks, 'coarse': ablation.networks['coarse']}
  found = Generator(networks)
  if found.reads_semantic:
    raise UsageError(
      f'{there}: its coarse stage reads semantic tokens, train it with '
      '--config=configs/coarse.py --config.layout.semantic=False'
    )
  return found


def make_rows(
  stages: CascadeStages,
  waveform: np.ndarray,
  captions: Sequence[str] | None,
  seed: int,
) -> Iterator[tuple[str, np.ndarray]]:
  """Makes a batch of clips again, with one stage more from row to row.

  Args:
    stages: What makes them.
    waveform: float32 [B, S].
    captions: Of each clip; None leaves the row `text` out.
    seed: Of what is drawn.

  Yields:
    Name of the row and float32 [B, S], the reference first.
  """

  def sound(prompt: Prompt, coarse: np.ndarray) -> np.ndarray:
    return stages.decode(stages.fine(prompt, coarse))

  true = stages.tokenize(waveform)
  prompt = Prompt(true['mulan'], False, seed)
  yield REFERENCE, waveform
  yield 'codec', stages.decode(true['acoustic'])
  yield 'fine', sound(prompt, true['acoustic'][..., : stages.coarse_levels])
  yield 'coarse', sound(prompt, stages.coarse(prompt, true['semantic']))
  semantic = stages.semantic(prompt)
  yield 'semantic', sound(prompt, stages.coarse(prompt, semantic))
  if captions is not None:
    text = Prompt(stages.encode_text(captions), True, seed)
    semantic = stages.semantic(text)
    yield 'text', sound(text, stages.coarse(text, semantic))
  if stages.no_semantic:
    yield ABLATION, sound(prompt, stages.no_semantic(prompt))


def add_attribution(
  inputs: EvaluationInputs,
  results: Results,
  stages: CascadeStages | None = None,
) -> None:
  """Names the stage that loses most; figures of each row and each cost.

  FAD, KAD, KAD of each clip to its own reference, KLD and agreement of
  classifiers, of the first seconds of each clip; see `metrics.attribution` for
  the rule. For the sound of chosen clips, such as a
  report shows, give `inputs.keep`: it is called with each row, the name of the
  clip and its waveform, as soon as that is made.

  Args:
    inputs: Folder of references, bundle, embedders and choices.
    results: Takes the figures.
    stages: What makes the rows; None: those of the bundle.

  Raises:
    UsageError: If there is no bundle or reference folder, or fewer than two
      clips are long enough.
  """
  folder = inputs.reference_folder('attribution')
  samples = round(inputs.seconds * SAMPLE_RATE)
  samples -= samples % FRAME_SAMPLES
  if stages is None:
    if inputs.model is None:
      raise UsageError(
        'attribution needs the stages of a bundle: give --bundle=DIR'
      )
    stages = stages_of(inputs.model, samples, inputs.ablation)
  captions = {
    index: prompt
    for index in range(len(folder))
    if (prompt := prompts.prompt_of(folder, index))
  }
  chosen = list(captions) or list(range(len(folder)))
  names = [*STAGES] if captions else [row for row in STAGES if row != 'text']
  names += [ABLATION] if stages.no_semantic else []
  heads = classifiers.open_tagger(inputs.batch_size)
  rows = Rows(inputs, heads, [REFERENCE, *names], len(chosen))
  count = 1 + len(names)
  meter = Meter(
    'attribution', count * len(chosen), 'versions of clips', inputs.progress
  )
  short: list[str] = []
  batches = _batches(folder, chosen, samples, short)
  for number, (indices, waveform) in enumerate(batches):
    texts = [captions[index] for index in indices] if captions else None
    made = make_rows(stages, waveform, texts, _batch_seed(inputs.seed, number))
    # The last batch repeats its last clip, to be of the same shape.
    clips = list(dict.fromkeys(indices))
    for row, sound in made:
      sound = np.asarray(sound, np.float32)[: len(clips)]
      for index, one in zip(clips, sound, strict=True):
        if inputs.keep:
          inputs.keep(row, folder.names[index], one)
      rows.add(row, [folder.names[index] for index in clips], sound)
      meter.advance(len(clips))
  meter.at(count * len(chosen))
  taken = set(chosen)
  without = [n for i, n in enumerate(folder.names) if i not in taken]
  _report_left_out(inputs, short, without)
  if rows.num_clips < 2:
    raise UsageError(
      f"'{printable(folder.path)}' has {rows.num_clips} clips of "
      f'{inputs.seconds:g} s: attribution needs 2 or more, add clips or lower '
      '--seconds'
    )
  remarks = []
  if not captions:
    remarks = ['no clip has a caption: the row text is left out']
  facts = {
    **stages.facts,
    'seconds': samples / SAMPLE_RATE,
    'clips_at_once': CLIPS_AT_ONCE,
    'too_short': short,
    'without_caption': without,
  }
  attribution_results.add(inputs, results, rows, facts, remarks)


def _batches(
  folder: ClipFolder,
  chosen: Sequence[int],
  samples: int,
  short: list[str],
) -> Iterator[tuple[list[int], np.ndarray]]:
  """Reads clips in batches of one shape, [B, S], and notes short ones."""
  # As few batches as can be, all alike: the last one repeats little.
  size = math.ceil(len(chosen) / math.ceil(len(chosen) / CLIPS_AT_ONCE))
  indices: list[int] = []
  waveforms: list[np.ndarray] = []
  for index in chosen:
    clip = folder.read(index, SAMPLE_RATE)
    if len(clip.waveform) < samples:
      short.append(clip.name)
      continue
    indices.append(index)
    waveforms.append(clip.waveform[:samples])
    if len(indices) == size:
      yield indices, np.stack(waveforms)
      indices, waveforms = [], []
  if indices:
    missing = size - len(indices)
    yield (
      indices + indices[-1:] * missing,
      np.stack(waveforms + waveforms[-1:] * missing),
    )


def _batch_seed(seed: int, number: int) -> int:
  """Another seed for each batch, so that no two clips draw alike."""
  return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


def _report_left_out(
  inputs: EvaluationInputs, short: list[str], without: list[str]
) -> None:
  for names, why in (
    (short, f'are shorter than {inputs.seconds:g} s'),
    (without, 'have no caption'),
  ):
    if names:
      inputs.report(
        f'attribution: {len(names)} clips {why} and are left out: '
        + first_few([printable(name) for name in names])
      )
