"""Measures of the whole cascade: prompts, music, copies, cheats.

Material -> the `cascade_*` gates, `cheats_fail` and `audio_sane`; the
arithmetic is in the modules that this one imports.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from musiclm_jax.cascade.conditioning import Conditioning
from musiclm_jax.cascade.generator import Generator
from musiclm_jax.cascade.sampling import SamplingConfig
from musiclm_jax.contracts.kept_parts import Keep, unkept
from musiclm_jax.evaluation import (
  cascade_quality,
  cheats,
  copying,
  gates,
  music_statistics,
)
from musiclm_jax.evaluation.judge_panel import Panel
from musiclm_jax.evaluation.material import Crop, Material, Split

SECONDS = 10.0
PROMPTS_PER_FAMILY = 2
SEEDS = 2
_CAPTION_DRAWS = 50
_CEILING_CLIPS = 48
_HELD_OUT_PIECES = 160


def choose_prompts(split: Split, seed: int) -> tuple[list[str], list[str]]:
  """Held-out captions that state the lead family, as many of each family.

  Returns:
    Prompts and their families.
  """
  rng = np.random.default_rng([seed, 3])
  found: dict[str, list[str]] = {}
  crops = split.crops(SECONDS, 3, 3 * len(split.source))
  for crop in crops:
    family = split.attributes(crop).get('lead_family')
    if not family or len(found.get(family, ())) >= PROMPTS_PER_FAMILY:
      continue
    caption = _caption_with_family(split, crop, rng)
    if caption:
      found.setdefault(family, []).append(caption)
  pairs = [
    (caption, family) for family in sorted(found) for caption in found[family]
  ]
  return [caption for caption, _ in pairs], [family for _, family in pairs]


def _caption_with_family(
  split: Split, crop: Crop, rng: np.random.Generator
) -> str | None:
  """A caption of the crop that says what leads it; None if none was drawn."""
  for _ in range(_CAPTION_DRAWS):
    caption = split.described(crop, rng)
    if 'lead_family' in caption.stated:
      return caption.text
  return None


@dataclasses.dataclass(frozen=True)
class Generated:
  """What the cascade made of the prompts.

  Attributes:
    prompts: Sentences [P].
    families: Prompted lead families [P].
    waveforms: [P, R, S].
    semantic: [P, R, Ts].
    acoustic: [P, R, Ta, Q].
    unconditional: Clips without prompt [N, S].
    text_codes: MuLan tokens of the prompts [P, 12].
  """

  prompts: Sequence[str]
  families: Sequence[str]
  waveforms: np.ndarray
  semantic: np.ndarray
  acoustic: np.ndarray
  unconditional: np.ndarray
  text_codes: np.ndarray


def generate(
  material: Material,
  prompts: Sequence[str],
  families: Sequence[str],
  seed: int,
  keep: Keep = unkept,
) -> Generated:
  """Generates every prompt with two seeds, and as many clips without one."""
  generator = Generator(material.networks)
  sampling = material.bundle.settings
  codes = material.tokenizer.encode_text(prompts)

  def run(
    number: int, sampling: SamplingConfig
  ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    return generator.generate(
      Conditioning(codes),
      seconds=SECONDS,
      seed=SEEDS * seed + number,
      sampling=sampling,
      keep=lambda part, make: keep(f'clips {number} {part}', make),
    )

  runs = [run(k, sampling) for k in range(SEEDS)]
  free, _ = run(SEEDS, sampling.changed({'mulan_levels': 0}))
  return Generated(
    prompts=prompts,
    families=families,
    waveforms=np.stack([waveform for waveform, _ in runs], axis=1),
    semantic=np.stack([made['semantic'] for _, made in runs], axis=1),
    acoustic=np.stack([made['acoustic'] for _, made in runs], axis=1),
    unconditional=free,
    text_codes=codes,
  )


def prompt_gates(
  material: Material, made: Generated, panel: Panel
) -> tuple[list[gates.Gate], dict]:
  """`cascade_prompt` and `cascade_family`."""
  shape = made.waveforms.shape[:2]
  flat = made.waveforms.reshape(-1, made.waveforms.shape[-1])
  audio = material.audio_embeddings(flat).reshape(*shape, -1)
  scores = cascade_quality.PromptScores.measure(
    material.text_embeddings(made.prompts),
    audio,
    material.audio_embeddings(made.unconditional),
  )
  judged = np.array(panel.families(flat)).reshape(shape)
  hits = cascade_quality.FamilyHits.measure(
    made.families, judged, panel.families(made.unconditional)
  )
  qualified = panel.qualifications['family'].qualified
  return [scores.gate(), hits.gate(judge_qualified=qualified)], {
    'cascade_prompt': scores.figures(),
    'cascade_family': hits.figures(),
  }


def music_gates(
  material: Material, made: Generated
) -> tuple[list[gates.Gate], dict]:
  """`cascade_music` and `audio_sane`, with held-out music as the ceiling."""
  clips = [
    [music_statistics.measure(clip) for clip in row] for row in made.waveforms
  ]
  same = cascade_quality.equal_tokens(made.semantic[:, 0], made.semantic[:, 1])
  found = [
    cascade_quality.music_gate(clips, same),
    cascade_quality.sane_gate(clips),
  ]
  return found, {
    'cascade_music': {
      **cascade_quality.music_figures(clips),
      **_ceilings(material),
      'equal_tokens_of_two_seeds': same,
    }
  }


def _ceilings(material: Material) -> dict[str, float]:
  """Share of held-out clips that are music, as they are and coded."""
  split = material.test
  crops = split.crops(SECONDS, 1, _CEILING_CLIPS)
  real = np.stack([split.read(crop) for crop in crops])
  sides = {'held_out': real, 'through_codec': material.codec.through(real)}
  return {
    name: float(np.mean([music_statistics.measure(x).is_music() for x in side]))
    for name, side in sides.items()
  }


def copy_gates(
  material: Material, made: Generated
) -> tuple[list[gates.Gate], dict]:
  """`cascade_copy` and `cheats_fail`."""
  rate = material.bundle.contract.streams['semantic'].frame_rate
  records = material.train.records
  training = [record.semantic for record in records]

  def measure(
    streams: Sequence[np.ndarray], units: Sequence
  ) -> copying.Copying:
    return copying.measure(streams, units, training, frame_rate=rate)

  real = material.test.spread_records(1, _HELD_OUT_PIECES)
  held_out = measure(
    [record.semantic for record in real], [record.piece_id for record in real]
  )
  prompts = range(len(made.prompts))
  ours = measure(
    list(made.semantic.reshape(-1, made.semantic.shape[-1])),
    [p for p in prompts for _ in range(SEEDS)],
  )
  heard = max(1, material.bundle.settings.mulan_levels)
  nearest = cheats.nearest_by_tokens(
    made.text_codes[:, :heard],
    np.stack([record.mulan for record in records])[:, :heard],
  )
  retrieved = measure([training[i] for i in nearest], list(prompts))
  tones = [
    [music_statistics.measure(cheats.constant_tone(family, SECONDS))]
    for family in made.families
  ]
  never_equal = np.zeros(len(tones))
  gate = copying.gate(ours, held_out)
  cheat = cheats.gate(
    copying.gate(retrieved, held_out),
    cascade_quality.music_gate(tones, never_equal),
  )
  return [gate, cheat], {
    'cascade_copy': copying.figures(ours, held_out),
    'cheats_fail': {
      'retrieval': copying.figures(retrieved, held_out),
      'constant_tone': cascade_quality.music_figures(tones),
    },
  }
