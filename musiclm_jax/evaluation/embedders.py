"""Embedders: waveform [S] -> embeddings [N, D], one of each window.

A figure belongs to its embedder: name, hash of the weights and windowing are
part of it, and figures of two embedders are never compared.
"""

import collections
import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from musiclm_jax.cascade.musiclm import MusicLM
from musiclm_jax.cascade.networks import Network
from musiclm_jax.contracts.audio import SAMPLE_RATE
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.dsp import panns_mel, vggish_mel
from musiclm_jax.evaluation import panns as panns_network
from musiclm_jax.evaluation import tagger as tagger_network
from musiclm_jax.evaluation import vggish as vggish_network
from musiclm_jax.nn.precision import exact

BATCH_SIZE = 32
_LEAST_PEAK = 0.1  # of a clip that is scaled to its peak


@dataclasses.dataclass(frozen=True)
class Windowing:
  """How a clip becomes windows.

  Attributes:
    name: As published tools are told apart by it.
    window_seconds: Of a window; a clip that is shorter has none, or is filled.
    hop_seconds: From window to window.
    peak_normalize: Whether a clip is divided by its largest sample, 0.1 at
      least.
    filled: Whether a shorter clip is filled with silence to be a window.
  """

  name: str
  window_seconds: float
  hop_seconds: float
  peak_normalize: bool = False
  filled: bool = False

  def samples(self, sample_rate: int) -> int:
    """Samples of a window."""
    return round(self.window_seconds * sample_rate)

  def cut(self, waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    """Cuts float32 [S] into windows [N, W], N = 0 of a shorter clip."""
    window = self.samples(sample_rate)
    hop = round(self.hop_seconds * sample_rate)
    if self.filled and 0 < len(waveform) < window:
      waveform = np.pad(waveform, (0, window - len(waveform)))
    if len(waveform) < window:
      return np.zeros((0, window), np.float32)
    if self.peak_normalize:
      waveform = waveform / max(_LEAST_PEAK, float(waveform.max()))
    return np.lib.stride_tricks.sliding_window_view(waveform, window)[::hop]


WINDOWINGS = {
  # 96 frames of 10 ms; the last one reaches 15 ms into the next example.
  'vggish': Windowing(
    'vggish: 0.96 s every 0.96 s',
    vggish_mel.EXAMPLE_SAMPLES / vggish_mel.SAMPLE_RATE,
    0.96,
  ),
  'fad_tool': Windowing(
    'fad_tool: 1.0 s every 0.5 s, scaled to its peak', 1.0, 0.5, True
  ),
}


@dataclasses.dataclass(frozen=True)
class Embedder:
  """A network over the windows of clips.

  Attributes:
    name: In keys of results.
    sha256: Of what its embeddings depend on.
    sample_rate: Of the waveforms that it takes, in Hz.
    windowing: How clips become windows.
    dimension: Width of an embedding, D.
    inputs: Windows [N, W] -> what the network takes, [N, ...].
    apply: A batch [B, ...] of it -> [B, D]; compiled once.
    batch_size: B.
    label: What a reader must know of it; else empty.
  """

  name: str
  sha256: str
  sample_rate: int
  windowing: Windowing
  dimension: int
  inputs: Callable[[np.ndarray], np.ndarray]
  apply: Callable[[np.ndarray], jax.Array]
  batch_size: int = BATCH_SIZE
  label: str = ''

  def embed(self, waveform: np.ndarray) -> np.ndarray:
    """Embeds a clip.

    Args:
      waveform: float32 [S] in [-1, 1] at `sample_rate`.

    Returns:
      float32 [N, D], no row of a clip that is shorter than a window.
    """
    return next(self.embed_all([waveform]))

  def embed_all(self, waveforms: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Embeds clips, the windows of several in one batch.

    Yields:
      float32 [N, D] of each clip, in their order.
    """
    waiting: collections.deque[tuple[int, list]] = collections.deque()
    rows: list[np.ndarray] = []  # of the network's input, not embedded yet

    def finished() -> Iterator[np.ndarray]:
      while waiting and len(waiting[0][1]) == waiting[0][0]:
        found = waiting.popleft()[1]
        yield np.array(found, np.float32).reshape(len(found), self.dimension)

    def take(count: int) -> None:
      batch = np.stack(rows[:count])
      del rows[:count]
      missing = self.batch_size - count
      if missing:
        batch = np.concatenate([batch, np.repeat(batch[:1], missing, axis=0)])
      embedded = np.asarray(self.apply(batch))[:count]
      for wanted, found in waiting:
        lacking = wanted - len(found)
        found.extend(embedded[:lacking])
        embedded = embedded[lacking:]

    for waveform in waveforms:
      windows = self.windowing.cut(waveform, self.sample_rate)
      waiting.append((len(windows), []))
      for start in range(0, len(windows), self.batch_size):
        rows.extend(self.inputs(windows[start : start + self.batch_size]))
        while len(rows) >= self.batch_size:
          take(self.batch_size)
      yield from finished()
    while rows:
      take(min(len(rows), self.batch_size))
    yield from finished()


def examples(windows: np.ndarray) -> np.ndarray:
  """Log-mels of windows [N, W] at 16 kHz, the first 96 frames, [N, 96, 64]."""
  frames = [
    vggish_mel.log_mel(window)[: vggish_mel.EXAMPLE_FRAMES]
    for window in windows
  ]
  return np.array(frames, np.float32).reshape(
    len(windows), vggish_mel.EXAMPLE_FRAMES, vggish_mel.NUM_MELS
  )


def open_tagger(windowing: Windowing, batch_size: int = BATCH_SIZE) -> Embedder:
  """The embedder that comes with the package."""
  trained = tagger_network.load()
  apply = jax.jit(exact(trained.network.apply))
  variables = {'params': trained.params}
  return Embedder(
    name=tagger_network.NAME,
    sha256=trained.sha256,
    sample_rate=vggish_mel.SAMPLE_RATE,
    windowing=windowing,
    dimension=trained.embed_dim,
    inputs=examples,
    apply=lambda batch: apply(variables, batch)[0],
    batch_size=batch_size,
    label='not VGGish: learned from composed music',
  )


def open_vggish(
  path: Path, windowing: Windowing, batch_size: int = BATCH_SIZE
) -> Embedder:
  """VGGish with published weights.

  Raises:
    UsageError: If the file holds none; see `interop.vggish.read`.
  """
  from musiclm_jax.interop import vggish as weights

  params, sha256 = weights.read(path)
  apply = jax.jit(exact(vggish_network.Vggish().apply))
  variables = {'params': jax.tree.map(jnp.asarray, params)}
  return Embedder(
    name='vggish',
    sha256=sha256,
    sample_rate=vggish_mel.SAMPLE_RATE,
    windowing=windowing,
    dimension=vggish_network.EMBED_DIM,
    inputs=examples,
    apply=lambda batch: apply(variables, batch),
    batch_size=batch_size,
  )


def open_panns(
  panns: panns_network.Panns, output: int = 0, batch_size: int = BATCH_SIZE
) -> Embedder:
  """Cnn14 of PANNs over 10 s, as it learned; shorter clips are filled.

  Args:
    panns: With published weights.
    output: Of the network: 0 its embedding, 1 its logits.
    batch_size: Windows of one call.
  """
  width = panns.params['fc_audioset']['kernel'].shape[output]
  seconds = panns_network.SECONDS
  return Embedder(
    name=panns_network.NAME,
    sha256=panns.sha256,
    sample_rate=panns_mel.SAMPLE_RATE,
    windowing=Windowing(
      f'panns: {seconds:g} s without overlap, shorter clips filled',
      seconds,
      seconds,
      filled=True,
    ),
    dimension=width,
    inputs=lambda windows: np.stack([panns_mel.log_mel(w) for w in windows]),
    apply=lambda batch: panns.apply(batch)[output],
    batch_size=min(batch_size, 8),
    label="AudioSet's classes: music that is alike by class may be near",
  )


def open_codec(
  network: Network, windowing: Windowing, batch_size: int = BATCH_SIZE
) -> Embedder:
  """Mean of a codec's latents, before they are quantized, over a window."""
  codec = network.model

  @jax.jit
  @exact
  def apply(params, batch):
    whole = batch.shape[1] - batch.shape[1] % codec.hop_length
    variables = {'params': params['codec']}
    latents, _ = codec.model.apply(variables, batch[:, :whole], method='encode')
    return latents.mean(axis=1)

  return Embedder(
    name='codec',
    sha256=network.sha256,
    sample_rate=SAMPLE_RATE,
    windowing=windowing,
    dimension=int(network.config['model']['latent_dim']),
    inputs=np.ascontiguousarray,
    apply=functools.partial(apply, network.params),
    batch_size=batch_size,
    label="to a cascade's own codec all that it cannot code is alike",
  )


def open_mulan(
  network: Network,
  batch_size: int = BATCH_SIZE,
  hop_seconds: float | None = None,
) -> Embedder:
  """The audio tower of a MuLan, by windows of its own length.

  Args:
    network: The MuLan.
    batch_size: Windows of one call.
    hop_seconds: From window to window; None: without overlap.
  """
  mulan = network.model
  hop = hop_seconds or mulan.window_seconds
  apply = jax.jit(mulan.embed_audio)
  return Embedder(
    name='mulan',
    sha256=network.identity,
    sample_rate=SAMPLE_RATE,
    windowing=Windowing(
      f'mulan: {mulan.window_seconds:g} s every {hop:g} s',
      mulan.window_seconds,
      hop,
    ),
    dimension=mulan.embed_dim,
    inputs=np.ascontiguousarray,
    apply=functools.partial(apply, network.params, network.collections),
    batch_size=min(batch_size, 8),
    label='circular where the music was made to please this MuLan',
  )


def open_all(
  names: Iterable[str],
  *,
  windowing: str,
  batch_size: int,
  model: MusicLM | None = None,
  vggish: Path | None = None,
  panns: panns_network.Panns | None = None,
) -> list[Embedder]:
  """Opens embedders by their names.

  Args:
    names: Of `EMBEDDERS`.
    windowing: One of `WINDOWINGS`; MuLan and PANNs have their own.
    batch_size: Windows of one call.
    model: Has `codec` and `mulan`.
    vggish: File with the weights of `vggish`.
    panns: What `panns` is.

  Raises:
    UsageError: If a name is unknown or its file or bundle is missing.
  """
  opened = []
  for name in names:
    if name not in EMBEDDERS:
      raise UsageError(
        f"--embedders: unknown embedder '{name}': choose of "
        f'{", ".join(EMBEDDERS)}'
      )
    needed = {
      'codec': (model, '--bundle=DIR'),
      'mulan': (model, '--bundle=DIR'),
      'vggish': (vggish, '--vggish=FILE'),
      'panns': (panns, '--panns=FILE'),
    }
    if name in needed and needed[name][0] is None:
      raise UsageError(f"embedder '{name}' needs {needed[name][1]}")
    how = WINDOWINGS[windowing]
    if name == 'tagger':
      opened.append(open_tagger(how, batch_size))
    elif name == 'vggish':
      opened.append(open_vggish(vggish, how, batch_size))
    elif name == 'panns':
      opened.append(open_panns(panns, 0, batch_size))
    elif name == 'codec':
      opened.append(open_codec(model.networks['soundstream'], how, batch_size))
    else:
      opened.append(open_mulan(model.networks['mulan'], batch_size))
  return opened


EMBEDDERS = ('tagger', 'vggish', 'panns', 'codec', 'mulan')
