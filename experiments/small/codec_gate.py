"""What the codec keeps: may the next stage begin on it?

    python -m experiments.small.codec_gate --model=runs/small

Held-out pieces of the model's own corpus, 10 s each: lead family and tempo by
classifiers that know nothing of the codec, on plain and on coded clips, then
the distances of `musiclm_jax.metrics.codec`. Bounds are over pieces.
"""

import json

import numpy as np
from absl import flags

from experiments.tiny_cascade import artifacts, classifiers, feature_cache
from musiclm_jax import cli, path_flags
from musiclm_jax.contracts.progress import Meter
from musiclm_jax.data import sources
from musiclm_jax.metrics import bootstrap
from musiclm_jax.metrics import codec as codec_metrics

SECONDS = 5.0
_MODEL = path_flags.DEFINE_path('model', 'runs/small', 'Folder of the model.')
_CODEC = path_flags.DEFINE_path(
  'codec', None, "Workdir of another codec; None: the model's."
)
_CLIPS = flags.DEFINE_integer('clips', 32, 'For the distances.', 2, 1000)


def main() -> None:
  """Prints each figure with its bounds, as JSON."""
  folder = _MODEL.value
  workdir = _CODEC.value or folder / 'workdirs' / 'soundstream'
  codec = artifacts.trained_codec(workdir)
  source = sources.open_source(f'prepared:{folder / "corpus"}', 'test')
  split = artifacts.CorpusSplit(source, None)
  meter = Meter(
    'features', feature_cache.CLIPS['test'], 'crops', cli.progress()
  )
  features = feature_cache.of_split(folder, 'test', split, codec, meter.advance)
  found = {}
  for name, one in classifiers.examined(features).qualifications.items():
    found[name] = {
      'plain': _words(one.real),
      'coded': _words(one.resynthesised),
      'kept': _words(one.kept),
    }
  crops = split.crops(SECONDS, 1, _CLIPS.value)
  clips = np.stack([split.read(crop) for crop in crops])
  coded = codec.through(clips)
  for name, measure in codec_metrics.MEASURES.items():
    found[name] = _words(bootstrap.mean(measure(clips, coded).tolist()))
  print(json.dumps(found, indent=1))


def _words(bounds: bootstrap.Interval) -> str:
  return f'{bounds.value:.3f} [{bounds.low:.3f}, {bounds.high:.3f}]'


if __name__ == '__main__':
  cli.run(main)
