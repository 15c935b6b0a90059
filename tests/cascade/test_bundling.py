"""The number of MuLan levels is chosen where it helps held-out music."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax.cascade.bundling import choose_mulan_levels
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.data.token_store import TokenRecord


class Store:
  def __init__(self, captioned=True):
    self.captioned = captioned

  def __len__(self):
    return 100

  def record(self, i):
    rng = np.random.default_rng(i)
    return TokenRecord(
      'x',
      0.0,
      0.8,
      np.zeros(12),
      np.zeros((1, 12)),
      np.zeros(1),
      rng.integers(16, size=20),
      np.zeros((40, 4)),
      rng.integers(16, size=(2, 12)) if self.captioned else None,
    )


def test_the_likeliest_number_is_chosen(tiny):
  network = tiny.networks['semantic']

  class Best(type(network.model)):
    def nll(self, params, collections, batch, num_mulan_levels=None):
      assert batch['mulan'].shape[1:] == (12,)
      cost = jnp.abs(num_mulan_levels - 5.0) + 1.0
      return jnp.broadcast_to(cost, batch['semantic'].shape)

  model = Best(network.model.model)
  assert (
    choose_mulan_levels(dataclasses.replace(network, model=model), Store()) == 5
  )


def test_the_real_model_gives_a_legal_number(tiny):
  assert 1 <= choose_mulan_levels(tiny.networks['semantic'], Store()) <= 12


def test_a_store_without_captions_is_refused(tiny):
  with pytest.raises(UsageError, match='--mulan_levels'):
    choose_mulan_levels(tiny.networks['semantic'], Store(captioned=False))
