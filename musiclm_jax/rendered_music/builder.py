"""The corpus as a TFDS builder: array_record, no TensorFlow, no download.

One example is one piece: id, waveform int16 [S] at 24 kHz, ground truth and
notes as JSON text. `shards` writes the same examples restartably; either
folder opens with `tfds.builder_from_directory`.
"""

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from musiclm_jax.rendered_music import (
  composer,
  performer,
  splits,
  truth,
)

NAME = 'rendered_music'


@dataclasses.dataclass
class RenderedMusicConfig(tfds.core.BuilderConfig):
  """Which corpus.

  Attributes:
    pieces: In all splits together.
    seed: Of the corpus.
  """

  pieces: int = 800
  seed: int = 0


class RenderedMusic(tfds.core.GeneratorBasedBuilder):
  """Composed pieces, performed with General MIDI samples, fully described."""

  VERSION = tfds.core.Version(truth.VERSION)
  BUILDER_CONFIGS = [  # noqa: RUF012 (TFDS reads a list)
    RenderedMusicConfig(name='default', pieces=800, seed=0),
    RenderedMusicConfig(name='small', pieces=20_000, seed=0),
  ]

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description='Composed and rendered pieces with their ground truth.',
      features=features(),
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager) -> dict[str, Iterator]:
    del dl_manager  # nothing is downloaded
    config = self.builder_config
    return {
      split: self._generate_examples(config.seed, split, count)
      for split, count in splits.sizes(config.pieces).items()
    }

  def _generate_examples(
    self, seed: int, split: str, count: int
  ) -> Iterator[tuple[int, dict[str, Any]]]:
    for index in range(count):
      yield index, example(seed, split, index)


def features() -> tfds.features.FeaturesDict:
  """The features of one piece; raw bytes, so that reading costs 3 ms."""
  return tfds.features.FeaturesDict(
    {
      'id': tfds.features.Text(),
      'waveform': tfds.features.Tensor(
        shape=(None,), dtype=np.int16, encoding=tfds.features.Encoding.BYTES
      ),
      'truth': tfds.features.Text(),
      'notes': tfds.features.Text(),
    }
  )


def serialize(row: dict[str, Any]) -> bytes:
  """An example as TFDS stores it, of equal bytes for equal rows."""
  from tensorflow_datasets.core import example_serializer

  layout = features()
  serializer = example_serializer.ExampleSerializer(
    layout.get_serialized_info()
  )
  message = serializer.get_tf_example(layout.encode_example(row))
  # The order of a message's entries is otherwise left to chance.
  return message.SerializeToString(deterministic=True)


def example(seed: int, split: str, index: int) -> dict[str, Any]:
  """Composes, performs and describes one piece: a pure function."""
  score = composer.compose(seed, split, index)
  played = performer.perform(score)
  pcm = np.rint(played.waveform * 32767.0).astype(np.int16)
  return {
    'id': f'{split}-{seed}-{index:06d}',
    'waveform': pcm,
    'truth': json.dumps(truth.describe(score, played)),
    'notes': json.dumps(truth.notes_of(score, played)),
  }
