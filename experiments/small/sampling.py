"""How to sample from a model: the checks of clips made by several settings.

    python -m experiments.small.sampling --model=runs/small

64 held-out prompts, two seeds each, as `experiments.tiny_cascade.examine` makes
and measures them; distances to the statistics of experiments/clips/.
"""

from typing import Any

from absl import flags

from experiments.clips import clips
from experiments.tiny_cascade import (
  cascade_checks,
  classifiers,
  copy_checks,
  feature_cache,
  prompt_checks,
)
from experiments.tiny_cascade.artifacts import Artifacts
from experiments.tiny_cascade.cascade_checks import Generated
from musiclm_jax import cli, path_flags
from musiclm_jax.cascade import provenance
from musiclm_jax.contracts.audio import SAMPLE_RATE

# Temperatures of semantic, coarse and fine; top-p and guidance of the first
# two, where None takes all codes and 1 is off.
Setting = tuple[tuple, tuple, tuple]
SETTINGS: dict[str, Setting] = {
  'cool': ((0.95, 0.9, 0.2), (0.97, 0.95), (3.0, 1.5)),
  'free': ((1.0, 0.9, 0.2), (None, 0.95), (3.0, 1.5)),
  'free_guided': ((1.0, 0.9, 0.2), (None, 0.95), (5.0, 1.5)),
  'free_twice': ((1.0, 1.0, 0.2), (None, None), (3.0, 1.5)),
  'free_more': ((1.0, 0.9, 0.2), (None, 0.95), (3.0, 3.0)),
}
_MODEL = path_flags.DEFINE_path('model', 'runs/small', 'Folder of the model.')
_ONLY = flags.DEFINE_list('only', None, 'Settings; None: all.')


def main() -> None:
  """Prints a line of each setting."""
  artifacts = Artifacts(_MODEL.value)
  trained = classifiers.examined(
    feature_cache.of_split(
      artifacts.demo, 'test', artifacts.test, artifacts.codec
    )
  )
  prompts = cascade_checks.choose_prompts(
    artifacts.test, 0, cascade_checks.PROMPTS_PER_FAMILY
  )
  for name in _ONLY.value or SETTINGS:
    made = cascade_checks.generate(
      artifacts, prompts, 0, **fields(*SETTINGS[name])
    )
    folder = artifacts.demo / 'sampling' / name
    folder.mkdir(parents=True, exist_ok=True)
    for number, clip in enumerate(made.flat):
      path = folder / f'{number}.wav'
      provenance.write_sound(path, clip, SAMPLE_RATE, {'setting': name})
    found = measure(artifacts, made, trained) | clips.distance(folder)
    words = ', '.join(f'{key} {value:.3f}' for key, value in found.items())
    print(f'{name}: {words}', flush=True)


def fields(
  temperatures: tuple, top_p: tuple, guidance: tuple
) -> dict[str, Any]:
  """A setting as fields of `SamplingConfig`."""
  stages = ('semantic', 'coarse', 'fine')
  kinds = {'temperature': temperatures, 'top_p': top_p, 'guidance': guidance}
  return {
    f'{kind}_{stage}': value
    for kind, values in kinds.items()
    for stage, value in zip(stages, values, strict=False)
  }


def measure(
  artifacts: Artifacts, made: Generated, trained: classifiers.Classifiers
) -> dict[str, float]:
  """What the checks say of clips, a number each."""
  _, asked = prompt_checks.prompt_gates(artifacts, made, trained)
  _, music = cascade_checks.music_gates(made)
  _, copied = copy_checks.copy_gates(artifacts, made)
  scores = asked['cascade_prompt']
  return {
    **{
      f'{name} above shuffled': scores[name]['above_shuffled'].value
      for name in ('MuLan', 'tagger')
    },
    'family': asked['cascade_family']['own'].value,
    'tempo': asked['cascade_tempo']['own'].value,
    'music': music['cascade_music']['music'].value,
    'dead air': music['cascade_music']['dead_air'].value,
    'near copies': copied['cascade_copy']['generated_near_rate'],
    'plain spans': copied['cascade_copy']['generated_left_out']
    / (
      copied['cascade_copy']['generated_left_out']
      + copied['cascade_copy']['generated_spans']
    ),
  }


if __name__ == '__main__':
  cli.run(main)
