"""Curves of distance over rate, and spectrograms of one clip, as PNG files."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from measures import log_stft

_RATE = 24_000
_FAMILIES = {'ours': '#0969da', 'opus': '#cf222e', 'mp3': '#7d8590'}
_SHOWN_DB = (-80, -10)


def curves(path: Path, results: Mapping, measures: Mapping[str, str]) -> None:
  """One row a set of clips, one panel a measure, one line a codec.

  Args:
    path: Of the PNG file.
    results: Set -> 'codecs' -> setting -> 'kbps' and measures' intervals.
    measures: Name -> title of those to be drawn.
  """
  figure = Figure((3.2 * len(measures), 2.5 * len(results)), layout='tight')
  FigureCanvasAgg(figure)
  axes = figure.subplots(len(results), len(measures), squeeze=False)
  for row, (name, result) in zip(axes, results.items(), strict=True):
    for axis, (measure, title) in zip(row, measures.items(), strict=True):
      for family, colour in _FAMILIES.items():
        points = [
          (
            codec['kbps'],
            *(codec[measure][k] for k in ('value', 'low', 'high')),
          )
          for setting, codec in result['codecs'].items()
          if setting.startswith(family) and measure in codec
        ]
        rate, value, low, high = np.array(points).T
        axis.plot(rate, value, '.-', color=colour, label=family)
        axis.fill_between(rate, low, high, color=colour, alpha=0.15, lw=0)
      axis.set_xscale('log')
      axis.set_xticks([0.4, 1, 2, 5, 10, 20, 30], minor=False)
      axis.set_xticklabels(['0.4', '1', '2', '5', '10', '20', '30'])
      axis.minorticks_off()
      axis.set_title(f'{name}: {title}', fontsize=8)
      axis.tick_params(labelsize=7)
      axis.grid(alpha=0.25)
  axes[0][0].legend(fontsize=7)
  for axis in axes[-1]:
    axis.set_xlabel('kbps', fontsize=7)
  _save(figure, path)


def spectrograms(path: Path, clips: Mapping[str, np.ndarray]) -> None:
  """Linear-frequency spectrograms, one panel a clip [S]."""
  figure = Figure((3.2 * len(clips) / 2, 4.2), layout='tight')
  FigureCanvasAgg(figure)
  axes = figure.subplots(2, len(clips) // 2).flat
  for axis, (name, clip) in zip(axes, clips.items(), strict=True):
    axis.imshow(
      20 * log_stft(clip)[0].T,
      origin='lower',
      aspect='auto',
      cmap='magma',
      vmin=_SHOWN_DB[0],
      vmax=_SHOWN_DB[1],
      extent=(0, len(clip) / _RATE, 0, _RATE / 2000),
    )
    axis.set_title(name, fontsize=8)
    axis.tick_params(labelsize=7)
  _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
  figure.savefig(path, dpi=80, metadata={'Software': None})
