"""Codes clips with Opus and MP3; runs in the environment of the peers.

`python rivals.py clips.npz coded.npz`: waveforms [N, S] and lengths [N] ->
for each setting its waveforms [N, S] and its rate in kbps. A rate is that of
the packets alone, over the time that they hold; no container counts.
"""

import io
import json
import sys

import av
import numpy as np
from scipy import signal

_RATE = 24_000
# Setting -> (encoder, container, sample format, kbps).
SETTINGS = {
  **{f'opus {k}': ('libopus', 'ogg', 'flt', k) for k in (6, 12, 24)},
  **{f'mp3 {k}': ('libmp3lame', 'mp3', 'fltp', k) for k in (16, 24, 32)},
}


def code(waveform: np.ndarray, setting: str) -> tuple[np.ndarray, int, float]:
  """Codes one clip [S] at the encoder's defaults but for its rate.

  Returns:
    The decoded clip, the bits of its packets and the seconds that they hold.
  """
  encoder, container, sample_format, kbps = SETTINGS[setting]
  buffer = io.BytesIO()
  bits, seconds = 0, 0.0
  with av.open(buffer, 'w', format=container) as out:
    stream = out.add_stream(encoder, rate=_RATE, layout='mono')
    stream.bit_rate = 1000 * kbps
    frame = av.AudioFrame.from_ndarray(waveform[None], sample_format, 'mono')
    frame.sample_rate = _RATE
    for part in (frame, None):
      for packet in stream.encode(part):
        bits += 8 * packet.size
        seconds += stream.codec_context.frame_size / _RATE
        out.mux(packet)
  buffer.seek(0)
  with av.open(buffer) as coded:
    frames = list(coded.decode(audio=0))
  decoded = np.concatenate([f.to_ndarray().ravel() for f in frames])
  if decoded.dtype == np.int16:
    decoded = decoded / 32768.0
  decoded = signal.resample_poly(decoded, _RATE, frames[0].sample_rate)
  return decoded.astype(np.float32), bits, seconds


def main(clips: str, coded: str) -> None:
  """Codes all clips at all settings."""
  given = np.load(clips)
  out, rates = {}, {}
  for setting in SETTINGS:
    rows, bits, seconds = np.zeros_like(given['waveforms']), 0, 0.0
    for row, clip, length in zip(
      rows, given['waveforms'], given['lengths'], strict=True
    ):
      decoded, spent, held = code(clip[:length], setting)
      row[: len(decoded)] = decoded[: len(row)]
      bits, seconds = bits + spent, seconds + held
    out[setting], rates[setting] = rows, bits / seconds / 1000
  np.savez(coded, **out)
  print(json.dumps({'av': av.__version__, 'kbps': rates}))


if __name__ == '__main__':
  main(*sys.argv[1:])
