"""Prints crops a second of CPU of audiolm-pytorch's SoundDataset.

`PYTHON peer.py FOLDER SECONDS COUNT`, in an environment with torch. Of the
package its `data.py` alone is imported; files are read by soundfile, which is
what torchaudio did before it asked for TorchCodec.
"""

import importlib.util
import sys
import time
import types
from pathlib import Path

import soundfile
import torch
import torchaudio


def load(path, *_, **__):
  """What torchaudio.load returns: float32 [channels, S] and the rate."""
  samples, rate = soundfile.read(str(path), dtype='float32', always_2d=True)
  return torch.from_numpy(samples.T.copy()), rate


def sound_dataset():
  """The class, without the package's networks."""
  found = importlib.util.find_spec('audiolm_pytorch')
  folder = Path(found.submodule_search_locations[0])
  package = types.ModuleType('audiolm_pytorch')
  package.__path__ = [str(folder)]
  sys.modules['audiolm_pytorch'] = package
  spec = importlib.util.spec_from_file_location(
    'audiolm_pytorch.data', folder / 'data.py'
  )
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.SoundDataset, module.get_dataloader


def main(folder: str, seconds: float, count: int) -> None:
  """Reads crops one by one, in this process and with one thread."""
  torch.set_num_threads(1)
  torchaudio.load = load
  dataset_class, get_dataloader = sound_dataset()
  dataset = dataset_class(
    folder, target_sample_hz=24_000, max_length=round(seconds * 24_000)
  )
  loader = get_dataloader(dataset, batch_size=1, shuffle=True, num_workers=0)
  rows, before = 0, None
  while rows < count:
    for batch in loader:
      waveform = batch[0] if isinstance(batch, tuple | list) else batch
      assert waveform.shape[-1] == round(seconds * 24_000)
      if before is None:
        before = time.process_time()
        continue
      rows += 1
      if rows == count:
        break
  print(count / (time.process_time() - before))


if __name__ == '__main__':
  main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]))
