"""The number of MuLan levels is chosen where it helps held-out music."""

import dataclasses
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from small_layouts import small_layout

from musiclm_jax.cascade import bundle_card, held_out_nll
from musiclm_jax.cascade.bundling import choose_mulan_levels
from musiclm_jax.cascade.sampling import SamplingConfig
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


def test_no_prompt_is_among_what_is_chosen_from_and_is_said_aloud(tiny):
  network, lines = tiny.networks['semantic'], []

  class Misled(type(network.model)):
    """Each level makes music less likely, the third least so."""

    def nll(self, params, collections, batch, num_mulan_levels=None):
      cost = jnp.where(
        num_mulan_levels == 0, 1.1937, 1.2017 + jnp.abs(num_mulan_levels - 3.0)
      )
      return jnp.broadcast_to(cost, batch['semantic'].shape)

  misled = dataclasses.replace(network, model=Misled(network.model.model))
  assert choose_mulan_levels(misled, Store(), lines.append) == 0
  (line,) = lines
  assert line.startswith('PROMPTS ARE NOT USED')
  assert '1.2017 nats a token given its caption (3 MuLan levels' in line
  assert '1.1937 given none' in line


@pytest.mark.parametrize('levels', [0, 3])
def test_the_card_says_whether_prompts_are_heard(tiny, levels):
  settings = SamplingConfig(mulan_levels=levels)
  text = bundle_card.text({}, tiny.contract, settings)
  assert ('**Prompts are not used.**' in text) == (levels == 0)
  assert ('3 MuLan levels of a prompt are used' in text) == (levels == 3)


def test_the_real_model_gives_a_legal_number(tiny):
  assert 0 <= choose_mulan_levels(tiny.networks['semantic'], Store()) <= 12


@pytest.mark.parametrize(
  ('share', 'melody', 'heard'),
  [(0.25, False, False), (0.25, True, True), (0.0, False, True)],
)
def test_a_prompt_is_weighed_without_the_melody_that_can_be_left_out(
  share, melody, heard
):
  layout = small_layout(
    'semantic',
    0.8,
    melody=True,
    melody_levels=2,
    melody_window_seconds=0.4,
    melody_hop_seconds=0.2,
  )

  def nll(params, collections, batch, levels):
    cost = jnp.where((batch['melody'] >= 0).all(), 1.0, 2.0)
    return jnp.broadcast_to(cost, batch['semantic'].shape)

  network = SimpleNamespace(
    model=SimpleNamespace(layout=layout, nll=nll),
    config={'loss': {'no_melody_probability': share}},
    params={},
    collections={},
  )
  records = [
    dataclasses.replace(Store().record(i), melody=np.zeros((3, 2), np.int32))
    for i in range(4)
  ]
  score = held_out_nll.open_nll(network, records, melody=melody)
  assert score(np.zeros((4, 12), np.int32), 3) == (1.0 if heard else 2.0)


def test_a_store_without_captions_is_refused(tiny):
  with pytest.raises(UsageError, match='--mulan_levels'):
    choose_mulan_levels(tiny.networks['semantic'], Store(captioned=False))
