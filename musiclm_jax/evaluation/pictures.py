"""Pictures of a page that need no drawing library.

waveform [S] -> log-mel [M, T] -> PNG; tokens [T, Q] -> PNG; points -> a line
chart as SVG
"""

import colorsys
import html
import math
import struct
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from musiclm_jax.dsp import spectrogram as spectrograms

DYNAMIC_RANGE_DB = 70.0
COLORS = ('#0969da', '#cf222e', '#1a7f37', '#8250df')
_SOFTEST_TOP_DB = -40.0  # silence stays dark, however little there is in it
_NUM_MELS = 96
_WINDOW_SECONDS = 0.04
_HOP_SECONDS = 0.02
# Nine colours of the palette `magma`, dark to bright.
_PALETTE = (
  *((0, 0, 4), (28, 16, 68), (79, 18, 123), (129, 37, 129), (181, 54, 122)),
  *((229, 80, 100), (251, 135, 97), (254, 194, 135), (252, 253, 191)),
)
# Size of a chart, and what is left for its axes.
_WIDTH, _HEIGHT = 340, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 26, 40

Points = Sequence[tuple[float, float]]


def decibels(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
  """Log-mel spectrogram of a clip, for the eye.

  Args:
    waveform: [S]; one that is shorter than a window is padded with zeros.
    sample_rate: In Hz.

  Returns:
    float32 [96, T] in dB, low bands first, a frame every 20 ms.
  """
  window = round(_WINDOW_SECONDS * sample_rate)
  waveform = np.nan_to_num(np.asarray(waveform, np.float32))
  padding = max(window - len(waveform), 0)
  mels = spectrograms.log_mel(
    np.pad(waveform, (0, padding)),
    window_length=window,
    hop_length=round(_HOP_SECONDS * sample_rate),
    fft_size=2 ** math.ceil(math.log2(2 * window)),
    sample_rate=sample_rate,
    num_mels=_NUM_MELS,
    low_hz=0.0,
    high_hz=sample_rate / 2,
  )
  # The bin of a sine at full scale is at 0 dB; a filter sums several bins.
  nats = np.asarray(mels).T - np.log(window / 4)
  return (20 / np.log(10) * nats).astype(np.float32)


def loudest(*spectrums: np.ndarray) -> float:
  """Top of the scale for spectrograms that are compared, in dB."""
  tops = [float(s.max(initial=_SOFTEST_TOP_DB)) for s in spectrums]
  return max([_SOFTEST_TOP_DB, *tops])


def spectrogram(
  waveform: np.ndarray, sample_rate: int, top: float | None = None
) -> bytes:
  """Draws a clip [S] as a PNG, a pixel a frame, low bands at the bottom.

  Args:
    waveform: The clip.
    sample_rate: In Hz.
    top: What is brightest, in dB; None: the loudest of this clip.
  """
  levels = decibels(waveform, sample_rate)
  top = loudest(levels) if top is None else top
  shares = (levels - (top - DYNAMIC_RANGE_DB)) / DYNAMIC_RANGE_DB
  return png(np.round(255 * np.clip(shares, 0, 1)).astype(np.uint8)[::-1])


def token_stream(codes: np.ndarray) -> bytes:
  """Draws tokens int [T, Q] as a PNG, a pixel a token, level 1 at the top.

  A colour is a token, so that what returns is seen; tokens that are neighbours
  by number have colours far apart. Of more than 256 some share one.
  """
  return png(_colors_of(np.asarray(codes)).T, _token_palette())


def _colors_of(codes: np.ndarray) -> np.ndarray:
  """The entry of the palette of each token: a multiplication that permutes."""
  return (codes * 157 % 256).astype(np.uint8)


def _token_palette() -> np.ndarray:
  """256 colours, uint8 [256, 3]: all hues, four times, light and dark.

  The first is black, for the codec's entry that is silence.
  """
  colors = [
    colorsys.hls_to_rgb(hue / 64, lightness, 0.65)
    for lightness in (0.35, 0.5, 0.65, 0.8)
    for hue in range(64)
  ]
  colors[0] = 0.0, 0.0, 0.0
  return np.round(255 * np.array(colors)).astype(np.uint8)


def _dark_to_bright() -> np.ndarray:
  """256 colours, uint8 [256, 3]."""
  places = np.linspace(0, 255, len(_PALETTE))
  colors = [
    np.interp(np.arange(256), places, channel)
    for channel in zip(*_PALETTE, strict=True)
  ]
  return np.round(np.stack(colors, axis=1)).astype(np.uint8)


def png(image: np.ndarray, palette: np.ndarray | None = None) -> bytes:
  """Writes an image as a PNG of indexed colours.

  Args:
    image: uint8 [H, W], entries of the palette.
    palette: uint8 [256, 3]; None goes from dark to bright.
  """
  height, width = image.shape
  palette = _dark_to_bright() if palette is None else palette
  rows = np.pad(image, ((0, 0), (1, 0)))  # a row begins with its filter: none

  def chunk(name: bytes, content: bytes) -> bytes:
    checked = name + content
    size = struct.pack('>I', len(content))
    return size + checked + struct.pack('>I', zlib.crc32(checked))

  # 8 bits, indexed colours.
  header = struct.pack('>IIBBBBB', width, height, 8, 3, 0, 0, 0)
  return (
    b'\x89PNG\r\n\x1a\n'
    + chunk(b'IHDR', header)
    + chunk(b'PLTE', palette.tobytes())
    + chunk(b'IDAT', zlib.compress(rows.tobytes(), 9))
    + chunk(b'IEND', b'')
  )


def line_chart(
  lines: Mapping[str, Points],
  *,
  title: str,
  x_label: str,
  y_label: str,
  limit: tuple[str, float] | None = None,
) -> str:
  """Draws lines with their points as SVG; its y axis begins at 0 or below.

  Args:
    lines: Name -> points (x, y), which must be finite. Names are shown where
      there are several.
    title: Of the chart.
    x_label: Of the axis.
    y_label: Of the axis.
    limit: Name and height of a dashed line, such as what can be reached.
  """
  points = [point for line in lines.values() for point in line]
  heights = [y for _, y in points] + ([limit[1]] if limit else [])
  columns = _ticks(min(x for x, _ in points), max(x for x, _ in points))
  rows = _ticks(min([0.0, *heights]), max([0.0, *heights]))

  def place(x: float, y: float) -> tuple[float, float]:
    across = (x - columns[0]) / (columns[-1] - columns[0])
    up = (y - rows[0]) / (rows[-1] - rows[0])
    return (
      _LEFT + across * (_WIDTH - _LEFT - _RIGHT),
      _HEIGHT - _BOTTOM - up * (_HEIGHT - _TOP - _BOTTOM),
    )

  parts = [_text(_WIDTH / 2, 14, title, weight='600')]
  for y in rows:
    parts.append(_line(place(columns[0], y), place(columns[-1], y), '#d8dee4'))
    parts.append(_text(_LEFT - 6, place(0, y)[1] + 4, f'{y:g}', 'end'))
  for x in columns:
    parts.append(_text(place(x, 0)[0], _HEIGHT - _BOTTOM + 14, f'{x:g}'))
  parts.append(_text(_WIDTH / 2, _HEIGHT - 8, x_label))
  parts.append(_text(4, 14, y_label, 'start'))
  if limit:
    y = place(0, limit[1])[1]
    ends = (_LEFT, y), (_WIDTH - _RIGHT, y)
    parts.append(_line(*ends, '#57606a', dashes='4 3'))
    parts.append(_text(_WIDTH - _RIGHT, y - 4, limit[0], 'end'))
  for number, (name, line) in enumerate(lines.items()):
    color = COLORS[number % len(COLORS)]
    parts.append(_curve([place(*point) for point in line], color))
    if len(lines) > 1:
      y = _TOP + 10 + 13 * number
      parts.append(_text(_LEFT + 8, y, name, 'start', color))
  return (
    f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
    f'aria-label="{html.escape(title)}">{"".join(parts)}</svg>'
  )


def _ticks(low: float, high: float) -> list[float]:
  """Three to six round numbers, the first below all and the last above."""
  spread = (high - low) or max(abs(high), 1.0)
  step = 10.0 ** math.floor(math.log10(spread / 3))
  step *= next(k for k in (1, 2, 5, 10) if spread / (k * step) <= 4)
  first, last = math.floor(low / step), math.ceil(high / step)
  return [k * step for k in range(first, max(last, first + 1) + 1)]


def _curve(places: Sequence[tuple[float, float]], color: str) -> str:
  path = ' '.join(f'{x:.1f},{y:.1f}' for x, y in places)
  dots = ''
  if len(places) <= 64:
    dots = ''.join(
      f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2" fill="{color}"/>'
      for x, y in places
    )
  return (
    f'<polyline points="{path}" fill="none" stroke="{color}" '
    f'stroke-width="1.5"/>{dots}'
  )


def _line(
  start: tuple[float, float],
  end: tuple[float, float],
  color: str,
  dashes: str = '',
) -> str:
  dashed = f' stroke-dasharray="{dashes}"' if dashes else ''
  return (
    f'<line x1="{start[0]:.1f}" y1="{start[1]:.1f}" x2="{end[0]:.1f}" '
    f'y2="{end[1]:.1f}" stroke="{color}"{dashed}/>'
  )


def _text(
  x: float,
  y: float,
  text: str,
  anchor: str = 'middle',
  color: str = '#1b1f24',
  weight: str = '400',
) -> str:
  return (
    f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}" '
    f'font-size="11" font-weight="{weight}">{html.escape(text)}</text>'
  )
