"""Measures what the layers of w2v-BERT and the semantic tokens know.

  python experiments/semantic_tokens/run.py --workdirs=DIR --corpus=DIR

DIR holds the workdirs soundstream, w2v_bert and kmeans; the corpus is
rendered_music. Writes NAME.json and NAME.png beside this file. `--parts` can be
done one by one; each takes a minute or two of one core.
"""

import argparse
import dataclasses
import json
import time
from collections.abc import Iterator
from pathlib import Path

import material
import networks
import numpy as np
import pictures
import probes
import takes
import token_agreement
import tokens

from musiclm_jax.cascade import networks as trained
from musiclm_jax.contracts import atomic_file, errors
from musiclm_jax.metrics import bootstrap

_PARTS = ('tokens', 'trained', 'untrained', 'front_end')
_STAGES = ('soundstream', 'w2v_bert', 'kmeans')


def main() -> None:
  """Measures both parts; what is done is written at once."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--workdirs', required=True)
  parser.add_argument('--corpus', required=True)
  parser.add_argument('--name', default='tiny')
  parser.add_argument('--parts', default=','.join(_PARTS))
  parser.add_argument('--pieces', type=int, default=320, help='To train on.')
  parser.add_argument('--crops', type=int, default=2, help='Of a test piece.')
  parser.add_argument('--takes', type=int, default=64)
  options = parser.parse_args()
  out = Path(__file__).with_name(f'{options.name}.json')
  results = json.loads(out.read_text()) if out.is_file() else {}

  def write() -> None:
    results.update(json.loads(_text(results)))
    atomic_file.write_text(out, _text(results) + '\n')

  found = trained.load_all(options.workdirs, _STAGES)
  played = {kind: takes.play(kind, options.takes, 0) for kind in takes.KINDS}
  held_out = min(options.pieces, 128)
  test = material.crops(options.corpus, 'test', held_out, options.crops)
  _say(f'{len(test)} crops held out')
  if 'tokens' in options.parts.split(','):
    results['tokens'] = {
      'codebook_size': found['kmeans'].model.codebook_size,
      'crops': len(test),
      'pieces': options.takes,
      'leads': {kind: sorted(set(both.leads)) for kind, both in played.items()},
      'invariance': invariance(found, played),
    }
    write()
    results['tokens']['purity'] = token_purities(found, test)
    write()
  parts = [part for part in _PARTS[1:] if part in options.parts.split(',')]
  if parts:
    train = material.crops(options.corpus, 'train', options.pieces, 1)
    _say(f'{len(train)} crops to train on')
    results.setdefault('layers', {}).update(
      names=networks.layer_names(found['w2v_bert'], 'trained'),
      token_layer=networks.token_layer(found['w2v_bert'].model),
      crops={'train': len(train), 'test': len(test)},
    )
  for part in parts:
    for layer, facts in of_layers(found, part, train, test, played):
      results['layers'].setdefault(part, {})[layer] = facts
      write()
      _say(f'{part}: {layer}')
  if all(part in results.get('layers', {}) for part in _PARTS[1:]):
    with atomic_file.atomic_open(out.with_suffix('.png'), 'wb') as file:
      file.write(pictures.layers(results))


def of_layers(
  found, name: str, train, test, played
) -> Iterator[tuple[str, dict]]:
  """Probes of each layer, and purity and invariance of tokens made of it."""
  function = networks.representations(found['w2v_bert'])[name]
  fit = []

  def keep(crop: int, row: dict) -> dict:
    fit.append(tokens.fit_frames(crop, row))
    return probes.keep(crop, row)

  kept = [(train, material.heard(train, function, keep))]
  streams = material.heard(test, function, lambda _, row: row)
  kept.append((test, [probes.keep(i, row) for i, row in enumerate(streams)]))
  for both in played.values():
    for rows in (both.first, both.second):
      streams += networks.in_batches(function, rows)
  _say(f'{name}: heard')
  size = found['kmeans'].model.codebook_size
  for layer in networks.layer_names(found['w2v_bert'], name):
    codes = tokens.layer_tokens(layer, fit, streams, size)
    halves = codes[len(test) :].reshape(len(played), 2, -1, codes.shape[1], 1)
    yield (
      layer,
      {
        'probes': probes.probe(layer, kept),
        'purity': tokens.purity(codes[: len(test)], test),
        'invariance': {
          kind: tokens.described(tokens.agreement(*pair, played[kind])[0])
          for kind, pair in zip(played, halves, strict=True)
        },
      },
    )


def invariance(found, played: dict[str, takes.Takes]) -> dict:
  """What both takes keep of semantic and acoustic tokens."""
  result = {}
  for kind, both in played.items():
    shares = {}
    for stream, encode in networks.tokenizers(found).items():
      codes = [
        np.stack(networks.in_batches(encode, rows))
        for rows in (both.first, both.second)
      ]
      levels = tokens.agreement(*codes, both)
      if stream == 'semantic':
        shares[stream] = levels[0]
      else:
        shares['acoustic level 1'] = levels[0]
        shares['acoustic 1-4'] = token_agreement.mean_of(
          levels[: tokens.COARSE]
        )
        shares['acoustic all'] = token_agreement.mean_of(levels)
    ours = shares['semantic']
    result[kind] = {
      'shares': {name: tokens.described(a) for name, a in shares.items()},
      'ratio': {
        name: token_agreement.ratio(ours, other)
        for name, other in shares.items()
        if name != 'semantic'
      },
    }
    _say(f'{kind}: {result[kind]["ratio"]}')
  return result


def token_purities(found, test: material.Crops) -> dict:
  """Purity of the cascade's own tokens: semantic, and acoustic level 1."""
  encode = networks.tokenizers(found)
  streams = {
    'semantic': material.heard(
      test, encode['semantic'], lambda _, row: row[:, 0]
    ),
    # Every second frame: as many tokens a second as semantic ones.
    'acoustic level 1': material.heard(
      test, encode['acoustic'], lambda _, row: row[::2, 0]
    ),
  }
  return {n: tokens.purity(np.stack(s), test) for n, s in streams.items()}


def _text(results: dict) -> str:
  """Results as JSON, rounded."""

  def plain(value):
    if isinstance(value, bootstrap.Interval):
      return dataclasses.asdict(value)
    raise TypeError(type(value))

  text = json.dumps(results, default=plain)
  rounded = json.loads(text, parse_float=lambda x: round(float(x), 4))
  return json.dumps(rounded, indent=1)


def _say(what: str) -> None:
  print(f'{time.strftime("%H:%M:%S")} {what}', flush=True)


if __name__ == '__main__':
  try:
    main()
  except errors.UsageError as error:
    raise SystemExit(f'error: {error}') from None
