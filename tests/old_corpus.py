"""Writes a corpus of rendered music as earlier versions did: whole pieces."""

import json
from pathlib import Path

import numpy as np

from musiclm_jax.rendered_music import rendering, splits


def write(folder: Path, pieces: int, seed: int) -> Path:
  """Renders a corpus with one shard a split."""
  import tensorflow_datasets as tfds
  from array_record.python import array_record_module
  from tensorflow_datasets.core import example_serializer

  features = tfds.features.FeaturesDict(
    {
      'id': tfds.features.Text(),
      'waveform': tfds.features.Tensor(
        shape=(None,), dtype=np.int16, encoding=tfds.features.Encoding.BYTES
      ),
      'truth': tfds.features.Text(),
      'notes': tfds.features.Text(),
    }
  )
  serializer = example_serializer.ExampleSerializer(
    features.get_serialized_info()
  )
  folder.mkdir(parents=True)
  infos, lengths = [], {}
  for split, count in splits.sizes(pieces).items():
    path = folder / f'rendered_music-{split}.array_record-00000-of-00001'
    writer = array_record_module.ArrayRecordWriter(
      str(path), 'group_size:1,uncompressed'
    )
    lengths[split] = []
    for index in range(count):
      waveform, record = rendering.render(seed, split, index)
      notes = record.pop('notes')
      row = {
        'id': f'{split}-{seed}-{index:06d}',
        'waveform': np.rint(waveform * 32767.0).astype(np.int16),
        'truth': json.dumps(record),
        'notes': json.dumps(notes),
      }
      lengths[split].append(len(waveform))
      encoded = features.encode_example(row)
      writer.write(serializer.serialize_example(encoded))
    writer.close()
    template = tfds.core.ShardedFileTemplate(
      data_dir=folder,
      dataset_name='rendered_music',
      filetype_suffix='array_record',
      split=split,
      template='{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}',
    )
    infos.append(
      tfds.core.SplitInfo(
        name=split,
        shard_lengths=[count],
        num_bytes=path.stat().st_size,
        filename_template=template,
      )
    )
  info = tfds.core.DatasetInfo(
    builder=tfds.core.DatasetIdentity(
      name='rendered_music',
      version=tfds.core.Version('1.0.0'),
      data_dir=str(folder),
      module_name='',
    ),
    features=features,
    disable_shuffling=True,
  )
  info.set_file_format('array_record')
  info.set_splits(tfds.core.SplitDict(infos))
  info.write_to_directory(folder)
  mark = {'source': 'rendered_music', 'version': '1.0.0'}
  mark |= {'pieces': pieces, 'seed': seed}
  (folder / 'corpus.json').write_text(json.dumps(mark))
  (folder / 'lengths.json').write_text(json.dumps(lengths))
  return folder
