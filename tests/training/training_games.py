"""Two small games: a token LM and a two-player codec with codebooks.

Run as a script it trains one in a real process:
`training_games.py GAME WORKDIR [key=value ...]`.
"""

import dataclasses
import functools
import json
import resource
import signal
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from musiclm_jax import cli
from musiclm_jax.launch import membership
from musiclm_jax.nn.einsum import Einsum
from musiclm_jax.training import export, loop, workdir

ADAM = {
  'name': 'adam',
  'schedule': 'cosine',
  'learning_rate': 1e-2,
  'warmup_steps': 3,
  'b1': 0.9,
  'b2': 0.99,
  'weight_decay': 0.0,
  'clip_norm': 1.0,
}
PLAN = {'total_steps': 20, 'log_every': 5, 'eval_every': 10, 'save_every': 5}


class Bigram(nn.Module):
  """Next token from this one, with dropout."""

  @nn.compact
  def __call__(self, tokens, deterministic):
    x = jax.nn.one_hot(tokens, 16)
    x = Einsum('btv,vd->btd', (16, 8), ('vocab', 'embed'), name='embed')(x)
    x = nn.Dropout(0.1)(nn.relu(x), deterministic=deterministic)
    return Einsum('btd,dv->btv', (8, 16), ('embed', 'vocab'), name='head')(x)


@dataclasses.dataclass(frozen=True)
class LMGame:
  """One player, no collections; `poison` makes a batch's loss NaN."""

  module: Bigram = dataclasses.field(default_factory=Bigram)

  def init(self, rng, batch):
    params = self.module.init(rng, batch['tokens'], True)['params']
    return {'lm': params}, {'lm': {}}

  def _loss(self, params, collections, batch, rng, step):
    logits = self.module.apply(
      {'params': params['lm']},
      batch['tokens'][:, :-1],
      False,
      rngs={'dropout': rng},
    )
    loss = self._nll(logits, batch).mean()
    loss = jnp.where(jnp.any(batch['poison'] > 0), jnp.nan, loss)
    return loss, (collections, {'tokens': jnp.float32(logits.shape[1])})

  def _nll(self, logits, batch):
    picked = jax.nn.log_softmax(logits)
    picked = jnp.take_along_axis(picked, batch['tokens'][:, 1:, None], -1)
    return -picked[..., 0].mean(-1)

  def losses(self):
    return {'lm': self._loss}

  def evaluate(self, params, collections, batch):
    logits = self.module.apply(
      {'params': params['lm']}, batch['tokens'][:, :-1], True
    )
    return {'loss': self._nll(logits, batch)}


class Dense(nn.Module):
  """A line with a name for its axes."""

  features: int

  @nn.compact
  def __call__(self, x):
    shape = (x.shape[-1], self.features)
    return Einsum('bd,de->be', shape, ('embed', 'mlp'), use_bias=True)(x)


@dataclasses.dataclass(frozen=True)
class CodecGame:
  """A codec with a moving codebook, its critic, and a player without params."""

  def init(self, rng, batch):
    x = batch['waveform']
    keys = jax.random.split(rng, 3)
    params = {
      'codec': {
        'encoder': Dense(4).init(keys[0], x)['params'],
        'decoder': Dense(x.shape[-1]).init(keys[1], jnp.zeros((1, 4)))[
          'params'
        ],
      },
      'critic': Dense(1).init(keys[2], x)['params'],
      'statistics': {},
    }
    collections = {
      'codec': {'embed': jnp.linspace(-1, 1, 8)[:, None] * jnp.ones((8, 4))},
      'critic': {},
      'statistics': {'count': jnp.zeros((), jnp.int32)},
    }
    return params, collections

  def _play(self, params, collections, batch):
    embed = collections['codec']['embed']
    z = Dense(4).apply(
      {'params': params['codec']['encoder']}, batch['waveform']
    )
    distances = ((z[:, None] - embed) ** 2).sum(-1)
    codes = jnp.argmin(jax.lax.stop_gradient(distances), -1)
    values = z + jax.lax.stop_gradient(embed[codes] - z)
    fake = Dense(batch['waveform'].shape[-1]).apply(
      {'params': params['codec']['decoder']}, values
    )
    return z, codes, fake

  def _codec(self, params, collections, batch, rng, step):
    z, codes, fake = self._play(params, collections, batch)
    score = Dense(1).apply({'params': params['critic']}, fake)
    hits = jax.nn.one_hot(codes, 8)
    embed = collections['codec']['embed']
    noise = 1e-3 * jax.random.normal(rng, embed.shape)
    means = hits.T @ jax.lax.stop_gradient(z)
    means = means / jnp.maximum(hits.sum(0)[:, None], 1)
    moved = jnp.where(hits.sum(0)[:, None] > 0, means, embed)
    new = {'embed': 0.9 * embed + 0.1 * moved + noise}
    error = ((fake - batch['waveform']) ** 2).mean()
    loss = error - 0.01 * score.mean()
    return loss, (collections | {'codec': new}, {'error': error})

  def _critic(self, params, collections, batch, rng, step):
    _, _, fake = self._play(params, collections, batch)
    critic = {'params': params['critic']}
    real_score = Dense(1).apply(critic, batch['waveform'])
    fake_score = Dense(1).apply(critic, fake)
    loss = nn.relu(1 - real_score).mean() + nn.relu(0.5 + fake_score).mean() / 2
    # Another player's collection that a loss returns must not be kept.
    spoiled = {'embed': jnp.full((8, 4), 99.0)}
    return loss, (collections | {'codec': spoiled}, {})

  def _statistics(self, params, collections, batch, rng, step):
    count = collections['statistics']['count'] + len(batch['waveform'])
    moved = {**collections, 'statistics': {'count': count}}
    return jnp.zeros(()), (moved, {})

  def losses(self):
    return {
      'codec': self._codec,
      'critic': self._critic,
      'statistics': self._statistics,
    }

  def evaluate(self, params, collections, batch):
    fake = self._play(params, collections, batch)[2]
    return {'error': ((fake - batch['waveform']) ** 2).mean(-1)}


@dataclasses.dataclass(frozen=True)
class FitGame:
  """A player that owns a collection and no parameters."""

  def init(self, rng, batch):
    return {'fit': {}}, {'fit': {'sum': jnp.zeros(12)}}

  def _loss(self, params, collections, batch, rng, step):
    total = collections['fit']['sum'] + batch['waveform'].sum(0)
    return jnp.zeros(()), (collections | {'fit': {'sum': total}}, {})

  def losses(self):
    return {'fit': self._loss}

  def evaluate(self, params, collections, batch):
    return {'zero': jnp.zeros(len(batch['waveform']))}


def lm_batch(seed, step, size=8, poisoned=(), happens=None):
  """Batch `step` of a Markov chain, with what happens while it is read."""
  if seed == 0 and happens and step in happens:
    happens[step]()
  rng = np.random.default_rng((seed, step))
  tokens = (rng.integers(0, 4, (size, 1)) + 3 * np.arange(13)) % 16
  flag = np.full(size, int(step in poisoned), np.int32)
  return {'tokens': tokens.astype(np.int32), 'poison': flag}


def codec_batch(seed, step, size=8):
  """Batch `step` of points near a plane."""
  rng = np.random.default_rng((seed, step))
  plane = np.random.default_rng(7).normal(size=(3, 12))
  waveform = rng.normal(size=(size, 3)) @ plane / 4
  return {'waveform': waveform.astype(np.float32)}


def stream(make, pause=0.0, **kwargs):
  """Data of a game: batches as a function of (seed, step)."""

  def train(start):
    step = start
    while True:
      time.sleep(pause)
      yield own_rows(make(0, step, **kwargs))
      step += 1

  return loop.Data(
    train, lambda: (own_rows(make(1, step)) for step in range(2))
  )


def own_rows(batch):
  """This process's rows of a global batch."""
  rows = len(next(iter(batch.values()))) // jax.process_count()
  mine = slice(jax.process_index() * rows, (jax.process_index() + 1) * rows)
  return {name: values[mine] for name, values in batch.items()}


GAMES = {
  'lm': (LMGame(), lm_batch, ('lm',)),
  'codec': (CodecGame(), codec_batch, ('codec', 'critic', 'statistics')),
  'fit': (FitGame(), codec_batch, ('fit',)),
}


def play(game, path, *, pause=0.0, schedule=None, **kwargs):
  """Trains a game in `path` and returns the last state."""
  task, make, players = GAMES[game]
  data = ('poisoned', 'happens')
  extra = {name: kwargs.pop(name) for name in data if name in kwargs}
  fields = loop.Slice.__dataclass_fields__
  part = {name: kwargs.pop(name) for name in fields if name in kwargs}
  plan = PLAN | (schedule or {})
  model = {'width': kwargs.pop('width', 8)}
  config = {'stage': game, 'model': model, 'schedule': plan}
  optimizer = ADAM | kwargs.pop('optimizer', {})
  with workdir.claim(path, leads=jax.process_index() == 0) as claimed:
    return loop.train(
      task,
      stream(make, pause, **extra),
      workdir=claimed,
      config=config,
      schedule=plan,
      optimizers={player: optimizer for player in players},
      part=loop.Slice(**part),
      **kwargs,
    )


if __name__ == '__main__':
  game, path, *pairs = sys.argv[1:]
  sys.argv[1:] = []
  arguments = [pair.split('=') for pair in pairs]
  options = {name: json.loads(value) for name, value in arguments}
  plan = {key: options.pop(key) for key in PLAN if key in options}
  if limit := options.pop('file_bytes', None):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

  if seconds := options.pop('max_seconds', None):
    options['seconds_left'] = lambda: cli.seconds_left(seconds / 60)
    options['at_end'] = functools.partial(
      export.write, Path(f'{path}.export'), config={}
    )

  # A background job inherits an ignored SIGINT; a terminal's job does not.
  signal.signal(signal.SIGINT, signal.default_int_handler)

  def main():
    membership.join()
    play(game, path, schedule=plan, **options)

  cli.run(main)
