"""Trains the tagger that comes with the package, on composed music.

python -m musiclm_jax.prepare --source=rendered_music --out=CORPUS --pieces=500
python experiments/embedder/train.py CORPUS [BUNDLE]

Windows of 0.96 s learn what is audible in them; clips of 10 s of the test
split, which no training has seen, are the mean of their windows. They are also
scored after MP3 at 64 kbit/s and, with BUNDLE, after its codec. What the first
part of the training leaves is kept in CORPUS, and a later run begins with it.
"""

import io
import json
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import soundfile
import soxr

from musiclm_jax.contracts.audio import SAMPLE_RATE
from musiclm_jax.dsp import vggish_mel
from musiclm_jax.evaluation import tagger
from musiclm_jax.rendered_music import programs, styles
from musiclm_jax.rendered_music.source import RenderedMusicSource

HERE = Path(__file__).parent
SEED = 0
# In the first part music is as it is, in the second part half is damaged.
STEPS, DAMAGED_STEPS, BATCH, WARMUP = 1000, 300, 128, 50
LEARNING_RATE, WEIGHT_DECAY = 2e-3, 1e-2
DAMAGED_LEARNING_RATE = 1e-3
GAIN_DB = 12.0  # loudness shall not tell anything
# The network learns to say how much of it is damaged: an
# embedding of music alone does not know which of two bad sounds is worse.
DAMAGED_SHARE, DAMAGE_WEIGHT = 0.5, 3.0
LEAST_NOISE, MOST_NOISE = 0.001, 0.2  # of full scale
LEAST_HZ = 400.0  # of a low-pass filter
WINDOW_SECONDS = vggish_mel.EXAMPLE_SAMPLES / vggish_mel.SAMPLE_RATE
CLIP_SECONDS, CLIPS_PER_PIECE = 10.0, 3
MP3_QUALITY = 0.75  # about 64 kbit/s at 24 kHz, mono
FAMILIES = (*programs.LEAD_FAMILIES, 'bass', 'pad', programs.DRUM_FAMILY)
CLASSES = {
  'family': programs.LEAD_FAMILIES,
  'style': tuple(style.name for style in styles.STYLES),
  'tempo': ('slow', 'medium', 'fast'),
  'density': ('sparse', 'moderate', 'busy'),
  'brightness': ('dark', 'neutral', 'bright'),
  'texture': ('solo', 'ensemble'),
  'instruments': FAMILIES,
}
KINDS = dict.fromkeys(CLASSES, 'softmax') | {'instruments': 'sigmoid'}
FIELDS = {'family': 'lead_family', 'tempo': 'tempo_class'}


def labels_of(audible: dict) -> dict[str, np.ndarray]:
  """Class of each head, -1 where there is none; of `instruments` one each."""
  found = {}
  for head, names in CLASSES.items():
    if head == 'instruments':
      found[head] = np.array([name in audible['families'] for name in names])
    else:
      value = audible[FIELDS.get(head, head)]
      known = value in names and not audible['near_silence']
      found[head] = np.array(names.index(value) if known else -1)
  return found


def stacked(rows: list[dict]) -> dict[str, np.ndarray]:
  return {head: np.stack([row[head] for row in rows]) for head in CLASSES}


def examples(log_mels: np.ndarray) -> np.ndarray:
  """Cuts log-mels [T, 64] into [N, 96, 64]."""
  count = len(log_mels) // vggish_mel.EXAMPLE_FRAMES
  used = log_mels[: count * vggish_mel.EXAMPLE_FRAMES]
  return used.reshape(count, vggish_mel.EXAMPLE_FRAMES, vggish_mel.NUM_MELS)


def front_end(waveform: np.ndarray, rate: int) -> np.ndarray:
  return examples(
    vggish_mel.log_mel(soxr.resample(waveform, rate, vggish_mel.SAMPLE_RATE))
  )


def training_windows(corpus: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
  """All windows of the training split and their labels."""
  source = RenderedMusicSource(corpus, 'train')
  windows, rows = [], []
  hop = vggish_mel.EXAMPLE_FRAMES * vggish_mel.HOP_LENGTH
  for i in range(len(source)):
    found = front_end(source.read(i), source.sample_rate).astype(np.float16)
    windows.append(found)
    for k in range(len(found)):
      start = k * hop / vggish_mel.SAMPLE_RATE
      rows.append(
        labels_of(source.attributes(i, start, start + WINDOW_SECONDS))
      )
  return np.concatenate(windows), stacked(rows)


def test_clips(
  corpus: str, split: str
) -> tuple[list[np.ndarray], int, dict[str, np.ndarray]]:
  """Clips of a held-out split, as waveforms at their rate, and labels."""
  source = RenderedMusicSource(corpus, split)
  samples = round(CLIP_SECONDS * source.sample_rate)
  waveforms, rows = [], []
  for i in range(len(source)):
    last = max(source.num_samples(i) - samples, 0)
    for start in np.linspace(0, last, CLIPS_PER_PIECE).astype(int):
      waveforms.append(source.read(i, int(start), samples))
      begin = start / source.sample_rate
      rows.append(labels_of(source.attributes(i, begin, begin + CLIP_SECONDS)))
  return waveforms, source.sample_rate, stacked(rows)


def as_mp3(waveform: np.ndarray, rate: int) -> np.ndarray:
  memory = io.BytesIO()
  soundfile.write(
    memory, waveform, rate, format='MP3', compression_level=MP3_QUALITY
  )
  memory.seek(0)
  return soundfile.read(memory, dtype='float32')[0]


def codec_of(bundle: str):
  """A function (waveform, rate) that codes and decodes with a bundle."""
  from musiclm_jax.cascade import networks

  network = networks.load(bundle, 'soundstream')
  codec = network.model

  @jax.jit
  def run(params, collections, waveform):
    codes = codec.encode(params, collections, waveform)
    return codec.decode(params, collections, codes)

  def coded(waveform: np.ndarray, rate: int) -> np.ndarray:
    assert rate == SAMPLE_RATE
    whole = len(waveform) - len(waveform) % codec.hop_length
    out = run(network.params, network.collections, waveform[None, :whole])
    return np.asarray(out)[0]

  return coded


def loss_of(logits: dict, labels: dict) -> jax.Array:
  """Mean over heads of the cross-entropy of what is known."""
  losses = []
  for head, scores in logits.items():
    wanted = labels[head]
    if KINDS[head] == 'sigmoid':
      losses.append(
        optax.sigmoid_binary_cross_entropy(scores, wanted.astype(float)).mean()
      )
      continue
    known = wanted >= 0
    one = optax.softmax_cross_entropy_with_integer_labels(
      scores, jnp.maximum(wanted, 0)
    )
    losses.append((one * known).sum() / jnp.maximum(known.sum(), 1))
  return sum(losses) / len(losses)


def louder(log_mels: jax.Array, gain_db: jax.Array) -> jax.Array:
  """Log-mels [B, T, M] of the same sound with other gains [B]."""
  offset = vggish_mel.LOG_OFFSET
  mels = jnp.maximum(jnp.exp(log_mels) - offset, 0.0)
  return jnp.log(mels * 10 ** (gain_db[:, None, None] / 20) + offset)


def damaged(key: jax.Array, log_mels: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Adds noise to log-mels [B, T, M] and takes their high bands away.

  Returns:
    The log-mels, and how much of both there is, [B, 2] in [0, 1].
  """
  batch = len(log_mels)
  keys = jax.random.split(key, 3)
  amounts = jax.random.uniform(keys[0], (batch, 2))
  chosen = jax.random.uniform(keys[1], (batch, 2)) < DAMAGED_SHARE
  amounts = amounts * chosen
  offset = vggish_mel.LOG_OFFSET
  mels = jnp.maximum(jnp.exp(log_mels) - offset, 0.0)
  # Mean magnitude of white noise under the window, in each band.
  window = np.hanning(vggish_mel.WINDOW_LENGTH)
  of_noise = 0.886 * np.sqrt(np.square(window).sum())
  of_noise = of_noise * vggish_mel.mel_matrix().sum(axis=0)
  level = LEAST_NOISE * (MOST_NOISE / LEAST_NOISE) ** amounts[:, :1, None]
  level = level * chosen[:, :1, None]
  spread = jnp.exp(0.2 * jax.random.normal(keys[2], mels.shape))
  mels = jnp.sqrt(mels**2 + (level * spread * of_noise) ** 2)
  low, high = vggish_mel.LOW_HZ, vggish_mel.HIGH_HZ
  mel = np.linspace(*np.log(1 + np.array([low, high]) / 700), 66)[1:-1]
  tops = 700 * (np.exp(mel) - 1)
  cutoff = high * (LEAST_HZ / high) ** amounts[:, 1:, None]
  kept = (tops < cutoff) | ~chosen[:, 1:, None]
  return jnp.log(mels * kept + offset), amounts


def train(
  windows: np.ndarray, labels: dict[str, np.ndarray], kept: Path
) -> dict:
  """Trains the network and returns its parameters.

  Args:
    windows: Log-mels [N, 96, 64].
    labels: Of each window.
    kept: File of what the first part leaves.
  """
  heads = dict(tagger.make_network(CLASSES).heads)
  if kept.exists():
    params = tagger.load(kept).params
  else:
    first = tagger.make_network(CLASSES)
    params = first.init(jax.random.key(SEED), jnp.zeros((1, 96, 64)))['params']
    params = fit(first, params, windows, labels, STEPS, LEARNING_RATE)
    unknown = {head: {} for head in CLASSES}
    majority = dict.fromkeys(CLASSES, 0.0)
    tagger.save(kept, params, CLASSES, KINDS, unknown, majority, {})
  second = tagger.TaggerNetwork({**heads, 'damage': 2})
  fresh = second.init(jax.random.key(SEED), jnp.zeros((1, 96, 64)))['params']
  params = fit(
    second,
    {**fresh, **params},
    windows,
    labels,
    DAMAGED_STEPS,
    DAMAGED_LEARNING_RATE,
  )
  return {name: part for name, part in params.items() if name != 'damage'}


def fit(
  network: tagger.TaggerNetwork,
  params: dict,
  windows: np.ndarray,
  labels: dict[str, np.ndarray],
  steps: int,
  learning_rate: float,
) -> dict:
  """Trains one part; with a head `damage` half of the windows are damaged."""
  optimizer = optax.chain(
    optax.clip_by_global_norm(1.0),
    optax.adamw(
      optax.warmup_cosine_decay_schedule(0.0, learning_rate, WARMUP, steps),
      weight_decay=WEIGHT_DECAY,
    ),
  )
  state = optimizer.init(params)

  @jax.jit
  def step(params, state, key, log_mels, gains, batch):
    def loss(params):
      x = louder(log_mels.astype(jnp.float32), gains)
      if 'damage' not in network.heads:
        return loss_of(network.apply({'params': params}, x)[1], batch)
      x, amounts = damaged(key, x)
      logits = dict(network.apply({'params': params}, x)[1])
      error = jnp.square(logits.pop('damage') - amounts).mean()
      return loss_of(logits, batch) + DAMAGE_WEIGHT * error

    value, gradients = jax.value_and_grad(loss)(params)
    updates, state = optimizer.update(gradients, state, params)
    return optax.apply_updates(params, updates), state, value

  rng = np.random.default_rng(SEED)
  begun, running = time.monotonic(), []
  for k in range(steps):
    chosen = rng.integers(0, len(windows), BATCH)
    batch = {head: values[chosen] for head, values in labels.items()}
    gains = rng.uniform(-GAIN_DB, GAIN_DB, BATCH).astype(np.float32)
    key = jax.random.fold_in(jax.random.key(SEED), k)
    params, state, value = step(
      params, state, key, windows[chosen], gains, batch
    )
    running.append(float(value))
    if k % 50 == 49:
      seconds = time.monotonic() - begun
      print(f'step {k + 1}: {np.mean(running[-50:]):.3f}, {seconds:.0f} s')
  return params


def accuracy_of(
  params: dict, clips: list[np.ndarray], labels: dict[str, np.ndarray]
) -> dict[str, float]:
  """Share of clips [N, 96, 64] that a head names rightly."""
  network = tagger.make_network(CLASSES)
  apply = jax.jit(lambda x: network.apply({'params': params}, x)[1])
  pooled = {head: [] for head in CLASSES}
  for clip in clips:
    for head, logits in apply(clip[:10].astype(np.float32)).items():
      sigmoid = KINDS[head] == 'sigmoid'
      squash = jax.nn.sigmoid if sigmoid else jax.nn.softmax
      pooled[head].append(np.asarray(squash(logits)).mean(axis=0))
  found = {}
  for head, rows in pooled.items():
    scores, wanted = np.stack(rows), labels[head]
    if KINDS[head] == 'sigmoid':
      found[head] = float(((scores > 0.5) == wanted).mean())
    else:
      hits = scores.argmax(axis=1) == wanted
      found[head] = float(hits[wanted >= 0].mean())
  return found


def main() -> None:
  """Trains, scores, and writes the weights and results.json."""
  corpus = sys.argv[1]
  begun = time.monotonic()
  windows, labels = training_windows(corpus)
  print(f'{len(windows)} windows in {time.monotonic() - begun:.0f} s')
  kept = Path(corpus) / 'first_part.safetensors'
  params = train(windows, labels, kept)
  clips, rate, wanted = test_clips(corpus, 'test')
  ways = {'plain': lambda x, rate: x, 'mp3': as_mp3}
  if len(sys.argv) > 2:
    ways['codec'] = codec_of(sys.argv[2])
  accuracy = {head: {} for head in CLASSES}
  for way, change in ways.items():
    heard = [front_end(change(clip, rate), rate) for clip in clips]
    for head, share in accuracy_of(params, heard, wanted).items():
      accuracy[head][way] = round(share, 4)
  majority = {
    head: round(
      float(np.maximum(values.mean(axis=0), 1 - values.mean(axis=0)).mean())
      if KINDS[head] == 'sigmoid'
      else np.bincount(values[values >= 0]).max() / (values >= 0).sum(),
      4,
    )
    for head, values in wanted.items()
  }
  training = {
    'corpus': 'rendered_music, 500 pieces, seed 7',
    'windows': len(windows),
    'steps': [STEPS, DAMAGED_STEPS],
    'batch': BATCH,
    'seed': SEED,
    'held_out_clips': len(clips),
    'label': 'not VGGish',
  }
  tagger.save(tagger.FILE, params, CLASSES, KINDS, accuracy, majority, training)
  results = {'accuracy': accuracy, 'majority': majority} | training
  (HERE / 'results.json').write_text(json.dumps(results, indent=1) + '\n')
  print(json.dumps(results, indent=1))


if __name__ == '__main__':
  main()
