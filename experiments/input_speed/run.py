"""Times how fast crops are read: from whole pieces, from files, from records.

`python experiments/input_speed/run.py --workdir=DIR [--peer=PYTHON]`

Renders some music, writes it as FLAC (44.1 kHz, stereo), as a corpus of an
earlier version (whole pieces) and prepared with records of several lengths,
and reads random crops of all of them with one thread. `--peer` names the Python
of an environment with torch and audiolm-pytorch, whose SoundDataset then reads
the same FLAC in the same turns. Seconds are of CPU, of this process and of the
decoders that it starts, so that other work on the machine counts little; the
median of the turns counts. Results go to DIR/results.json.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import soundfile
import soxr

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'tests')]  # for old_corpus

import old_corpus  # noqa: E402

from musiclm_jax.data import (  # noqa: E402
  batches,
  loading,
  preparable,
  preparation,
  prepared,
  sources,
  text,
)
from musiclm_jax.launch import environment  # noqa: E402

RATE, PIECES, SEED = 24_000, 24, 0
RECORD_SECONDS = (1, 2, 5, 10, 15)
CROPS = {1.0: 400, 10.0: 100}  # seconds -> crops of a turn
FEW_CROPS = 60  # where each costs as much as a file
TURNS = 5


def make(folder: Path) -> None:
  """Writes the music in every form that is not there yet."""
  old = folder / 'old'
  if not old.exists():
    old_corpus.write(old, PIECES, SEED)
  files = folder / 'flac'
  if not files.exists():
    files.mkdir()
    for split in sources.SPLITS:
      source = sources.open_source(f'rendered_music:{old}', split)
      for i in range(len(source)):
        mono = soxr.resample(source.read(i), RATE, 44_100)
        stereo = np.stack([mono, 0.9 * mono], axis=1)
        soundfile.write(files / f'{source.piece_id(i)}.flac', stereo, 44_100)
  for seconds in RECORD_SECONDS:
    out = folder / f'prepared_{seconds}'
    for module in (prepared, preparable, preparation):
      module.RECORD_SAMPLES = seconds * RATE
    music = preparable.open_music(f'rendered_music:{old}')
    preparation.prepare(music, out, processes=2)


def cpu() -> float:
  """Seconds of CPU of this process and of those that it has started."""
  ticks = 0
  for stat in Path('/proc').glob('[0-9]*/stat'):
    try:
      fields = stat.read_text().rpartition(')')[2].split()
    except OSError:
      continue  # has ended
    if int(fields[1]) == os.getpid():
      ticks += int(fields[11]) + int(fields[12])
  return time.process_time() + ticks / os.sysconf('SC_CLK_TCK')


def crops_a_second(source: sources.Source, seconds: float, count: int) -> float:
  """Random crops a second of CPU, in pieces drawn by their lengths."""
  rng = np.random.default_rng(0)
  size = round(seconds * RATE)
  lengths = [source.num_samples(i) for i in range(len(source))]
  places = batches.crop_places(lengths, size)

  def read(times: int) -> None:
    for place in rng.integers(places.count, size=times):
      i, start = places.draw(int(place), rng)
      source.read(i, start, size)

  read(count // 4)
  before = cpu()
  read(count)
  return count / (cpu() - before)


def captioned_a_second(source: sources.Source, count: int) -> float:
  """Rows of captioned batches of 10 s a second of CPU, by one thread."""
  rng = np.random.default_rng(0)
  said = [source.describe(i, 0.0, 60.0, rng)[0] for i in range(len(source))]
  stream = batches.text_audio_batches(
    source,
    text.WordPiece.train(said, 512),
    batch_size=4,
    crop_seconds=10.0,
    text_length=64,
    captions_per_crop=1,
    seed=0,
    readers=loading.Readers(threads=1, processes=1),
  )
  for _ in range(12):
    next(stream)
  before = cpu()
  for _ in range(count // 4):
    next(stream)
  found = count / (cpu() - before)
  stream.close()
  return found


def rows_a_second(
  source: sources.Source, threads: int, processes: int
) -> float:
  """Rows of batches of 1 s crops a second on the clock."""
  stream = batches.audio_batches(
    source,
    batch_size=64,
    crop_seconds=1.0,
    seed=0,
    readers=loading.Readers(threads, processes),
  )
  for _ in range(20):
    next(stream)
  begun = time.monotonic()
  for _ in range(100):
    next(stream)
  found = 64 * 100 / (time.monotonic() - begun)
  stream.close()
  return found


def peer_crops_a_second(python: str, folder: Path, seconds: float) -> float:
  """What audiolm-pytorch's SoundDataset reads, in a process of its own."""
  done = subprocess.run(
    [
      *(python, str(Path(__file__).with_name('peer.py'))),
      *(str(folder), str(seconds), str(FEW_CROPS)),
    ],
    capture_output=True,
    text=True,
    check=True,
  )
  return float(done.stdout)


def main() -> None:
  """Measures everything in turns and writes the medians."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--workdir', type=Path, required=True)
  parser.add_argument('--peer', help='Python with audiolm-pytorch')
  arguments = parser.parse_args()
  environment.keep_freed_memory()
  folder = arguments.workdir
  folder.mkdir(parents=True, exist_ok=True)
  make(folder)
  opened = {
    'whole pieces': (f'rendered_music:{folder / "old"}', FEW_CROPS),
    'FLAC, 44.1 kHz stereo': (f'audio_folder:{folder / "flac"}', FEW_CROPS),
  }
  for seconds in RECORD_SECONDS:
    spec = f'prepared:{folder}/prepared_{seconds}'
    opened[f'records of {seconds} s'] = (spec, None)
  found: dict[str, list[float]] = {}

  def note(what: str, value: float) -> None:
    found.setdefault(what, []).append(value)

  for _ in range(TURNS):
    for seconds, many in CROPS.items():
      for name, (spec, few) in opened.items():
        source = sources.open_source(spec, 'train')
        speed = crops_a_second(source, seconds, few or many)
        note(f'{name}: crops of {seconds:g} s a second of CPU', speed)
      if arguments.peer:
        speed = peer_crops_a_second(arguments.peer, folder / 'flac', seconds)
        note(f'SoundDataset: crops of {seconds:g} s a second of CPU', speed)
    ours = sources.open_source(f'prepared:{folder}/prepared_2', 'train')
    note(
      'captioned crops of 10 s a second of CPU', captioned_a_second(ours, 200)
    )
    for threads, processes in ((1, 1), (4, 1), (1, 2)):
      speed = rows_a_second(ours, threads, processes)
      note(f'rows of 1 s by {threads} threads in {processes} processes', speed)
  result = {
    'date': time.strftime('%Y-%m-%d'),
    'machine': f'{os.cpu_count()} cores, {platform.machine()}',
    'load': os.getloadavg(),
    'versions': {
      name: version(name) for name in ('numpy', 'array_record', 'grain')
    },
    'medians': {k: statistics.median(v) for k, v in found.items()},
    'all': found,
  }
  (folder / 'results.json').write_text(json.dumps(result, indent=1) + '\n')
  for name, value in result['medians'].items():
    print(f'{value:10.1f}  {name}')


if __name__ == '__main__':
  main()
