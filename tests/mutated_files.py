"""Sound and MIDI files that were whole before something happened to them."""

from pathlib import Path

import numpy as np
import soundfile

KINDS = ('wav', 'flac', 'mp3', 'ogg', 'mid')
_RATE = 16_000


def write(folder: Path, kind: str, count: int, seed: int) -> list[str]:
  """Writes mutated files of a kind; returns their names."""
  rng = np.random.default_rng(seed)
  whole = [_whole(folder, kind, rng) for _ in range(8)]
  names = []
  for index in range(count):
    name = f'{index:05}.{kind}'
    data = bytearray(whole[index % len(whole)])
    (folder / name).write_bytes(mutate(data, rng))
    names.append(name)
  return names


def mutate(data: bytearray, rng: np.random.Generator) -> bytes:
  """Flips, cuts, repeats, overwrites, inserts; the head more than the rest."""
  for _ in range(rng.integers(1, 4)):
    size = len(data)
    if size < 2:
      break
    near = size if rng.random() < 0.5 else min(size, 64)
    at = int(rng.integers(0, near))
    length = int(rng.integers(1, 40))
    match rng.integers(0, 7):
      case 0:
        data[at] ^= 1 << int(rng.integers(0, 8))
      case 1:
        data[at : at + length] = rng.bytes(length)
      case 2:
        data[at : at + length] = bytes(
          [int(rng.choice([0, 127, 128, 255]))]
        ) * (length)
      case 3:
        del data[at : at + length]
      case 4:
        data[at:at] = data[at : at + length * 20]
      case 5:
        del data[int(rng.integers(0, size)) :]
      case 6:
        data[at:at] = rng.bytes(length)
  return bytes(data)


def _whole(folder: Path, kind: str, rng: np.random.Generator) -> bytes:
  path = folder / f'whole.{kind}'
  if kind == 'mid':
    data = _midi(rng)
  else:
    channels = int(rng.integers(1, 3))
    waveform = 0.3 * rng.standard_normal(
      (int(_RATE * rng.uniform(0.2, 1.5)), 1)
    )
    waveform = np.clip(np.repeat(waveform, channels, axis=1), -1.0, 1.0)
    soundfile.write(path, waveform, _RATE)
    data = path.read_bytes()
    path.unlink()
  return data


def _midi(rng: np.random.Generator) -> bytes:
  """A file of two tracks: tempo, programs, notes, a controller, a bend."""

  def track(events: bytes) -> bytes:
    events += b'\x00\xff\x2f\x00'
    return b'MTrk' + len(events).to_bytes(4, 'big') + events

  notes = b''.join(
    bytes([int(rng.integers(0, 96)), 0x90, pitch, 90, 48, 0x80, pitch, 0])
    for pitch in map(int, rng.integers(36, 96, 24))
  )
  head = b'MThd' + (6).to_bytes(4, 'big') + b'\x00\x01\x00\x02\x01\xe0'
  tempo = b'\x00\xff\x51\x03\x07\xa1\x20\x00\xff\x58\x04\x04\x02\x18\x08'
  setup = bytes([0, 0xC0, int(rng.integers(0, 128)), 0, 0xB0, 7, 100])
  bend = b'\x00\xe0\x00\x50'
  return head + track(tempo) + track(setup + bend + notes)
