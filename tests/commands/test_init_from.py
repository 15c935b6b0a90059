"""`train --init_from`: every stage from a bundle or a workdir, or one line."""

import jax
import numpy as np
import pytest
from flax import linen as nn

from musiclm_jax import cli, stages
from musiclm_jax.cascade import bundle as bundles
from musiclm_jax.cascade import networks, stage_data
from musiclm_jax.training import loop
from musiclm_jax.training.state import TrainState, flatten


def zeros_of(task, batch):
  """A state of no steps, all zeros."""
  params, collections = jax.eval_shape(task.init, jax.random.key(0), batch)
  params, collections = jax.tree.map(
    lambda leaf: jax.numpy.zeros(leaf.shape, leaf.dtype),
    nn.unbox((params, collections)),
  )
  zero = jax.numpy.zeros((), np.int32)
  fields = dict.fromkeys(TrainState.__dataclass_fields__, zero)
  return TrainState(**fields).replace(
    params=params, collections=collections, ema_params={}
  )


@pytest.fixture
def initial(call, command_flags, monkeypatch, tokens, tmp_path):
  """A function (stage, source, **changes) -> what a training starts from."""

  def start(stage, source, **changes):
    given = {}
    monkeypatch.setattr(
      loop, 'train', lambda *_, **kwargs: given.update(kwargs)
    )
    monkeypatch.setattr(stage_data, 'open_data', lambda *_: None)
    more = [f'--init_from={source}', f'--workdir={tmp_path}/w']
    if stages.STAGES[stage].fit:
      more.append('--network=any')
    if stage in stages.LANGUAGE_MODELS:
      more.append(f'--tokens={tokens[0]}')
    outcome = call('train', *command_flags(stage, **changes), *more)
    return given['part'].begin if given else None, outcome

  return start


@pytest.mark.parametrize('stage', bundles.STAGES)
def test_every_stage_starts_from_a_bundle(stage, initial, bundle, minute_game):
  given, (code, _, err) = initial(stage, bundle[0])
  assert code == 0, err
  state = given(zeros_of(*minute_game(stage)))
  kept = networks.load(bundle[0], stage).weights.arrays()
  found = flatten({'params': state.params, 'collections': state.collections})
  for name, array in kept.items():
    np.testing.assert_array_equal(found.pop(name), array)
  fresh = {name.split('/')[1] for name in found}
  assert fresh == ({'discriminators'} if stage == 'soundstream' else set())
  if fresh:
    assert 'holds no discriminators, which only training needs' in err
  else:
    assert err == ''


def test_a_codec_starts_from_a_workdir_with_its_discriminators(
  initial, workdirs
):
  given, (code, _, err) = initial('soundstream', workdirs / 'soundstream')
  assert (code, err) == (0, '')
  assert set(given.keywords['params']) == {'codec', 'discriminators'}
  assert given.keywords['fresh'] == []


@pytest.mark.parametrize(
  ('source', 'words'),
  [
    ('/nowhere', "there is no workdir '/nowhere'"),
    ('{workdirs}', 'is no workdir: it has no config.json'),
    ('{workdirs}/mulan', 'of the stage mulan, expected soundstream'),
  ],
)
def test_what_holds_no_weights_of_the_stage_is_refused(
  source, words, initial, workdirs
):
  given, (code, out, err) = initial(
    'soundstream', source.replace('{workdirs}', str(workdirs))
  )
  assert given is None and (code, out) == (cli.USAGE, '')
  assert words in err and err.count('\n') == 1


def test_weights_of_another_size_name_the_first_array_that_differs(
  initial, bundle, minute_game
):
  given, (code, _, _) = initial('mulan', bundle[0])
  assert code == 0
  state = zeros_of(*minute_game('mulan', **{'model.text.mlp_dim': 16}))
  with pytest.raises(cli.UsageError) as refused:
    given(state)
  line = str(refused.value)
  assert '(1, 8, 8) at params/mulan/text_tower/transformer/layers' in line
  assert 'needs (1, 16, 8): use the config of those weights' in line
