"""Figures for people: a result -> lines."""

from collections.abc import Mapping
from typing import Any

Result = Mapping[str, Any]
_BOUNDS = {
  'compute': 'compute',
  'hbm': 'memory traffic',
  'ici': 'the interconnect',
}


def lines(result: Result) -> str:
  """Lays a result of a rehearsal or of `measure` out for the screen."""
  parts = ' x '.join(f'{k} {n}' for k, n in result['mesh'].items())
  rows = [('devices', f'{result["topology"]}: {parts}')]
  if 'pieces' in result:
    rows += _generation(result)
  else:
    size = f'{result["stage"]}, batch {result["batch_size"]:,}'
    rows.insert(0, ('config', size))
    if result['accumulation'] > 1:
      rows.append(('microbatches', str(result['accumulation'])))
    measured = 'step_seconds' in result
    rows += _measured(result) if measured else _predicted(result)
  width = max(len(name) for name, _ in rows)
  return '\n'.join(f'{name:{width}}  {text}' for name, text in rows)


def percent(share: float | None) -> str:
  """A share in percent; a dash where there is none."""
  return '-' if share is None else f'{100 * share:.1f} %'


def gigabytes(size: float) -> str:
  """Bytes in units of 10^9."""
  return f'{size / 1e9:.2f} GB'


def changes_in_words(suggestion: Mapping[str, Any] | None) -> str:
  """A suggestion as flags."""
  if suggestion is None:
    return 'none found'
  flags = suggestion['changes'].items()
  return ' '.join(f'--config.{key}={value}' for key, value in flags)


def _predicted(result: Result) -> list[tuple[str, str]]:
  least = '' if result['fits'] else 'at least '
  rows = [
    ('fits', 'yes' if result['fits'] else 'no'),
    (
      'memory a chip',
      f'{least}{gigabytes(result["peak_hbm_bytes"])} of '
      f'{gigabytes(result["hbm_limit_bytes"])}',
    ),
    ('model FLOPs a step', f'{result["model_flops"]:.3e}'),
    ('compute', _seconds(result['t_compute'])),
    ('memory traffic', _seconds(result['t_hbm'])),
  ]
  if result['fits']:
    reached, bound = percent(result['max_mfu']), _BOUNDS[result['bound_by']]
    rows += [
      ('interconnect', _seconds(result['t_ici'])),
      ('MFU, at most', f'{reached}, bound by {bound}'),
    ]
    rows += [('', _collective(one)) for one in result['collectives'][:8]]
  elif 'suggestion' in result:
    suggestion = result['suggestion']
    rows.append(('this fits', changes_in_words(suggestion)))
    if suggestion:
      reached = percent(suggestion['max_mfu'])
      size = gigabytes(suggestion['peak_hbm_bytes'])
      rows.append(('', f'{size} a chip, MFU at most {reached}'))
  rows.append(('compiled in', f'{result["compile_seconds"]:.0f} s'))
  return rows


def _generation(result: Result) -> list[tuple[str, str]]:
  rows = [
    ('music', f'{result["stage"]}, {result["pieces"]:,} pieces at once'),
    ('fits', 'yes' if result['fits'] else 'no'),
    (
      'memory a chip',
      f'{gigabytes(result["peak_hbm_bytes"])} of '
      f'{gigabytes(result["hbm_limit_bytes"])}, this stage alone',
    ),
    ('FLOPs a second of music', f'{result["flops"]:.3e}'),
    ('read of the memory', gigabytes(result['hbm_bytes'])),
    (
      'seconds, at least',
      f'{result["seconds"]:.3g}, bound by {_BOUNDS[result["bound_by"]]}',
    ),
  ]
  rows += [
    ('', f'{one["per_second"]:.3g} x {one["name"]}') for one in result['passes']
  ]
  rows.append(('compiled in', f'{result["compile_seconds"]:.0f} s'))
  return rows


def _measured(result: Result) -> list[tuple[str, str]]:
  return [
    ('a step', _seconds(result['step_seconds'])),
    ('speed', f'{result["rate"]:,.0f} {result["unit"]}/s'),
    ('MFU', percent(result['mfu'])),
    ('first step, compiled', f'{result["compile_seconds"]:.1f} s'),
  ]


def _seconds(seconds: float) -> str:
  return f'{1e3 * seconds:.3g} ms'


def _collective(one: Mapping[str, Any]) -> str:
  return (
    f'{one["trips"]} x {one["kind"]} of {one["bytes"] / 1e6:.3g} MB over '
    f'{one["axis"]} ({one["group"]}): {_seconds(one["seconds"])}'
  )
