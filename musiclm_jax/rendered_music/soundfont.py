"""The General MIDI SoundFont, retuned so that the synthesizer plays in tune.

pretty_midi's SoundFont is in tune by itself, but symusic's synthesizer rounds
a sample's loop to whole output samples and detunes zones that override their
sample's root key, both by up to 50 cents (measured). A private copy is made in
which each zone owns its sample: root and fine tuning live in the sample's
header, and the loop is unrolled until rounding is inaudible (<= 5 cents left).
The copy stays in the temporary folder of this user; nothing is shipped.
"""

import functools
import hashlib
import importlib.util
from pathlib import Path

import numpy as np

from musiclm_jax.contracts.atomic_file import atomic_open
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.paths import scratch

_LOOP_SAMPLES = 8192  # rounding by one sample is then 0.2 cents
_GUARD = 46  # silent samples after each sample, as the format demands
_SHDR = np.dtype(
  [
    ('name', 'S20'),
    ('start', '<u4'),
    ('end', '<u4'),
    ('loop_start', '<u4'),
    ('loop_end', '<u4'),
    ('rate', '<u4'),
    ('pitch', 'u1'),
    ('correction', 'i1'),
    ('link', '<u2'),
    ('type', '<u2'),
  ]
)
_GENERATOR = np.dtype([('op', '<u2'), ('amount', '<i2')])
_BAG = np.dtype([('generator', '<u2'), ('modulator', '<u2')])
_FINE, _SAMPLE, _MODE, _ROOT = 52, 53, 54, 58
_START_OFFSETS = (0, 1, 2, 3, 4, 12, 45, 50)  # addresses relative to a sample


def original_path() -> Path:
  """Finds the SoundFont inside the pretty_midi package, unimported.

  Raises:
    UsageError: If the package or its SoundFont is not installed.
  """
  spec = importlib.util.find_spec('pretty_midi')
  if spec is not None and spec.origin:
    path = Path(spec.origin).parent / 'TimGM6mb.sf2'
    if path.is_file():
      return path
  raise UsageError(
    'expected the SoundFont of the pretty_midi package, found none: '
    'pip install pretty_midi'
  )


@functools.cache
def path() -> str:
  """Path of the retuned copy, made on first use (about 0.3 s)."""
  data = original_path().read_bytes()
  key = hashlib.sha256(data + Path(__file__).read_bytes()).hexdigest()[:16]
  copy = scratch() / f'retuned-{key}.sf2'
  if not copy.is_file():
    with atomic_open(copy, 'wb') as file:
      file.write(_retune(data))
  return str(copy)


def _chunks(data: bytes) -> dict[bytes, tuple[int, int]]:
  """Chunk name -> (offset, size) of the innermost RIFF chunks."""
  found, stack = {}, [(12, len(data))]
  while stack:
    position, end = stack.pop()
    while position + 8 <= end:
      name = data[position : position + 4]
      size = int.from_bytes(data[position + 4 : position + 8], 'little')
      if name == b'LIST':
        stack.append((position + 12, position + 8 + size))
      else:
        found[name] = (position + 8, size)
      position += 8 + size + (size & 1)
  return found


def _table(data: bytes, chunks: dict, name: bytes, dtype) -> np.ndarray:
  offset, size = chunks[name]
  return np.frombuffer(data, dtype, size // dtype.itemsize, offset).copy()


def _retune(data: bytes) -> bytes:
  """The same SoundFont with one tuned, loop-unrolled sample a zone."""
  chunks = _chunks(data)
  offset, size = chunks[b'smpl']
  audio = np.frombuffer(data, '<i2', size // 2, offset)
  headers = _table(data, chunks, b'shdr', _SHDR)
  generators = _table(data, chunks, b'igen', _GENERATOR)
  bags = _table(data, chunks, b'ibag', _BAG)
  pool = _SamplePool(audio, headers)
  for first, last in zip(
    bags['generator'][:-1].astype(int),
    bags['generator'][1:].astype(int),
    strict=True,
  ):
    pool.retune_zone(generators[first:last])
  return _riff(
    data,
    chunks,
    {
      b'smpl': np.concatenate(pool.audio).astype('<i2').tobytes(),
      b'shdr': np.array([*pool.headers, headers[-1]], _SHDR).tobytes(),
      b'igen': generators.tobytes(),
    },
  )


class _SamplePool:
  """Collects the new samples; zones with equal tuning share one."""

  def __init__(self, audio: np.ndarray, headers: np.ndarray):
    self._source, self._source_headers = audio, headers
    self._index, self._end = {}, 0
    self.audio, self.headers = [], []

  def retune_zone(self, zone: np.ndarray) -> None:
    """Points the zone at a sample of its own and clears its fine tuning."""
    values = {int(g['op']): int(g['amount']) for g in zone}
    if _SAMPLE not in values:
      return
    index = values[_SAMPLE]
    cents = values.get(_FINE, 0) + int(
      self._source_headers[index]['correction']
    )
    looped = bool(values.get(_MODE, 0) & 1) and not any(
      values.get(op) for op in _START_OFFSETS
    )
    root = values.get(_ROOT, -1)
    if root < 0:
      root = int(self._source_headers[index]['pitch'])
    key = (index, cents, looped, root)
    if key not in self._index:
      self._index[key] = len(self.headers)
      self._append(*key)
    zone['amount'][zone['op'] == _SAMPLE] = self._index[key]
    zone['amount'][zone['op'] == _FINE] = 0

  def _append(self, index: int, cents: int, looped: bool, root: int) -> None:
    header = self._source_headers[index].copy()
    start, end = int(header['start']), int(header['end'])
    loop_start = int(header['loop_start']) - start
    loop_end = int(header['loop_end']) - start
    body = self._source[start:end]
    if looped and 0 <= loop_start < loop_end <= len(body):
      loop = body[loop_start:loop_end]
      copies = -(-_LOOP_SAMPLES // len(loop))
      body = np.concatenate([body[:loop_end], np.tile(loop, copies - 1)])
      loop_end = loop_start + copies * len(loop)
      # Interpolators read past the loop's end: give them its beginning.
      body = np.concatenate([body, np.resize(loop, 8)])
    for name, value in (
      ('start', self._end),
      ('end', self._end + len(body)),
      ('loop_start', self._end + loop_start),
      ('loop_end', self._end + loop_end),
      ('rate', round(int(header['rate']) * 2 ** (cents / 1200))),
      ('pitch', root),
      ('correction', 0),
      ('link', 0),
    ):
      header[name] = value
    self.headers.append(header)
    self.audio += [body, np.zeros(_GUARD, '<i2')]
    self._end += len(body) + _GUARD


def _riff(data: bytes, chunks: dict, replaced: dict[bytes, bytes]) -> bytes:
  """Writes the SoundFont again with some chunks replaced."""

  def chunk(name: bytes, body: bytes) -> bytes:
    padding = b'\0' * (len(body) & 1)
    return name + len(body).to_bytes(4, 'little') + body + padding

  def kept(name: bytes) -> bytes:
    offset, size = chunks[name]
    return chunk(name, replaced.get(name, data[offset : offset + size]))

  info = b''.join(kept(n) for n in (b'ifil', b'isng', b'INAM') if n in chunks)
  preset = b'phdr pbag pmod pgen inst ibag imod igen shdr'.split()
  lists = (
    chunk(b'LIST', b'INFO' + info),
    chunk(b'LIST', b'sdta' + kept(b'smpl')),
    chunk(b'LIST', b'pdta' + b''.join(kept(n) for n in preset)),
  )
  return chunk(b'RIFF', b'sfbk' + b''.join(lists))
