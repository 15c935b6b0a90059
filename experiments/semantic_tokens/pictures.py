"""The curves over depth, as PNG bytes."""

import io
from collections.abc import Mapping

import probes

_TITLES = {
  'key': 'key (24), accuracy',
  'family': 'lead family (8), accuracy',
  'tempo': 'tempo (3), accuracy',
  'chord': 'chord (24), accuracy',
  'lead_pitch': "lead's pitch class (12), accuracy",
  'onset': 'onset, AUC',
}


def layers(results: Mapping) -> bytes:
  """One panel a probe and one of the timbre invariance."""
  import matplotlib

  matplotlib.use('Agg')
  from matplotlib import pyplot

  figure, axes = pyplot.subplots(2, 4, figsize=(13, 5.4), sharex=True)
  found, names = results['layers'], results['layers']['names']
  panels = list(axes.flat)
  for axis, task in zip(panels, probes.TASKS, strict=False):
    _curves(axis, names, found, lambda row, t=task: row['probes'][t])
    axis.axhline(probes.CHANCE[task], color='0.8', linewidth=1)
    axis.set_title(_TITLES[task], fontsize=9)
  for axis, kind in zip(panels[6:], ('solo', 'band'), strict=True):
    _curves(
      axis, names, found, lambda row, k=kind: row['invariance'][k]['corrected']
    )
    if 'tokens' in results:
      shares = results['tokens']['invariance'][kind]['shares']
      level = shares['acoustic level 1']['corrected']['value']
      axis.axhline(level, color='tab:red', linewidth=1, label='codec level 1')
    axis.set_title(f'tokens kept by another cast, {kind}', fontsize=9)
  for axis in panels:
    axis.tick_params(labelsize=7)
    axis.set_xticks(range(len(names)), names, rotation=60, ha='right')
    axis.axvline(
      names.index(found['token_layer']), color='0.9', linewidth=6, zorder=0
    )
  panels[-1].legend(fontsize=7)
  figure.tight_layout()
  out = io.BytesIO()
  figure.savefig(out, dpi=80)
  pyplot.close(figure)
  return out.getvalue()


def _curves(axis, names, sides, pick) -> None:
  for side, style in (('trained', 'tab:blue'), ('untrained', 'tab:orange')):
    rows = [pick(sides[side][name]) for name in names]
    axis.plot([row['value'] for row in rows], color=style, label=side)
    axis.fill_between(
      range(len(rows)),
      [row['low'] for row in rows],
      [row['high'] for row in rows],
      color=style,
      alpha=0.15,
    )
  for name, dash in (('log_mel', ':'), ('mfcc', '--')):
    value = pick(sides['front_end'][name])['value']
    axis.axhline(value, color='0.4', linestyle=dash, linewidth=1, label=name)
