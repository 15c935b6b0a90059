"""Pictures of the report, as PNG bytes: loss curves and an overview."""

import io
from collections.abc import Mapping, Sequence

import numpy as np

from musiclm_jax.contracts.audio import SAMPLE_RATE
from musiclm_jax.evaluation import pictures


def loss_curves(
  curves: Mapping[str, Sequence[Mapping[str, float]]],
) -> bytes:
  """Training and held-out loss of every stage, one panel a stage."""
  names = [name for name in curves if curves[name]] or ['']
  columns = min(4, len(names))
  rows = -(-len(names) // columns)
  figure, axes = _figure(3.1 * columns, 2.3 * rows, rows, columns)
  for axis, name in zip(np.atleast_1d(axes).flat, names, strict=False):
    _draw_curve(axis, name, curves.get(name, ()))
  for axis in list(np.atleast_1d(axes).flat)[len(names) :]:
    axis.axis('off')
  return _png(figure)


def overview(
  curves: Mapping[str, Sequence[Mapping[str, float]]],
  clips: Sequence[tuple[str, np.ndarray]],
) -> bytes:
  """The README's picture: losses above, what came out of prompts below."""
  names = [name for name in curves if curves[name]][:8]
  clips = list(clips)[:4]
  columns = 4
  heights = [-(-len(names) // columns) or 1, -(-len(clips) // 2) or 1]
  figure, _ = _figure(12, 2.2 * sum(heights), 1, 1, empty=True)
  top, bottom = figure.subfigures(2, 1, height_ratios=heights)
  axes = np.atleast_1d(top.subplots(heights[0], columns)).flat
  for axis, name in zip(axes, names, strict=False):
    _draw_curve(axis, name, curves[name])
  for axis in axes:
    axis.axis('off')
  axes = np.atleast_1d(bottom.subplots(heights[1], 2)).flat
  for axis, (title, waveform) in zip(axes, clips, strict=False):
    _draw_spectrogram(axis, waveform)
    axis.set_title(f'“{title}”', fontsize=9)
  for axis in axes:
    axis.axis('off')
  return _png(figure)


def _draw_curve(axis, name, records) -> None:
  """`loss` as a line, `eval_loss` as dots."""
  points = [(r['step'], r['loss']) for r in records if 'loss' in r]
  if points:
    axis.plot(*zip(*points, strict=True), lw=1.2, color='#0969da')
  held_out = [(r['step'], r['eval_loss']) for r in records if 'eval_loss' in r]
  if held_out:
    axis.plot(*zip(*held_out, strict=True), 'o', ms=3, color='#cf222e')
  axis.set_title(name, fontsize=9)
  axis.tick_params(labelsize=7)
  axis.grid(alpha=0.25)


def _draw_spectrogram(axis, waveform: np.ndarray) -> None:
  decibels = pictures.decibels(waveform, SAMPLE_RATE)
  top = pictures.loudest(decibels)
  axis.imshow(
    decibels,
    origin='lower',
    aspect='auto',
    cmap='magma',
    vmin=top - pictures.DYNAMIC_RANGE_DB,
    vmax=top,
    extent=(0, len(waveform) / SAMPLE_RATE, 0, len(decibels)),
  )
  axis.set_yticks([])
  axis.tick_params(labelsize=7)


def _figure(width, height, rows=1, columns=1, *, empty=False):
  """A figure of the non-interactive backend, whatever the environment."""
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  figure = Figure(figsize=(width, height), layout='constrained')
  FigureCanvasAgg(figure)
  return figure, None if empty else figure.subplots(rows, columns)


def _png(figure) -> bytes:
  buffer = io.BytesIO()
  # No version and date in the file: equal runs give equal bytes.
  figure.savefig(buffer, format='png', dpi=90, metadata={'Software': None})
  return buffer.getvalue()
