"""Which codebooks belong to averaged weights? Measured on one training.

`python experiments/averaged_codebooks/run.py --source=KIND:DIR --out=FILE`

A tiny codec is trained with a moving average of its parameters. At a few steps
held-out music goes through the same checkpoint in five pairings: the
parameters as they are or averaged, with the codebooks as they are (`live`),
averaged as the parameters are (`averaged`), or moved on by their own running
means on what the averaged encoder makes of training music (`refitted`).
"""

import argparse
import json
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp

from musiclm_jax import stages
from musiclm_jax.cascade import stage_data
from musiclm_jax.configs import soundstream
from musiclm_jax.contracts import sharding
from musiclm_jax.nn import quantizer
from musiclm_jax.training.assembly import assemble

LOOKS = 3  # at the pairings, in even distances
REFITS = 40  # batches


def main() -> None:
  """Trains, looks, and writes the held-out metrics of every pairing."""
  flags = argparse.ArgumentParser(description=__doc__)
  flags.add_argument('--source', required=True)
  flags.add_argument('--out', required=True, type=Path)
  flags.add_argument('--steps', type=int, default=500)
  flags.add_argument('--decay', type=float, default=0.99)
  given = flags.parse_args()
  rows = []
  for row in measure(given.source, given.steps, given.decay):
    print(json.dumps(row), flush=True)
    rows.append(row)
    given.out.write_text(json.dumps(rows, indent=1) + '\n')


def measure(source: str, steps: int, decay: float):
  """Yields a row a look: step, pairing -> metric -> mean."""
  config = soundstream.get_config('tiny')
  config.data.source, config.data.eval_batches = source, 16
  config.schedule.total_steps = steps
  config.loss.adversarial_start = 1.0
  task = stages.build(config)
  with tempfile.TemporaryDirectory() as folder:
    inputs = stage_data.Inputs(config.data.to_dict(), config.seed, Path(folder))
    data = stage_data.open_data('soundstream', inputs)
    batches = data.train(0)
    mesh = sharding.make_mesh()
    training = assemble(
      task,
      sharding.put_batch(next(batches), mesh),
      mesh,
      optimizers=config.optimizer.to_dict(),
      total_steps=steps,
      ema_decay=decay,
    )
    state, step = training.create_state(), training.step(task.at(0))
    averaged = jax.tree.map(jnp.copy, state.collections['codec'])
    for number in range(1, steps + 1):
      batch = sharding.put_batch(next(batches), mesh)
      state, _ = step(state, batch)
      averaged = average(averaged, state.collections['codec'], number, decay)
      if number % (steps // LOOKS) == 0:
        extra = (next(batches) for _ in range(REFITS))
        pairs = pairings(task, state, averaged, extra)
        yield {'step': number} | {
          name: evaluate(task, data, *pair) for name, pair in pairs.items()
        }


def average(old, new, number: int, decay: float):
  """Moves averaged codebooks as the step moves averaged parameters."""
  decay = min(decay, (1 + number) / (10 + number))
  sums = {
    name: decay * old[name] + (1 - decay) * new[name]
    for name in ('embed_sum', 'count')
  }
  count = jnp.maximum(sums['count'], 1e-6)[..., None]
  embed = (
    jnp.where(
      sums['count'][..., None] > 0, sums['embed_sum'] / count, new['embed']
    )
    .at[:, 0]
    .set(0.0)
  )
  return new | sums | {'embed': embed}


def pairings(task, state, averaged, batches):
  """Pairing -> parameters and codebooks."""
  live = state.collections['codec']
  return {
    'plain, live': (state.params, live),
    'averaged, live': (state.ema_params, live),
    'averaged, averaged': (state.ema_params, averaged),
    'averaged, refitted': (
      state.ema_params,
      refitted(task, state.ema_params, live, batches),
    ),
    'plain, averaged': (state.params, averaged),
  }


def refitted(task, params, books, batches):
  """Moves codebooks on what an encoder makes of music."""

  @jax.jit
  def move(books, waveform, key):
    _, latents, quantized = task.codec.reconstruct(
      params, {'codec': books}, waveform, None, None
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

  for number, batch in enumerate(batches):
    books = move(books, batch['waveform'], jax.random.key(number))
  return books


def evaluate(task, data, params, books) -> dict[str, float]:
  """Means of the held-out metrics."""
  run = jax.jit(task.evaluate)
  found = [run(params, {'codec': books}, b) for b in data.evaluation()]
  return {
    name: round(float(jnp.mean(jnp.stack([row[name] for row in found]))), 4)
    for name in found[0]
  }


if __name__ == '__main__':
  main()
