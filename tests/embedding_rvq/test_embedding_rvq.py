"""MuLan's and the melody's quantizer: centred, quantized, frozen."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax import stages
from musiclm_jax.configs import mulan_rvq
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.embedding_rvq.quantizer import EmbeddingQuantizer
from musiclm_jax.embedding_rvq.task import EmbeddingRvqTask
from musiclm_jax.nn.embedding import unit

DIM, FACTORS = 16, 6
MODALITIES = {'mulan_rvq': ('audio', 'text'), 'melody_rvq': ('audio',)}
SIZES = {'num_levels': 3, 'codebook_size': 8}
OPTIONS = {'total_steps': 12, 'statistics_steps': 4}


def _pairs(seed, count=64, offset=3.0):
  """Pairs that share factors; a constant sets the modalities apart."""
  rng = np.random.default_rng(seed)
  basis, gap = (
    np.random.default_rng(9).normal(size=(FACTORS, DIM)),
    np.random.default_rng(8).normal(size=DIM),
  )
  meaning = rng.choice([-1.0, 1.0], size=(count, FACTORS)) @ basis
  noise = rng.normal(size=(2, count, DIM)) * 0.3
  audio = meaning + noise[0] + offset * gap * 4
  text = meaning + noise[1] - offset * gap * 4
  return {
    'audio': jnp.asarray(audio / np.linalg.norm(audio, axis=1)[:, None]),
    'text': jnp.asarray(text / np.linalg.norm(text, axis=1)[:, None]),
  }


def make_task(player, **changes):
  return EmbeddingRvqTask(
    rvq=EmbeddingQuantizer(player, **SIZES),
    modalities=MODALITIES[player],
    **OPTIONS | changes,
  )


@pytest.fixture(scope='module', params=['mulan_rvq', 'melody_rvq'])
def task(request):
  return make_task(request.param)


@pytest.fixture(scope='module')
def mulan():
  return make_task('mulan_rvq')


@functools.cache
def fit(task):
  """Collections before every step of a fit, and after the last."""
  params, collections = jax.jit(task.init)(jax.random.key(0), _pairs(0))
  assert params == {task.rvq.player: {}}
  step = jax.jit(task.losses()[task.rvq.player])
  found = [collections]
  for k in range(task.total_steps):
    _, (collections, _) = step(
      params, collections, _pairs(k), jax.random.key(k), k
    )
    found.append(collections)
  return [c[task.rvq.player] for c in found]


@pytest.fixture(scope='module')
def history(task):
  return fit(task)


@pytest.fixture(scope='module')
def fitted(task):
  return {task.rvq.player: fit(task)[-1]}


def test_statistics_come_first_and_then_stand_still(task, history):
  steps = task.statistics_steps
  assert history[steps]['count'] == steps * 64
  assert not history[steps]['codebooks']['initialized']
  assert history[steps + 1]['codebooks']['initialized']
  sums = {f'{modality}_sum' for modality in task.modalities}
  assert history[0].keys() == {*sums, 'count', 'codebooks'}
  for name in (*sums, 'count'):
    np.testing.assert_array_equal(history[steps][name], history[-1][name])
  audio = np.concatenate([_pairs(k)['audio'] for k in range(steps)])
  mean = task.rvq.mean({task.rvq.player: history[-1]}, 'audio')
  np.testing.assert_allclose(mean, audio.mean(axis=0), atol=1e-5)


def test_codes_are_legal_and_the_codebook_is_used(task, fitted):
  codes = np.asarray(task.rvq.quantize(fitted, _pairs(50)['audio'], 'audio'))
  assert codes.shape == (64, 3) and codes.dtype == np.int32
  assert codes.min() >= 0 and codes.max() < 8
  assert len(np.unique(codes[:, 0])) >= 6


def test_centring_by_modality_hands_text_over_to_audio(mulan):
  """Without its own mean each text has one and the same code."""
  task, fitted = mulan, {'mulan_rvq': fit(mulan)[-1]}
  batch = _pairs(60, count=256)
  audio = task.rvq.quantize(fitted, batch['audio'], 'audio')
  text = task.rvq.quantize(fitted, batch['text'], 'text')
  wrong = task.rvq.quantize(fitted, batch['text'], 'audio')
  agreement = np.mean(audio[:, 0] == text[:, 0])
  assert agreement > 0.5
  assert np.mean(audio[:, 0] == wrong[:, 0]) < agreement - 0.2
  metrics = jax.jit(task.evaluate)({'mulan_rvq': {}}, fitted, batch)
  assert all(value.shape == (256,) for value in metrics.values())
  np.testing.assert_allclose(metrics['agreement_1'].mean(), agreement)
  assert metrics['agreement_chance_1'].mean() < 0.3
  assert metrics['distortion_audio'].mean() < 0.6


def test_centred_embeddings_have_mean_zero_and_length_one(task, fitted):
  batch = _pairs(70, count=512)
  for modality in task.modalities:
    centred = np.asarray(task.rvq.centre(fitted, batch[modality], modality))
    np.testing.assert_allclose(np.linalg.norm(centred, axis=-1), 1.0, atol=1e-5)
    assert np.abs(centred.mean(axis=0)).max() < 0.15


def test_the_scale_of_an_embedding_does_not_matter(task, fitted):
  """Mistake 16: RVQ trained on one modality's scale."""
  batch = _pairs(80)
  for modality in task.modalities:
    np.testing.assert_array_equal(
      task.rvq.quantize(fitted, batch[modality], modality),
      task.rvq.quantize(fitted, 7.0 * batch[modality], modality),
    )


def test_the_melody_is_fitted_as_mulans_audio_is():
  """One fit: text adds a mean and nothing else."""
  mulan, melody = (fit(make_task(name))[-1] for name in MODALITIES)
  for name in melody:
    # Two programs may round differently: equal to the last bits.
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(np.float32(a), b, atol=1e-6),
      melody[name],
      mulan[name],
    )


def test_using_the_quantizer_changes_nothing(task, fitted):
  """Mistake 14: codebooks that drift while language models train."""
  before = jax.tree.map(np.array, fitted)
  far = jnp.ones((64, DIM))
  first = task.rvq.quantize(fitted, _pairs(90)['audio'], 'audio')
  task.rvq.quantize(fitted, far, 'audio')
  task.evaluate({task.rvq.player: {}}, fitted, {'audio': far, 'text': far})
  jax.tree.map(np.testing.assert_array_equal, before, fitted)
  again = task.rvq.quantize(fitted, _pairs(90)['audio'], 'audio')
  np.testing.assert_array_equal(first, again)


def test_text_moves_its_mean_and_no_codebook(mulan):
  task = mulan
  params, collections = task.init(jax.random.key(0), _pairs(0))
  step = jax.jit(task.losses()['mulan_rvq'])
  results = []
  for sign in (1.0, -1.0):
    moved = collections
    for k in range(6):
      batch = _pairs(k)
      batch['text'] = sign * batch['text']
      _, (moved, _) = step(params, moved, batch, jax.random.key(k), k)
    results.append(moved['mulan_rvq'])
  a, b = results
  jax.tree.map(np.testing.assert_array_equal, a['codebooks'], b['codebooks'])
  np.testing.assert_allclose(a['text_sum'], -b['text_sum'], atol=1e-5)


def test_too_little_data_is_refused(task):
  with pytest.raises(UsageError, match='batches of at least 16'):
    task.init(jax.random.key(0), _pairs(0, count=15))
  with pytest.raises(UsageError, match='statistics_steps'):
    make_task(task.rvq.player, statistics_steps=12)


def test_loss_has_no_gradient_and_reports_agreement(task, fitted):
  (loss, (_, metrics)), gradient = jax.value_and_grad(
    lambda own: task.losses()[task.rvq.player](
      {task.rvq.player: own}, fitted, _pairs(5), jax.random.key(0), 11
    ),
    has_aux=True,
  )({})
  assert gradient == {}
  assert loss == metrics['distortion_audio']
  assert {'distortion_audio', 'perplexity_last', 'fitted'} <= metrics.keys()
  agreement = {'agreement_1', 'agreement_chance_1'} & metrics.keys()
  assert len(agreement) == (2 if 'text' in task.modalities else 0)


def _clustered(seed, count):
  """Unit embeddings [N, 128] in 24 clusters, of axes that matter ever less."""
  fixed, rng = np.random.default_rng(7), np.random.default_rng((1, seed))
  axes = np.linalg.qr(fixed.normal(size=(128, 128)))[0]
  rank = np.arange(1, 129)
  centres = fixed.normal(size=(24, 128)) * rank**-0.5
  x = centres[rng.integers(24, size=count)]
  x = (x + 0.7 * rng.normal(size=(count, 128)) * rank**-0.6) @ axes
  return jnp.asarray(unit(x.astype(np.float32)))


def test_deep_levels_use_their_codes_too():
  """Residuals without clusters: 4 of 32 were in use where points replaced."""
  config = mulan_rvq.get_config('tiny').to_dict()
  task = stages.build(config)
  size = config['data']['batch_size']

  def batch(seed, count=size):
    return dict.fromkeys(('audio', 'text'), _clustered(seed, count))

  params, collections = task.init(jax.random.key(0), batch(0))
  step = jax.jit(task.losses()['mulan_rvq'])
  for k in range(task.total_steps):
    _, (collections, _) = step(
      params, collections, batch(k), jax.random.key(k), k
    )
  held_out = batch(999, 1024)['audio']
  codes = np.asarray(task.rvq.quantize(collections, held_out, 'audio'))
  used = [len(np.unique(level)) for level in codes.T]
  assert min(used) >= task.rvq.codebook_size / 2, used
