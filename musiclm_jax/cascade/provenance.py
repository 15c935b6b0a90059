"""Provenance of sound files: in the file and in a JSON file beside it."""

import hashlib
import importlib.metadata
import io
import json
import os
import platform
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from musiclm_jax import __version__
from musiclm_jax.contracts import ownership, paths
from musiclm_jax.contracts.atomic_file import (
  atomic_open,
  remove_leftovers,
  write_text,
)
from musiclm_jax.contracts.errors import UsageError

_BYTES_PER_SECOND = 48_000


def versions() -> dict[str, str]:
  """Names what must be equal for a result to be equal."""
  packages = ('jax', 'jaxlib', 'flax', 'numpy')
  return {
    'musiclm_jax': __version__,
    'python': platform.python_version(),
    **{name: importlib.metadata.version(name) for name in packages},
  }


def write_sound(
  path: str | os.PathLike,
  waveform: np.ndarray,
  sample_rate: int,
  provenance: Mapping[str, Any],
) -> None:
  """Writes a WAV or FLAC file, whole or not at all, and a JSON file beside it.

  Args:
    path: Of the file; what ends in .flac becomes one.
    waveform: float [S] in [-1, 1], written as 16 bits.
    sample_rate: In Hz.
    provenance: Written as JSON into the file's comment (RIFF INFO, ICMT, or a
      Vorbis comment) and into `sidecar(path)`, with the hash of the sound and a
      seal.

  Raises:
    OSError: Naming the file, if the disk does not take it.
  """
  path, pcm = Path(path), to_pcm(waveform)
  record = ownership.seal({**provenance, 'sound_sha256': _sha256(pcm)})
  form = _flac if path.suffix.lower() == '.flac' else _riff
  with atomic_open(path, 'wb') as file:
    file.write(form(pcm, sample_rate, json.dumps(record)))
  if beside := sidecar(path):
    write_text(beside, json.dumps(record, indent=1) + '\n')


def to_pcm(waveform: np.ndarray) -> bytes:
  """Rounds samples in [-1, 1] to 16 bits, little-endian."""
  return np.round(np.clip(waveform, -1.0, 1.0) * 32767).astype('<i2').tobytes()


def wav_header(samples: int, sample_rate: int) -> bytes:
  """The 44 bytes before the samples of a WAV file without a comment."""
  bare = _riff(b'', sample_rate)
  size = 2 * samples
  riff = struct.pack('<I', len(bare) - 8 + size)
  return bare[:4] + riff + bare[8:-4] + struct.pack('<I', size)


def sidecar(path: Path) -> Path | None:
  """The JSON file beside a sound; None where its name would be too long."""
  beside = path.with_suffix('.json')
  size = len(os.fsencode(beside.name))
  return beside if size <= paths.name_limit(path) else None


def outputs(
  out: Path, count: int | None, seconds: float, overwrite: bool = False
) -> list[Path]:
  """Names the sound files to write, each of which can be written.

  Args:
    out: What was asked for.
    count: None for one piece; pieces of a list get `x_0.wav`, `x_1.wav`, …
    seconds: Length of each.
    overwrite: See `check_out`.

  Raises:
    UsageError: If one cannot, would replace a file that is not ours, or the
      disk has no room for them.
  """
  if out.suffix.lower() not in ('.wav', '.flac'):
    raise UsageError(f"--out='{out}': the name must end in .wav or .flac")
  files = [out]
  if count is not None:
    files = [out.with_stem(f'{out.stem}_{k}') for k in range(count)]
  for file in files:
    check_out(file, overwrite)
  paths.check_room(
    out, len(files) * seconds * _BYTES_PER_SECOND, 'the sound files'
  )
  remove_leftovers(out.parent)
  return files


def check_out(path: Path, overwrite: bool = False) -> None:
  """Checks that `write_sound` can write to `path`; leaves nothing there.

  Args:
    path: Of the sound file.
    overwrite: Whether files are replaced that `write_sound` did not write, or
      that were changed since.

  Raises:
    UsageError: If it cannot, or a file is in the way.
  """
  paths.check_file(path)
  files = [file for file in (path, sidecar(path)) if file]
  for file in files:
    if file.is_dir():
      raise UsageError(f"cannot write '{file}': it is a folder")
  foreign = [f for f in files if os.path.lexists(f) and not is_ours(f)]
  if foreign and not overwrite:
    raise UsageError(
      f"'{foreign[0]}' would be replaced, and generate did not write it, or it "
      'was changed since: choose another --out, or give --overwrite to replace '
      + ' and '.join(file.name for file in foreign)
    )


def is_ours(path: Path) -> bool:
  """Whether `write_sound` wrote this sound or JSON file, and nobody since."""
  try:
    data = path.read_bytes()
    if path.suffix.lower() == '.json':
      return ownership.is_sealed(json.loads(data))
    record = json.loads(_comment(data))
    digest = _sha256(_pcm(data))
  except (OSError, ValueError, struct.error):
    return False
  return ownership.is_sealed(record) and record['sound_sha256'] == digest


def _sha256(data: bytes) -> str:
  return hashlib.sha256(data).hexdigest()


def read_provenance(path: str | os.PathLike) -> dict[str, Any]:
  """Reads what `write_sound` wrote into a sound file.

  Raises:
    UsageError: If the file is no sound or carries nothing of ours.
  """
  try:
    record = json.loads(_comment(Path(path).read_bytes()))
    if not isinstance(record, dict):
      raise ValueError('its comment is no object')
    return record
  except (struct.error, ValueError) as error:
    raise UsageError(
      f"'{path}' carries no provenance: it is no sound file of ours ({error})"
    ) from error


def _riff(pcm: bytes, sample_rate: int, comment: str | None = None) -> bytes:
  """Builds a mono 16-bit WAV file; libsndfile would drop a long comment."""
  form = struct.pack('<HHIIHH', 1, 1, sample_rate, 2 * sample_rate, 2, 16)
  chunks = _chunk(b'fmt ', form)
  if comment is not None:
    info = b'INFO' + _chunk(b'ICMT', comment.encode('ascii') + b'\0')
    chunks += _chunk(b'LIST', info)
  chunks += _chunk(b'data', pcm)
  return _chunk(b'RIFF', b'WAVE' + chunks)


def _flac(pcm: bytes, sample_rate: int, comment: str) -> bytes:
  """Builds a mono 16-bit FLAC file."""
  import soundfile

  made = io.BytesIO()
  with soundfile.SoundFile(
    made, 'w', sample_rate, 1, 'PCM_16', format='FLAC'
  ) as file:
    file.comment = comment
    file.write(np.frombuffer(pcm, '<i2'))
  return made.getvalue()


def _read_flac(data: bytes) -> tuple[str, bytes]:
  """The comment and the int16 samples of a FLAC file.

  Raises:
    ValueError: If it is damaged.
  """
  import soundfile

  try:
    with soundfile.SoundFile(io.BytesIO(data)) as file:
      return file.comment, file.read(dtype='int16').astype('<i2').tobytes()
  except soundfile.LibsndfileError as error:
    raise ValueError(str(error)) from error


def _pcm(data: bytes) -> bytes:
  """The samples of a file, int16."""
  if data[:4] == b'fLaC':
    return _read_flac(data)[1]
  (pcm,) = (c for name, c in _chunks(data[12:]) if name == b'data')
  return pcm


def _chunk(name: bytes, content: bytes) -> bytes:
  padding = b'\0' * (len(content) % 2)
  return name + struct.pack('<I', len(content)) + content + padding


def _comment(data: bytes) -> str:
  """Finds the comment of a FLAC file, or the ICMT text of a RIFF file."""
  if data[:4] == b'fLaC':
    return _read_flac(data)[0]
  if data[:4] != b'RIFF' or data[8:12] != b'WAVE':
    raise ValueError('no RIFF header')
  for name, content in _chunks(data[12:]):
    if name == b'LIST' and content[:4] == b'INFO':
      for key, text in _chunks(content[4:]):
        if key == b'ICMT':
          return text.rstrip(b'\0').decode('ascii')
  raise ValueError('no comment')


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
  at = 0
  while at + 8 <= len(data):
    (size,) = struct.unpack_from('<I', data, at + 4)
    yield data[at : at + 4], data[at + 8 : at + 8 + size]
    at += 8 + size + size % 2
