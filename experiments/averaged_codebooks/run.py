"""Which codebooks belong to averaged weights? Measured on checkpoints.

`python experiments/averaged_codebooks/run.py --workdir=DIR \
  --source=KIND:DIR --out=FILE`

The parameters of the last checkpoints of a codec's workdir are averaged, which
is what a moving average over so many steps is, and held-out music goes through
them with the codebooks of the last checkpoint (`live`), with averaged ones and
with ones that were refitted to the averaged encoder.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from musiclm_jax import stages
from musiclm_jax.cascade import stage_data
from musiclm_jax.nn import quantizer
from musiclm_jax.training import checkpoint, workdir

REFITS = 40  # batches


def main() -> None:
  """Evaluates every pairing and writes means and paired differences."""
  flags = argparse.ArgumentParser(description=__doc__)
  flags.add_argument('--workdir', required=True, type=Path)
  flags.add_argument('--source', required=True)
  flags.add_argument('--out', required=True, type=Path)
  given = flags.parse_args()
  folder = given.workdir / workdir.CHECKPOINTS
  steps = sorted(checkpoint.steps_in(folder))
  found = [checkpoint.read(folder / str(step)) for step in steps]
  results = {
    f'mean of steps {", ".join(map(str, steps[-n:]))}': measure(
      found[-n:], given.source
    )
    for n in range(2, len(steps) + 1)
  }
  text = json.dumps(results, indent=1)
  sys.stdout.write(text + '\n')
  given.out.write_text(text + '\n')


def measure(checkpoints: list, source: str) -> dict:
  """Pairing -> metric -> mean, and its difference from averaged and live."""
  config = checkpoints[-1].config
  options = dict(config['data']) | {'source': source, 'eval_batches': 32}
  task = stages.build(config)
  params = [c.params for c in checkpoints]
  books = [
    {k: jnp.asarray(v) for k, v in c.collections['codec'].items()}
    for c in checkpoints
  ]
  averaged = jax.tree.map(lambda *each: sum(each) / len(each), *params)
  with tempfile.TemporaryDirectory() as folder:
    inputs = stage_data.Inputs(options, 0, Path(folder))
    data = stage_data.open_data('soundstream', inputs)
    pairs = {
      'averaged, live': (averaged, books[-1]),
      'averaged, averaged': (averaged, mean_of(books)),
      'averaged, refitted': (
        averaged,
        refitted(task, averaged, books[-1], data.train(0)),
      ),
      'plain, live': (params[-1], books[-1]),
    }
    run, rows = jax.jit(task.evaluate), {name: [] for name in pairs}
    for batch in data.evaluation():
      for name, (own, book) in pairs.items():
        rows[name].append(run(own, {'codec': book}, batch))
  return compare(rows)


def compare(rows: dict) -> dict:
  """Means, and paired differences with their standard errors."""
  values = {
    name: {k: np.concatenate([row[k] for row in found]) for k in found[0]}
    for name, found in rows.items()
  }
  first = next(iter(values.values()))
  return {
    name: {
      metric: {
        'mean': round(float(row.mean()), 4),
        'difference': round(float((row - first[metric]).mean()), 4),
        'standard error': round(
          float((row - first[metric]).std() / len(row) ** 0.5), 4
        ),
      }
      for metric, row in metrics.items()
    }
    for name, metrics in values.items()
  }


def mean_of(books: list) -> dict:
  """Codebooks whose running sums are averaged, as their parameters are."""
  sums = {
    name: sum(each[name] for each in books) / len(books)
    for name in ('embed_sum', 'count')
  }
  count = jnp.maximum(sums['count'], 1e-6)[..., None]
  # The first entry of each level stays zero.
  embed = (sums['embed_sum'] / count).at[:, 0].set(0.0)
  return books[-1] | sums | {'embed': embed}


def refitted(task, params, books, batches) -> dict:
  """Moves codebooks on what an encoder makes of training music."""

  @jax.jit
  def move(books, waveform, key):
    _, latents, quantized = task.codec.reconstruct(
      params, {'codec': books}, waveform
    )
    return quantizer.update(
      books,
      latents,
      quantized.codes,
      key,
      decay=task.codebook_decay,
      dead_threshold=task.dead_threshold,
      zero_entries=1,
    )

  for number in range(REFITS):
    books = move(books, next(batches)['waveform'], jax.random.key(number))
  return books


if __name__ == '__main__':
  main()
