"""Claims on loading: batches depend on seed and step, on nothing else."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.data import (
  batches,
  loading,
  preparable,
  preparation,
  sources,
  text,
)
from musiclm_jax.data.loading import HostShard, Readers

STEPS, CUT = 200, 97
THREADS = Readers(threads=2, processes=1)


@pytest.fixture(scope='module')
def source(tmp_path_factory):
  """Nine short captioned files, prepared; the train split."""
  folder = tmp_path_factory.mktemp('sound')
  rng = np.random.default_rng(0)
  rows = ['path,caption']
  for number in range(9):
    noise = 0.1 * rng.standard_normal(24_000 * (3 + number % 3))
    soundfile.write(folder / f'{number}.wav', noise, 24_000)
    rows += [f'{number}.wav,noise of kind {k}' for k in range(number % 3)]
  (folder / 'captions.csv').write_text('\n'.join(rows) + '\n')
  music = preparable.open_music(f'audio_folder:{folder}')
  out = tmp_path_factory.mktemp('prepared') / 'out'
  preparation.prepare(music, out, processes=1)
  return sources.open_source(f'prepared:{out}', 'train')


def audio(source, **options):
  return batches.audio_batches(
    source, batch_size=8, crop_seconds=0.25, seed=3, **options
  )


def captioned(source, **options):
  tokenizer = text.WordPiece.train(['noise of kind 0 1 2'], 64)
  return batches.text_audio_batches(
    source,
    tokenizer,
    batch_size=8,
    crop_seconds=0.25,
    text_length=8,
    captions_per_crop=2,
    seed=3,
    **options,
  )


def digest(make, source, hosts, first=0, last=STEPS, readers=THREADS):
  """One hash of the global batches [first, last), read by so many hosts."""
  streams = [
    make(
      source,
      shard=HostShard(host, hosts),
      start_step=first,
      readers=readers,
    )
    for host in range(hosts)
  ]
  found = [hashlib.sha256() for _ in range(first, last)]
  for one in found:
    parts = [next(stream) for stream in streams]
    for name in sorted(parts[0]):
      rows = np.concatenate([part[name] for part in parts])
      one.update(np.ascontiguousarray(rows).tobytes())
  for stream in streams:
    stream.close()
  return [one.hexdigest() for one in found]


@pytest.fixture(scope='module', params=[audio, captioned])
def whole(request, source):
  """How batches are made, and the hashes of those of one host."""
  return request.param, digest(request.param, source, 1)


@pytest.mark.parametrize('hosts', [2, 4, 8])
def test_any_number_of_hosts_reads_the_same_global_batches(
  whole, source, hosts
):
  make, hashes = whole
  assert digest(make, source, hosts) == hashes


@pytest.mark.parametrize(('hosts', 'after'), [(1, 4), (2, 1), (8, 2)])
def test_resuming_on_other_hosts_continues_the_same_batches(
  whole, source, hosts, after
):
  make, hashes = whole
  before = digest(make, source, hosts, last=CUT)
  assert before + digest(make, source, after, first=CUT) == hashes


@pytest.mark.parametrize('whole', [captioned], indirect=True)
def test_processes_and_threads_read_the_same_batches(whole, source):
  make, hashes = whole
  readers = Readers(threads=3, processes=2)
  rest = digest(make, source, 1, first=CUT, readers=readers)
  assert rest == hashes[CUT:]


@pytest.mark.soak
@pytest.mark.parametrize('processes', [2, 4])
def test_any_number_of_processes_reads_the_same_batches(
  whole, source, processes
):
  make, hashes = whole
  readers = Readers(threads=3, processes=processes)
  assert digest(make, source, 1, readers=readers) == hashes


def test_what_is_wrong_in_a_process_is_said_in_this_one(source):
  def fail(place, rng):
    raise UsageError('the shard is damaged')

  stream = loading.stream(fail, 5, 1, 0, 0, None, Readers(1, 2))
  with pytest.raises(UsageError, match='the shard is damaged'):
    next(stream)
  stream.close()


@pytest.mark.parametrize(
  'killed', [pytest.param(False, marks=pytest.mark.soak), True]
)
def test_processes_end_with_the_training_and_without_a_word(killed):
  code = (
    'import multiprocessing, sys, time\n'
    'import numpy as np\n'
    'from musiclm_jax.data import loading\n'
    'def row(place, rng):\n'
    '  return {"waveform": rng.random(24_000)}\n'
    'def main():\n'
    '  readers = loading.Readers(1, 2)\n'
    '  stream = loading.stream(row, 9, 4, 0, 0, None, readers)\n'
    '  for _ in range(5): last = next(stream)\n'
    '  print(*(p.pid for p in multiprocessing.active_children()), flush=True)\n'
    f'  time.sleep({600 if killed else 0})\n'
    'if __name__ == "__main__":\n'
    '  main()\n'
  )
  with subprocess.Popen(
    [sys.executable, '-c', code],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  ) as process:
    assert len(process.stdout.readline().split()) == 2
    if killed:
      process.kill()
    # They hold its standard error, which ends with the last of them.
    said = process.communicate(timeout=120)[1]
  assert killed or (process.returncode, said) == (0, '')


def test_readers_suit_the_number_of_cores(monkeypatch):
  found = {}
  for cores in (1, 2, 4, 8, 16, 128):
    monkeypatch.setattr(loading, '_cores', lambda cores=cores: cores)
    readers = Readers().resolved()
    found[cores] = readers.threads, readers.processes
  assert found == {
    **{1: (4, 1), 2: (4, 1), 4: (4, 1)},
    **{8: (8, 2), 16: (16, 4), 128: (16, 8)},
  }
  assert Readers(3, 1).resolved() == Readers(3, 1)


def test_a_batch_that_does_not_divide_is_refused(source):
  with pytest.raises(UsageError, match='multiple of 3'):
    audio(source, shard=HostShard(0, 3))
