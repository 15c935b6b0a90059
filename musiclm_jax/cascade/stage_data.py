"""What each stage learns from: sources or tokens -> batches of its task.

soundstream, w2v_bert   waveform [B, S]
mulan                   waveform [B, S], text_ids [B, C, L], group [B]
kmeans                  features [B, T, D] of the frozen w2v-BERT
mulan_rvq               audio [B, 128], text [B, 128] of the frozen MuLan
melody                  waveform [B, 2, S], group [B], composed on the fly
melody_rvq              audio [B * windows, 192] of the frozen melody network
semantic, coarse, fine  mulan [B, 12], semantic [B, T], acoustic [B, T, Q],
                        melody [B, N, Q] where the layout has it
parallel                mulan, semantic, acoustic, as coarse
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from musiclm_jax.cascade import mulan_texts, networks
from musiclm_jax.cascade.networks import Network
from musiclm_jax.contracts import atomic_file
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.terminal import printable
from musiclm_jax.contracts.token_contract import TokenContract
from musiclm_jax.data import batches, caption_words, sources
from musiclm_jax.data.batches import MelodyBook, melody_batches
from musiclm_jax.data.captions_file import NAME as CAPTIONS
from musiclm_jax.data.loading import FROM_CORES, HostShard, Readers
from musiclm_jax.data.token_store import TokenStore
from musiclm_jax.rendered_music import melody_takes
from musiclm_jax.stages import OPTIONAL, STAGES, Batches
from musiclm_jax.training import workdir
from musiclm_jax.training.loop import Data

if TYPE_CHECKING:  # a training is not that of other networks' code
  from musiclm_jax.data.text import WordPiece
  from musiclm_jax.melody.embedder import MelodyEmbedder
  from musiclm_jax.mulan.embedder import MulanEmbedder
  from musiclm_jax.w2v_bert.features import SemanticFeatures

VOCABULARY = 'vocab.txt'
TEXTS = (VOCABULARY, caption_words.NAME)  # in MuLan's workdir
_CAPTIONS_A_PIECE = 4
_MOST_DESCRIBED = 5_000  # pieces whose captions are drawn to count their words


@dataclasses.dataclass(frozen=True)
class Inputs:
  """What a training is given.

  Attributes:
    options: Arguments of the stage's batches, with `eval_batches`, and with
      `source` (`kind:DIR`) where it reads a corpus.
    seed: Of the order and the crops of training batches.
    workdir: Of this training; MuLan's vocabulary is kept there.
    tokens: Folder of a token store, for token LMs.
    layout: Of the token LM.
    network: Workdir or bundle of the network that is fitted.
    init_from: Workdir or bundle that the training starts from.
    init_text: Folder of the BERT that MuLan's text tower starts from.
  """

  options: dict[str, Any]
  seed: int
  workdir: Path
  tokens: str | None = None
  layout: Any = None
  network: str | None = None
  init_from: str | None = None
  init_text: str | None = None


def open_data(stage: str, inputs: Inputs) -> Data:
  """Opens the batches of a stage.

  Raises:
    UsageError: If what they are made of is missing or does not fit.
  """
  inputs = dataclasses.replace(inputs, options=dict(inputs.options))
  record = STAGES[stage]
  open_batches = _OPENERS[record.batches]
  if record.fit is None:
    return open_batches(inputs)
  return open_batches(inputs, record.fit.network)


def read_contract(tokens: str, layout: Any) -> TokenContract:
  """Reads a token store's contract and compares an LM's layout with it.

  Args:
    tokens: Folder of the store.
    layout: Of the LM: segments of streams, levels and codebook sizes.

  Raises:
    UsageError: If the folder is no store or lacks a stream; naming the first
      field that differs otherwise.
  """
  store = TokenStore(tokens, 'train')
  contract = store.contract
  for segment in layout.segments:
    if segment.stream not in store.specs:
      remedy = (
        'make the tokens again without --noacoustic'
        if segment.stream == 'acoustic'
        else f'train {" and ".join(OPTIONAL)} and make the tokens again, or '
        f'leave --config.layout.{segment.stream} out'
      )
      raise UsageError(
        f'the token store {tokens} has no {segment.stream} tokens: {remedy}'
      )
    spec = store.specs[segment.stream]
    last = segment.first_level + segment.num_levels
    ours = {
      'codebook_size': segment.codebook_size,
      'frame_rate': segment.frame_rate,
      'window_seconds': segment.window_seconds,
    }
    theirs = {name: getattr(spec, name) for name in ours}
    if segment.stream != 'acoustic' or segment.first_level or segment.whole:
      ours['num_levels'], theirs['num_levels'] = last, spec.num_levels
    if segment.stream == 'acoustic' and not segment.whole:
      ours['coarse_levels'] = segment.first_level or last
      theirs['coarse_levels'] = contract.coarse_levels
    for field, value in ours.items():
      if value != theirs[field]:
        raise UsageError(
          f'{segment.stream} tokens: {field} is {theirs[field]} in the token '
          f'store {tokens} and {value} in the config: change the config or '
          'make the tokens again'
        )
  return contract


def _both_splits(
  draw: Callable[..., Iterator], splits: tuple[Any, Any], inputs: Inputs
) -> Data:
  """Binds `draw(source, *, seed, start_step, shard, readers, **options)`."""
  training, held_out = splits
  options = dict(inputs.options)
  count = options.pop('eval_batches')
  readers = Readers(
    options.pop('read_threads', FROM_CORES),
    options.pop('read_processes', FROM_CORES),
  )
  # Processes would have to be started for each evaluation.
  threads = dataclasses.replace(readers, processes=1)
  shard = HostShard(jax.process_index(), jax.process_count())
  draw = functools.partial(draw, shard=shard, **options)
  return Data(
    train=lambda step: draw(
      training, seed=inputs.seed, start_step=step, readers=readers
    ),
    evaluation=lambda: itertools.islice(
      draw(held_out, seed=0, readers=threads), count
    ),
  )


def _sources(inputs: Inputs) -> tuple[sources.Source, sources.Source]:
  spec = inputs.options.pop('source')
  return tuple(sources.open_source(spec, s) for s in ('train', 'validation'))


def _captioned_sources(
  inputs: Inputs,
) -> tuple[sources.Source, sources.Source]:
  """Opens what captions are learned from, and counts them.

  Raises:
    UsageError: If a split that is needed has too few: two pieces to be each
      other's negatives in training, one to evaluate on.
  """
  spec = inputs.options['source']
  splits = training, held_out = _sources(inputs)
  evaluates = inputs.options['eval_batches'] > 0
  if len(training.captioned()) < 2 or (evaluates and not held_out.captioned()):
    counts = ', '.join(
      f'{name}: {len(source.captioned())} of {len(source)}'
      for name, source in zip(('train', 'validation'), splits, strict=True)
    )
    raise UsageError(
      f"too few pieces of '{spec}' have a caption ({counts}): training needs "
      '2, evaluation 1 in validation, such as '
      f"'{printable(held_out.piece_id(0))}'; add rows to {CAPTIONS} of an "
      'audio_folder, or train with --config.data.eval_batches=0'
    )
  return splits


def _audio(inputs: Inputs) -> Data:
  return _both_splits(batches.audio_batches, _sources(inputs), inputs)


def _features(inputs: Inputs, stage: str) -> Data:
  """Features of the frozen w2v-BERT."""
  network: Network[SemanticFeatures] = networks.load(inputs.network, stage)
  return _of_crops('features', network.model.features, inputs, network)


def _window_embeddings(inputs: Inputs, stage: str) -> Data:
  """Embeddings of all windows of all crops, one a row."""
  network: Network[MelodyEmbedder] = networks.load(inputs.network, stage)
  melody = network.model

  def rows(*arguments: Any) -> jax.Array:
    return melody.embed_audio(*arguments).reshape(-1, melody.embed_dim)

  return _of_crops('audio', rows, inputs, network)


def _of_crops(
  name: str,
  method: Callable[..., jax.Array],
  inputs: Inputs,
  network: Network,
) -> Data:
  """What `method` of a frozen network makes of crops, as `name`."""
  apply = jax.jit(method)

  def draw(source: sources.Source, **options: Any) -> Iterator[dict]:
    for batch in batches.audio_batches(source, **options):
      found = apply(network.params, network.collections, batch['waveform'])
      yield {name: jax.device_get(found)}

  return _both_splits(draw, _sources(inputs), inputs)


def _captioned(inputs: Inputs) -> Data:
  """Audio and captions.

  A first run learns the vocabulary of the captions, or copies that of the
  weights it starts from; it stays as soon as a checkpoint depends on it. So do
  the words of the captions, with which prompts are compared.
  """
  from musiclm_jax.data.text import WordPiece

  splits = _captioned_sources(inputs)
  size = inputs.options.pop('vocabulary_size')
  path = inputs.workdir / VOCABULARY
  given = inputs.init_text or inputs.init_from
  kept = path.exists() and workdir.has_checkpoint(inputs.workdir)
  if not kept and jax.process_index() == 0:
    if given:
      tokenizer = _vocabulary(given)
    else:
      tokenizer = WordPiece.train(_captions(splits[0]), size)
    tokenizer.save(path)
    _keep_caption_words(inputs, splits[0])
  if jax.process_count() > 1:
    from jax.experimental import multihost_utils

    multihost_utils.sync_global_devices('vocabulary')
  tokenizer = WordPiece.load(path)
  if inputs.init_text and (
    tokenizer.pieces != _vocabulary(inputs.init_text).pieces
  ):
    raise UsageError(
      f"'{path}' is another vocabulary than that of --init_text="
      f'{inputs.init_text}, from an earlier run: choose another --workdir, or '
      'continue that run without --init_text'
    )
  inputs.options['tokenizer'] = tokenizer
  return _both_splits(batches.text_audio_batches, splits, inputs)


def _embeddings(inputs: Inputs, stage: str) -> Data:
  """Embeddings of audio and of its caption by the frozen MuLan."""
  splits = _captioned_sources(inputs)
  network: Network[MulanEmbedder] = networks.load(inputs.network, stage)
  embed_audio = jax.jit(network.model.embed_audio)
  embed_text = jax.jit(network.model.embed_text)
  frozen = network.params, network.collections

  def draw(source: sources.Source, **options: Any) -> Iterator[dict]:
    for batch in batches.text_audio_batches(
      source, captions_per_crop=1, **options
    ):
      audio = embed_audio(*frozen, batch['waveform'])
      text = embed_text(*frozen, batch['text_ids'][:, 0])
      yield jax.device_get({'audio': audio, 'text': text})

  inputs.options['tokenizer'] = _vocabulary(inputs.network)
  inputs.options['text_length'] = network.config['data']['text_length']
  return _both_splits(draw, splits, inputs)


def _melodies(inputs: Inputs) -> Data:
  """Melodies on most leads; those on the others are held out, each met once."""
  options = inputs.options
  count, unseen = options.pop('tunes'), tuple(options.pop('unseen_leads'))
  shares = {
    name: options.pop(name)
    for name in ('voice_share', 'band_share', 'tempo_change', 'same_key')
  }
  seen = tuple(lead for lead in melody_takes.LEADS if lead not in unseen)
  if not (seen and unseen and set(unseen) <= set(melody_takes.LEADS)):
    raise UsageError(
      f'--config.data.unseen_leads={unseen}: name some of '
      f'{", ".join(melody_takes.LEADS)}, and leave others'
    )
  # At least one batch, which is not drawn where none is wanted.
  held_out = max(options['eval_batches'], 1) * options['batch_size']
  books = (
    MelodyBook('train', count, melody_takes.Variety(leads=seen, **shares)),
    MelodyBook(
      'validation', held_out, melody_takes.Variety(leads=unseen, **shares)
    ),
  )
  return _both_splits(melody_batches, books, inputs)


def _tokens(inputs: Inputs) -> Data:
  splits = tuple(TokenStore(inputs.tokens, s) for s in ('train', 'validation'))
  # Crops of all stages begin on semantic frames.
  streams = {'semantic'} | {s.stream for s in inputs.layout.segments}
  inputs.options['streams'] = sorted(streams - {'mulan'})
  return _both_splits(batches.token_batches, splits, inputs)


_OPENERS: dict[Batches, Callable[..., Data]] = {
  'waveforms': _audio,
  'captioned waveforms': _captioned,
  'melodies': _melodies,
  'features': _features,
  'embeddings of pairs': _embeddings,
  'embeddings of windows': _window_embeddings,
  'tokens': _tokens,
}


def _keep_caption_words(inputs: Inputs, source: sources.Source) -> None:
  """Leaves in the workdir what words MuLan's captions hold.

  Those that given weights have learned from are among them; where these are
  not known, nothing is left, as words that are known would seem unknown.
  """
  path = inputs.workdir / caption_words.NAME
  words = caption_words.CaptionWords.of(
    _training_captions(source, inputs.options['crop_seconds'])
  )
  if inputs.init_from:
    before = mulan_texts.read(inputs.init_from, caption_words.NAME)
    if before is None:
      path.unlink(missing_ok=True)
      return
    words = words.plus(caption_words.CaptionWords.parse(before))
  atomic_file.write_text(path, words.to_text())


def _training_captions(
  source: sources.Source, crop_seconds: float
) -> Iterator[str]:
  """All captions that were written, and some of each piece without any.

  Of very many such pieces, which are described as they are drawn, those that
  are taken are spread over all of them.
  """
  described = []
  for i in source.captioned():
    if written := source.written_captions(i):
      yield from written
    else:
      described.append(i)
  step = max(1, math.ceil(len(described) / _MOST_DESCRIBED))
  for i in described[::step]:
    rng = np.random.default_rng(i)
    seconds = source.num_samples(i) / source.sample_rate
    for _ in range(_CAPTIONS_A_PIECE):
      start = rng.uniform(0.0, max(seconds - crop_seconds, 0.0))
      caption, _ = source.describe(i, start, start + crop_seconds, rng)
      if caption:
        yield caption


def _captions(source: sources.Source) -> Iterator[str]:
  """Draws captions of whole pieces."""
  for i in range(len(source)):
    rng = np.random.default_rng(i)
    seconds = source.num_samples(i) / source.sample_rate
    for _ in range(_CAPTIONS_A_PIECE):
      caption, _ = source.describe(i, 0.0, seconds, rng)
      if caption:
        yield caption


def _vocabulary(path: str) -> 'WordPiece':
  """Reads the word pieces of MuLan's workdir or export, or of a bundle."""
  from musiclm_jax.data.text import WordPiece

  text = mulan_texts.read(path, VOCABULARY)
  if text is None:
    return WordPiece.load(Path(path) / VOCABULARY)  # says that it is missing
  return WordPiece.parse(text)
