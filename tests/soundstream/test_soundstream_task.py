"""Claims about SoundStream's training."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.nn import quantizer
from musiclm_jax.soundstream import codec as applied
from musiclm_jax.soundstream import losses
from musiclm_jax.soundstream.codec import Codec
from musiclm_jax.soundstream.discriminators import Discriminators
from musiclm_jax.soundstream.seanet import SoundStream
from musiclm_jax.soundstream.task import SoundStreamTask

HOP, Q, K = 16, 3, 16


def _task(denoises=False, **kwargs):
  codec = SoundStream(
    denoises=denoises,
    channels=4,
    latent_dim=8,
    strides=(4, 4),
    dilations=(1, 3),
    num_quantizers=Q,
    codebook_size=K,
  )
  discriminators = Discriminators(
    num_scales=2, wave_channels=2, wave_max_channels=8, stft_channels=2
  )
  return SoundStreamTask(
    Codec(codec), discriminators, total_steps=100, **kwargs
  )


def _batch(samples=2048):
  time = jnp.arange(samples) / 24_000
  tones = [jnp.sin(2 * jnp.pi * hz * time) for hz in (440.0, 1000.0)]
  noise = 0.05 * jax.random.normal(jax.random.key(9), (2, samples))
  return {'waveform': (0.3 * jnp.stack(tones) + noise) * jnp.exp(-5.0 * time)}


@pytest.fixture(scope='module')
def game():
  """A task with fitted codebooks: (task, params, collections, batch)."""
  task, batch = _task(), _batch()
  params, collections = jax.jit(task.init)(jax.random.key(0), batch)

  @jax.jit
  def fit(params, collections):
    _, latents, _ = task.codec.reconstruct(
      params, collections, batch['waveform']
    )
    books = collections['codec']
    codes = quantizer.codes_of(books, latents)
    return quantizer.update(
      books, latents, codes, jax.random.key(1), zero_entries=1
    )

  return task, params, {'codec': fit(params, collections)}, batch


def test_codec_tells_its_token_stream():
  codec = Codec(SoundStream())
  assert (codec.hop_length, codec.frame_rate) == (480, 50.0)
  assert (codec.num_quantizers, codec.codebook_size) == (12, 1024)


def test_decoding_the_codes_is_the_forward_pass_bit_for_bit(game):
  """Mistake 9b: the decode path differs from the training path."""
  task, params, collections, batch = game
  x = batch['waveform']
  codes = jax.jit(task.codec.encode)(params, collections, x)
  assert codes.shape == (2, 2048 // HOP, Q) and codes.dtype == jnp.int32
  forward, _, _ = jax.jit(task.codec.reconstruct)(params, collections, x)
  decoded = jax.jit(task.codec.decode)(params, collections, codes)
  np.testing.assert_array_equal(decoded, forward)
  assert np.std(decoded) > 0.0


def test_streaming_has_the_codes_and_the_waveform_of_the_whole(game):
  task, params, collections, batch = game
  x = batch['waveform']
  codes = jax.jit(task.codec.encode)(params, collections, x)
  whole = jax.jit(task.codec.decode)(params, collections, codes)
  encode_step, decode_step = map(
    jax.jit, (task.codec.encode_step, task.codec.decode_step)
  )
  pasts, spoken, start, parts, waveforms = None, None, 0, [], []
  for count in (64, 64):
    chunk = x[:, start : start + count * HOP]
    part, pasts = encode_step(params, collections, chunk, pasts)
    waveform, spoken = decode_step(params, collections, part, spoken)
    parts.append(part)
    waveforms.append(waveform)
    start += count * HOP
  assert start == x.shape[1]
  np.testing.assert_array_equal(np.concatenate(parts, axis=1), codes)
  np.testing.assert_allclose(np.concatenate(waveforms, 1), whole, atol=1e-5)


@pytest.mark.parametrize('frames', [128, 115])
def test_a_long_waveform_is_coded_in_chunks(game, monkeypatch, frames):
  task, params, collections, batch = game
  x = batch['waveform'][:, : frames * HOP]
  # Each a program of its own: jit would find the first one's.
  whole = jax.jit(lambda *inputs: task.codec.encode(*inputs))
  chunked = jax.jit(lambda *inputs: task.codec.encode(*inputs))
  expected = whole(params, collections, x)
  monkeypatch.setattr(applied, '_CHUNK_SECONDS', 32 / task.codec.frame_rate)
  np.testing.assert_array_equal(chunked(params, collections, x), expected)


def test_silence_in_gives_silence_out(game):
  task, params, collections, _ = game
  silence = jnp.zeros((1, 10 * HOP))
  codes = jax.jit(task.codec.encode)(params, collections, silence)
  assert not codes.any()
  assert not jax.jit(task.codec.decode)(params, collections, codes).any()


def test_fewer_levels_decode(game):
  task, params, collections, batch = game
  codes = jax.jit(task.codec.encode)(params, collections, batch['waveform'])
  decoded = jax.jit(task.codec.decode)(params, collections, codes[..., :1])
  assert decoded.shape == (2, 2048) and np.all(np.isfinite(decoded))


def test_levels_are_drawn_per_example():
  """Mistake 15: quantizer dropout per batch instead of per example."""
  task = _task(quantizer_dropout=0.5)
  levels = np.asarray(task._draw_levels(jax.random.key(0), 3000))
  shares = np.bincount(levels, minlength=Q + 1) / 3000
  np.testing.assert_allclose(shares[1:], [1 / 6, 1 / 6, 2 / 3], atol=0.04)
  assert np.all(
    _task(quantizer_dropout=0.0)._draw_levels(jax.random.key(0), 9) == Q
  )


def _gradients(task, collections, batch):
  """Makes both players' gradients and metrics, as one jitted step does."""

  def play(params, step):
    out = {}
    for player, loss in task.losses().items():

      def own(subtree, player=player, loss=loss):
        mixed = {**params, player: subtree}
        return loss(mixed, collections, batch, jax.random.key(2), step)

      out[player] = jax.value_and_grad(own, has_aux=True)(params[player])
    return out

  return jax.jit(play)


def test_adversaries_that_play_go_on_playing_in_a_longer_training():
  shares = {'adversarial_start': 0.4, 'adversarial_warmup': 0.1}

  def phases(step, **more):
    at = _task(**shares, **more).at(step)
    return at.discriminated, at.opposed

  assert phases(60) == (True, True)
  longer = dataclasses.replace(_task(**shares), total_steps=400)
  assert not longer.at(60).discriminated, 'as if it had just begun'
  for stop, expected in ((60, (True, True)), (45, (True, False))):
    on = dataclasses.replace(longer, earlier=((stop, 100),))
    at = on.at(stop)
    assert (at.discriminated, at.opposed) == expected
    assert on.at(399).opposed
  early = dataclasses.replace(longer, earlier=((20, 100),))
  assert early.at(20 + 95) != early.at(20 + 94), '0.2 of 0.8, of 380 steps'
  checks = on.batch_info(_batch()).health_checks
  assert {check.since for check in checks} == {0, 40}


def test_a_training_without_adversaries_goes_on_without_them():
  alone = _task(adversarial_start=1.0, adversarial_warmup=0.1)
  longer = dataclasses.replace(alone, total_steps=400, earlier=((100, 100),))
  for task, step in ((alone, 99), (longer, 100), (longer, 399)):
    assert not task.at(step).discriminated
    assert not task.at(step).opposed


@pytest.mark.soak
def test_adversaries_wait_and_then_play(game):
  """Mistake 6: a player without a gradient path."""
  task, params, collections, batch = game
  task = dataclasses.replace(
    task, adversarial_start=0.4, adversarial_warmup=0.1
  )
  before, learning, playing = (
    _gradients(task.at(step), collections, batch)(params, jnp.int32(step))
    for step in (39, 40, 50)
  )
  phases = [task.at(step) for step in range(task.total_steps)]
  assert [phases.count(phases[step]) for step in (39, 40, 50)] == [40, 10, 50]

  def size(out, player):
    return float(optax.tree.norm(out[player][1]))

  def metrics(out):
    return out['codec'][0][1][1]

  assert size(before, 'discriminators') == 0.0
  assert size(learning, 'discriminators') > 0.0
  assert metrics(learning)['adversarial'] == 0.0
  assert metrics(playing)['adversarial'] > 0.0
  assert metrics(playing)['feature'] > 0.0
  assert size(playing, 'codec') != size(learning, 'codec') > 0.0
  for player in ('codec', 'discriminators'):
    gradients = jax.tree_util.tree_leaves_with_path(playing[player][1])
    # Within the margins of the hinge a common shift of all logits (the last
    # biases, of size 1) changes nothing.
    idle = [p for p, leaf in gradients if leaf.size > 1 and not np.any(leaf)]
    assert not idle, f'{player} has parameters without gradient: {idle}'


def test_the_waveform_loss_can_end_where_the_discriminators_are_felt(game):
  """What the codec's loss is the sum of, before and after."""
  task, params, collections, batch = game
  task = dataclasses.replace(
    task,
    mel_scales=losses.FINE_SCALES,
    mel_log_only=True,
    log_stft_weight=0.5,
    waveform_weight=2.0,
    waveform_until_adversarial=True,
    relative_features=True,
    feature_weight=3.0,
    adversarial_start=0.5,
  )
  for step, waveform_weight in ((0, 2.0), (99, 0.0)):
    loss = jax.jit(task.at(step).losses()['codec'])
    total, (_, parts) = loss(
      params, collections, batch, jax.random.key(2), jnp.int32(step)
    )
    expected = (
      parts['reconstruction']
      + 0.5 * parts['log_stft']
      + waveform_weight * parts['waveform']
      + parts['adversarial']
      + 3.0 * parts['feature']
      + 0.25 * parts['commitment']
    )
    np.testing.assert_allclose(total, expected, rtol=1e-5)
    assert parts['waveform'] > 0.0, 'it is still measured'


def test_each_player_moves_only_what_is_its_own(game):
  task, params, collections, batch = game
  loss = task.losses()['discriminators']

  def of_codec(codec):
    mixed = {**params, 'codec': codec}
    args = (collections, batch, jax.random.key(2), jnp.int32(0))
    return loss(mixed, *args)[0]

  gradient = jax.jit(jax.grad(of_codec))(params['codec'])
  assert optax.tree.norm(gradient) == 0.0


@pytest.mark.parametrize('opposed', [False, True])
def test_with_frozen_codes_the_decoder_alone_learns(game, opposed):
  task, params, collections, batch = game
  frozen = dataclasses.replace(
    task,
    frozen_codes=True,
    adversarial_start=0.0 if opposed else 1.0,
  ).at(50)
  assert frozen.opposed == opposed

  play = jax.jit(jax.value_and_grad(frozen.losses()['codec'], has_aux=True))
  (_, (after, _)), gradients = play(
    params, collections, batch, jax.random.key(2), jnp.int32(50)
  )
  sizes = jax.tree.map(lambda x: float(jnp.abs(x).max()), gradients['codec'])
  assert not any(jax.tree.leaves(sizes['encoder'])), 'exactly 0'
  assert all(jax.tree.leaves(sizes['decoder']))
  jax.tree.map(
    np.testing.assert_array_equal, after['codec'], collections['codec']
  )


def test_the_codec_overfits_one_batch():
  task = _task(adversarial_start=2.0, quantizer_dropout=0.0).at(0)
  batch = _batch()
  params, collections = jax.jit(task.init)(jax.random.key(0), batch)
  optimizer = optax.adam(3e-3, b1=0.5, b2=0.9)

  @jax.jit
  def train(params, collections):
    def step(carry, key):
      params, collections, opt_state = carry

      def loss(codec):
        mixed = {**params, 'codec': codec}
        return task.losses()['codec'](
          mixed, collections, batch, key, jnp.int32(0)
        )

      (_, (collections, metrics)), gradient = jax.value_and_grad(
        loss, has_aux=True
      )(params['codec'])
      update, opt_state = optimizer.update(gradient, opt_state)
      codec = optax.apply_updates(params['codec'], update)
      return ({**params, 'codec': codec}, collections, opt_state), metrics

    carry = (params, collections, optimizer.init(params['codec']))
    keys = jax.random.split(jax.random.key(3), 150)
    return jax.lax.scan(step, carry, keys)

  evaluate = jax.jit(task.evaluate)
  before = evaluate(params, collections, batch)
  (params, collections, _), metrics = train(params, collections)
  after = evaluate(params, collections, batch)
  assert metrics['reconstruction'][-1] < 0.6 * metrics['reconstruction'][0]
  assert np.all(after['log_mel_distance'] < 0.6 * before['log_mel_distance'])
  assert before['si_sdr'].shape == (2,)


def test_all_losses_compare_with_the_target_and_not_with_the_input():
  """Mistake 9: with denoising, losses against the noisy input."""
  task = _task(denoises=True)
  clean = _batch()['waveform']
  noisy = clean + 0.1 * jax.random.normal(jax.random.key(5), clean.shape)
  batch = {'waveform': clean, 'input': noisy, 'denoise': jnp.ones(2, bool)}
  params, collections = jax.jit(task.init)(jax.random.key(0), batch)

  @jax.jit
  def measured(batch):
    args = (params, collections, batch, jax.random.key(2), jnp.int32(0))
    out = {name: loss(*args) for name, loss in task.losses().items()}
    return {
      'discriminators': out['discriminators'][0],
      **out['codec'][1][1],
      **task.evaluate(params, collections, batch),
    }

  right = measured(batch)
  other = measured({**batch, 'waveform': noisy})
  clean_input = measured({**batch, 'input': clean})
  for name in ('reconstruction', 'waveform', 'feature', 'discriminators'):
    assert right[name] != other[name], f'{name} does not see the target'
    assert right[name] != clean_input[name], f'{name} ignores the input'
  np.testing.assert_array_equal(right['commitment'], other['commitment'])


def test_the_flag_acts_per_row_and_an_untrained_one_changes_nothing():
  task, plain = _task(denoises=True), _task()
  x = _batch()['waveform']
  params, _ = jax.jit(task.init)(jax.random.key(0), {'waveform': x})

  def latents(codec, flag):
    variables = {'params': params['codec']}
    encode = jax.jit(functools.partial(codec.model.apply, method='encode'))
    return encode(variables, x, denoise=flag)[0]

  on = jnp.array([True, False])
  np.testing.assert_array_equal(
    latents(task.codec, on), latents(plain.codec, None)
  )
  params['codec']['film']['beta'] = jnp.ones((2, 8)) * jnp.array([[0], [3.0]])
  change = latents(task.codec, on) - latents(task.codec, None)
  np.testing.assert_allclose(change[0], 3.0, atol=1e-5)
  np.testing.assert_array_equal(change[1], 0.0)


def test_a_codec_that_does_not_denoise_says_so():
  task, batch = _task(), _batch()
  params, collections = jax.eval_shape(task.init, jax.random.key(0), batch)
  with pytest.raises(UsageError, match='denoises=True'):
    jax.eval_shape(
      task.codec.encode,
      params,
      collections,
      batch['waveform'],
      jnp.ones(2, bool),
    )
