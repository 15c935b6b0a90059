"""Compares training steps and decoding with those of the peers.

  python experiments/peer_speed/run.py --peers=PYTHON [--only=codec,mulan]
  python experiments/peer_speed/run.py --before=DIR --results=FILE

PYTHON is that of an environment with `requirements.txt` beside this file; the
peers' networks and steps are those of `../shared/bench_peers`. Where either
is missing, our own steps are timed alone. The sides of a group live side by
side and take turns, so that what else the machine does weighs on all; medians
count. Leaves its groups in results.json, which keeps the others.
"""

import argparse
import datetime
import json
import os
import platform
import shutil
import statistics
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from worker import Side

from musiclm_jax.contracts import atomic_file

HERE = Path(__file__).parent
SHARED = HERE.parents[2] / 'shared' / 'bench_peers'
_DECODERS = ('gpt_eager_f32', 'gpt_eager_bf16', 'audiolm_generate')
# Group -> our variants, the peers' variants.
GROUPS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
  'lm': (
    ('lm_f32', 'lm_gated_f32'),
    ('gpt_f32', 'gpt_f32_compile', 'audiolm_default_f32'),
  ),
  'lm_bf16': (('lm_bf16',), ('gpt_bf16', 'gpt_bf16_compile')),
  'codec': (
    ('codec_f32',),
    ('train_MusicLMSoundStream_24k_f32', 'train_AudioLMSoundStream_16k_f32'),
  ),
  'mulan': (('mulan_f32',), ('spec_b8_10s_f32',)),
  'mulan_bf16': (('mulan_bf16',), ('spec_b8_10s_bf16',)),
  'tokens': (('w2v_bert', 'kmeans', 'mulan_rvq'), ()),
  'melodies': (('melody', 'melody_rvq'), ()),
  'small_lms': (('semantic', 'coarse', 'fine'), ()),
  **{
    f'decode_{rows}': (
      tuple(f'decode_{w}_{rows}' for w in ('float32', 'bfloat16', 'int8')),
      tuple(f'{peer}_{rows}' for peer in _DECODERS),
    )
    for rows in ('b1', 'b8')
  },
}


def time_group(
  name: str, options: argparse.Namespace, with_peers: bool
) -> dict[str, dict[str, Any]]:
  """Times all sides of a group in turns; variant -> what came out."""
  ours, peers = GROUPS[name]
  calls = {variant: (sys.executable, 'ours.py', [variant]) for variant in ours}
  if options.before:
    here = options.before / 'experiments' / 'peer_speed'
    for variant in ours:
      call = sys.executable, str(here / 'ours.py'), [variant]
      calls[f'{variant}_before'] = call
  if with_peers:
    for variant in peers:
      arguments = [str(options.scripts), variant]
      calls[variant] = options.peers, 'peers.py', arguments
  # A side imports the package of its own checkout.
  roots = {
    v: options.before if v.endswith('_before') else HERE.parents[1]
    for v in calls
  }
  sides, rows = {}, {}
  # One after another: threads of two that warm up wait for each other by turns.
  for variant, call in calls.items():
    sides[variant] = Side(*call, options.threads, roots[variant])
    rows[variant] = sides[variant].answer()
  for row in rows.values():
    row['wall'], row['cpu'] = [], []
  for number in range(options.rounds):
    for variant, side in sides.items():
      for clock, seconds in side.step().items():
        rows[variant][clock].append(round(seconds, 4))
    seconds = ', '.join(f'{v} {row["wall"][-1]}' for v, row in rows.items())
    print(f'{name} {number + 1}/{options.rounds}: {seconds}', flush=True)
  for side in sides.values():
    side.end()
  for row in rows.values():
    row['seconds'] = statistics.median(row['wall'])
    row['rate'] = row['work'] / row['seconds']
    if 'first_s' in row:
      row['compile_s'] = round(row['first_s'] - row['seconds'], 1)
    if 'codec_flops' in row:
      row['codec_gflops_a_second'] = row['rate'] * row['codec_flops'] / 1e9
  return rows


def claims(rows: Mapping[str, Mapping]) -> Iterator[dict[str, Any]]:
  """Our rates over those of the peers, beside what they shall be at least."""

  def claim(what: str, ours: str, theirs: list[str], least: float, of='rate'):
    if theirs and ours in rows and all(variant in rows for variant in theirs):
      best = max(theirs, key=lambda variant: rows[variant][of])
      ratio = rows[ours][of] / rows[best][of]
      yield {
        'what': what,
        'ours': ours,
        'peer': best,
        'ratio': round(ratio, 2),
        'at_least': least,
      }

  for ours in [variant for group, _ in GROUPS.values() for variant in group]:
    yield from claim('as before', ours, [f'{ours}_before'], 0.97)
  fast = ['gpt_f32', 'gpt_f32_compile']
  for ours in ('lm_f32', 'lm_gated_f32'):
    yield from claim('LM', ours, fast, 1.0)
    yield from claim('LM', ours, ['audiolm_default_f32'], 2.0)
  for peer in GROUPS['codec'][1]:
    flops = 'codec_gflops_a_second'
    yield from claim('codec, per FLOP', 'codec_f32', [peer], 1.5, flops)
  yield from claim('MuLan', 'mulan_f32', ['spec_b8_10s_f32'], 2.0)
  for group in ('decode_b1', 'decode_b8'):
    own, peers = GROUPS[group]
    there = [peer for peer in peers if peer in rows]
    slow = [peer for peer in there if peer.startswith('audiolm')]
    for ours in own:
      yield from claim('decoding', ours, there, 1.5)
      yield from claim('decoding', ours, slow, 3.0)


def print_tables(results: Mapping[str, Any]) -> None:
  """Prints what the README shows."""
  print('\n| step | seconds | rate |\n|---|---|---|')
  for variant, row in results['rows'].items():
    rate = f'{row["rate"]:,.4g} {row["unit"]}/s'
    print(f'| {variant} | {row["seconds"]:.3g} | {rate} |')
  print('\n| claim | peer | ratio | at least |\n|---|---|---|---|')
  for claim in results['claims']:
    ratio = f'{claim["ratio"]:.2f} x'
    print(
      f'| {claim["what"]}: {claim["ours"]} | {claim["peer"]} | {ratio} | '
      f'{claim["at_least"]} x |'
    )


def read_options() -> argparse.Namespace:
  """Reads the flags."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--peers', default='peers/bin/python')
  parser.add_argument('--before', type=Path, help='an older checkout')
  parser.add_argument('--scripts', type=Path, default=SHARED)
  parser.add_argument('--threads', type=int, default=2)
  parser.add_argument('--rounds', type=int, default=5)
  parser.add_argument('--only', default=','.join(GROUPS))
  parser.add_argument('--results', type=Path, default=HERE / 'results.json')
  return parser.parse_args()


def main() -> None:
  """Times the groups one after another and writes after each."""
  options = read_options()
  start = time.monotonic()
  with_peers = not options.before
  if options.before:
    print(f'beside the steps of {options.before}')
  elif not shutil.which(options.peers):
    with_peers = False
    print(f'no Python of the peers at {options.peers}: our steps alone')
  elif not options.scripts.is_dir():
    with_peers = False
    print(f'no scripts of the peers at {options.scripts}: our steps alone')
  path = options.results
  results = json.loads(path.read_text()) if path.exists() else {'rows': {}}
  for name in options.only.split(','):
    results['rows'] |= time_group(name, options, with_peers)
    results |= {
      'date': datetime.date.today().isoformat(),
      'machine': f'{os.cpu_count()} cores, no accelerator',
      'python': platform.python_version(),
      'threads': options.threads,
      'rounds': options.rounds,
      'claims': list(claims(results['rows'])),
    }
    atomic_file.write_text(path, json.dumps(results, indent=1) + '\n')
    minutes = (time.monotonic() - start) / 60
    print(f'{name} done, {minutes:.1f} minutes in all', flush=True)
  print_tables(results)


if __name__ == '__main__':
  main()
