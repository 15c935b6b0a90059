"""The paper's mel loss takes other partials for harmonics; `small`'s does not.

A tone has partials at multiples of 211 Hz; what shall become it has all
partials of a grid of 23 Hz between 0.8 and 5 kHz, each with a gain to be
learned, in phases of its own.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from musiclm_jax.metrics import codec
from musiclm_jax.soundstream import losses

RATE, S, STEPS = 24_000, 8192, 40
GRID_HZ = RATE / 1024
PARTIALS = np.arange(35, 213)  # of the grid, 0.8 to 5 kHz
OTHERS = np.array([9, 18, 27, *range(216, 512, 9)])  # harmonics outside of it
HARMONICS = PARTIALS % 9 == 0


def waves(partials, seed):
  """Sines of 1 in random phases, [len(partials), S]."""
  phases = np.random.default_rng(seed).uniform(0, 2 * np.pi, len(partials))
  turns = GRID_HZ / RATE * np.outer(partials, np.arange(S))
  return np.sin(2 * np.pi * turns + phases[:, None])


def envelope(partials):
  return 0.1 / np.sqrt(partials / 9)


def harmonic_loss(target, output):
  """As `configs/soundstream.py:small` has it."""
  mels = losses.reconstruction_loss(
    target, output, losses.FINE_SCALES, log_only=True
  )
  return mels + losses.log_stft_loss(target, output)


NOISE = 1e-4 * np.random.default_rng(0).standard_normal(S)
REST = jnp.float32(envelope(OTHERS) @ waves(OTHERS, 1) + NOISE)
AMPLITUDES = np.where(HARMONICS, envelope(PARTIALS), 0.0)
TARGET = REST + jnp.float32(AMPLITUDES @ waves(PARTIALS, 2))[None]
# The power of a harmonic is spread over the nine partials around it.
START = jnp.float32(np.log(envelope(PARTIALS) / 3))
WAVES = jnp.float32(waves(PARTIALS, 3))


def sound(log_gains):
  return (REST + jnp.exp(log_gains) @ WAVES)[None]


def loudest_bins(log_gains):
  found = codec.loudest_bins(np.asarray(TARGET), np.asarray(sound(log_gains)))
  return float(found[0])


@functools.cache
def learned(loss):
  """Descends for some steps: gains, and the loss before and after."""
  optimizer = optax.adam(0.1)

  @jax.jit
  def descend(log_gains):
    def step(carry, _):
      log_gains, state = carry
      value, gradient = jax.value_and_grad(lambda g: loss(TARGET, sound(g)))(
        log_gains
      )
      update, state = optimizer.update(gradient, state)
      return (log_gains + update, state), value

    carry = log_gains, optimizer.init(log_gains)
    (log_gains, _), values = jax.lax.scan(step, carry, length=STEPS)
    return log_gains, values

  gains, values = descend(START)
  return gains, float(values[0]), float(values[-1])


def test_the_start_has_harmonics_under_noise():
  assert loudest_bins(START) == pytest.approx(-8.6, abs=0.5)


def test_the_papers_loss_falls_while_the_harmonics_get_softer():
  gains, before, after = learned(losses.reconstruction_loss)
  assert after < 0.5 * before
  assert loudest_bins(gains) < loudest_bins(START)
  power = np.exp(2 * np.asarray(gains))
  assert power[HARMONICS].sum() < 0.7 * power.sum()


def test_the_loss_that_sees_harmonics_finds_them():
  gains, before, after = learned(harmonic_loss)
  assert after < 0.5 * before
  assert loudest_bins(gains) > -1.0
  power = np.exp(2 * np.asarray(gains))
  assert power[HARMONICS].sum() > 0.9 * power.sum()


def test_what_pleases_the_papers_loss_is_seen_by_the_other():
  """Each on its own scale: the share that is left of what there was."""
  gains, before, after = learned(losses.reconstruction_loss)
  blind = after / before
  seen = harmonic_loss(TARGET, sound(gains)) / harmonic_loss(
    TARGET, sound(START)
  )
  assert seen > 1.5 * blind
