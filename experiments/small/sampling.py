"""How to sample from a model: FAD, KAD and silence of several settings.

    python -m experiments.small.sampling --model=runs/small

24 held-out captions, 10 s each; distances to the statistics of
experiments/clips/.
"""

from typing import Any

import numpy as np

from experiments.clips import clips
from experiments.tiny_cascade.music import dead_share
from musiclm_jax import cli, path_flags
from musiclm_jax.cascade.musiclm import MusicLM
from musiclm_jax.evaluation import held_out
from musiclm_jax.evaluation.clips import ClipFolder

CAPTIONS, SECONDS, SEED = 24, 10.0, 5
_MODEL = path_flags.DEFINE_path('model', 'runs/small', 'Folder of the model.')
# Temperatures of semantic, coarse and fine; top-p, guidance of the first two.
SETTINGS: dict[str, tuple[tuple, tuple, tuple]] = {
  'as_trained': ((1.0, 1.0, 1.0), (1.0, 1.0), (1.0, 1.0)),
  'cool': ((0.95, 0.9, 0.2), (0.97, 0.95), (1.0, 1.0)),
  'guided': ((0.95, 0.9, 0.2), (0.97, 0.95), (3.0, 1.0)),
  'guided_twice': ((0.95, 0.9, 0.2), (0.97, 0.95), (3.0, 1.5)),
  'guided_more': ((0.95, 0.9, 0.2), (0.97, 0.95), (3.0, 2.0)),
}


def main() -> None:
  """Prints a line of each setting."""
  folder = _MODEL.value / 'sampling'
  held_out.write_reference(
    folder / 'captions', clips=CAPTIONS, seconds=SECONDS, seed=SEED
  )
  asked = held_out.prompted_clips(ClipFolder(folder / 'captions'))
  model = MusicLM.load(_MODEL.value / 'bundle', cli.report)
  for name, setting in SETTINGS.items():
    music = model.generate(
      [clip.prompt for clip in asked],
      seconds=SECONDS,
      progress=cli.progress(),
      out=folder / name / 'clip.wav',
      overwrite=True,
      **fields(*setting),
    )
    found = clips.distance(folder / name)
    words = ', '.join(f'{key} {value:.2f}' for key, value in found.items())
    silence = np.mean([dead_share(row) for row in music.waveform])
    print(f'{name}: {words}, silence {silence:.1%}', flush=True)


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


if __name__ == '__main__':
  cli.run(main)
