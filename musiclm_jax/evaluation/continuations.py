"""Does the semantic model go on as its training music did (MusicLM §4.4).

clips -> MuLan and semantic tokens; the first T of them, T = 0, 50, 125, 250,
are continued greedily by 125, 5 s, and compared with what followed: equal, or
cheap to turn into it. Music that was not trained on is continued likewise: what
matches there is no memory, and its mismatched pairs set the threshold.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from musiclm_jax.cascade.conditioning import Conditioning
from musiclm_jax.cascade.musiclm import MusicLM
from musiclm_jax.contracts.audio import SAMPLE_RATE
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.progress import Meter
from musiclm_jax.contracts.terminal import printable
from musiclm_jax.evaluation import copies
from musiclm_jax.evaluation import prompts as captions
from musiclm_jax.evaluation.clips import ClipFolder
from musiclm_jax.evaluation.inputs import EvaluationInputs
from musiclm_jax.evaluation.results import Results
from musiclm_jax.metrics import bootstrap, memorization

PROMPT_TOKENS = (0, 50, 125, 250)
LENGTH = 125  # tokens that are continued, 5 s
FRAME_RATE = 25.0
ENOUGH_PROMPTS = 500
NEGATIVES = 600  # mismatched pairs; a bound of 1 % needs 300
_BATCH = 8  # clips that are tokenized together

# MuLan tokens [B, 12], prompts [B, T] and a length L -> what follows, [B, L].
Continue = Callable[[np.ndarray, np.ndarray, int], np.ndarray]


@dataclasses.dataclass(frozen=True)
class TrainingPrompts:
  """Token streams that begin with a prompt.

  Attributes:
    mulan: MuLan tokens of each clip, [N, 12].
    semantic: Streams [T_i] of N clips.
    pieces: What each is of; streams of one piece are no mismatched pair.
    kinds: Style and tempo of each, as its caption states them; empty where
      nothing is known.
  """

  mulan: np.ndarray
  semantic: Sequence[np.ndarray]
  pieces: Sequence[str]
  kinds: Sequence[str]

  def longer_than(self, tokens: int) -> 'TrainingPrompts':
    """Those of so many tokens or more."""
    rows = [k for k, s in enumerate(self.semantic) if len(s) >= tokens]
    return TrainingPrompts(
      self.mulan[rows],
      [self.semantic[k] for k in rows],
      [self.pieces[k] for k in rows],
      [self.kinds[k] for k in rows],
    )


@dataclasses.dataclass(frozen=True)
class Continued:
  """What became of prompts of one length.

  Attributes:
    exact: Whether each continuation equals the true one, bool [N].
    costs: Of turning one into the other, [N].
    entropies: Of the continuations, in bits [N].
    pieces: Of each.
    negatives: Costs of mismatched pairs, [M].
  """

  exact: np.ndarray
  costs: np.ndarray
  entropies: np.ndarray
  pieces: Sequence[str]
  negatives: np.ndarray


def continue_prompts(
  prompts: TrainingPrompts,
  num_tokens: int,
  continue_with: Continue,
  centroids: np.ndarray,
  *,
  seed: int = 0,
  mismatched: int = 0,
) -> Continued:
  """Continues prompts of one length and compares with what followed.

  Args:
    prompts: Each of `num_tokens + LENGTH` tokens or more.
    num_tokens: T.
    continue_with: The language model.
    centroids: Of the semantic tokens, [K, D].
    seed: Of the mismatched pairs.
    mismatched: Pairs of a continuation with what followed in another piece, of
      the same kind where there is one.
  """
  streams = np.stack([s[: num_tokens + LENGTH] for s in prompts.semantic])
  given, true = streams[:, :num_tokens], streams[:, num_tokens:]
  made = np.asarray(continue_with(prompts.mulan, given, LENGTH))
  pairs = _mismatched(prompts, mismatched, seed)
  negatives = np.zeros(0)
  if len(pairs):
    negatives = memorization.transport_costs(
      made[pairs[:, 0]], true[pairs[:, 1]], centroids
    )
  return Continued(
    exact=(made == true).all(axis=1),
    costs=memorization.transport_costs(made, true, centroids),
    entropies=memorization.entropies(made),
    pieces=prompts.pieces,
    negatives=negatives,
  )


def _mismatched(prompts: TrainingPrompts, count: int, seed: int) -> np.ndarray:
  """Pairs of streams of two pieces, of one kind where possible, [M, 2]."""
  rng = np.random.default_rng([seed, count])
  rows = np.arange(len(prompts.pieces))
  pieces, kinds = np.array(prompts.pieces), np.array(prompts.kinds)
  each = math.ceil(count / max(len(rows), 1))
  pairs = []
  for row in rows:
    others = rows[pieces != pieces[row]]
    alike = others[kinds[others] == kinds[row]]
    chosen = alike if len(alike) else others
    drawn = rng.permutation(chosen)[:each]
    pairs += [(row, other) for other in drawn]
  return np.array(pairs, int).reshape(-1, 2)[:count]


def add_continuation(
  inputs: EvaluationInputs,
  results: Results,
  continue_with: Continue | None = None,
) -> None:
  """Shares of training prompts that are continued as in training.

  Args:
    inputs: With a bundle, training clips, and references that were not trained
      on.
    results: Takes the figures.
    continue_with: In the place of the bundle's semantic model.

  Raises:
    UsageError: If one of these is missing, or no clip has 5 s.
  """
  if inputs.model is None:
    raise UsageError(
      'continuation needs the semantic model of a bundle: give --bundle=DIR'
    )
  if inputs.training is None:
    raise UsageError(
      'continuation begins with what was trained on: give --training=DIR, a '
      'folder of sound files'
    )
  folders = {
    'training': inputs.training,
    'reference': inputs.reference_folder('continuation'),
  }
  sides = {side: _tokens(inputs, f, side) for side, f in folders.items()}
  networks = inputs.model.networks
  centroids = np.asarray(networks['kmeans'].collections['kmeans']['centroids'])
  read = networks['semantic'].model.layout.predicted.num_frames
  facts = {
    'sha256': networks['semantic'].sha256,
    'windowing': 'from the start of each clip, 15 s at most',
    'decoding': 'greedy',
    'span_tokens': LENGTH,
    'seed': inputs.seed,
  }
  model = continue_with or greedy(inputs.model, inputs.batch_size)
  meter = Meter(
    'continuations', 2 * len(PROMPT_TOKENS), 'sets', inputs.progress
  )
  for tokens in PROMPT_TOKENS:
    found = {}
    for side, prompts in sides.items():
      chosen = prompts.longer_than(tokens + LENGTH)
      if chosen.pieces:
        found[side] = continue_prompts(
          chosen,
          tokens,
          model,
          centroids,
          seed=inputs.seed,
          mismatched=NEGATIVES if side == 'reference' else 0,
        )
      meter.advance()
    remarks = []
    if read < tokens + LENGTH:
      remarks.append(
        f'the semantic model reads {read} tokens at once: longer prompts are '
        'continued window by window, by their last tokens'
      )
    _add_of(results, tokens, found, remarks, facts)


def _add_of(
  results: Results,
  tokens: int,
  found: Mapping[str, Continued],
  remarks: list[str],
  facts: Mapping,
) -> None:
  """Figures of one length of prompts."""
  keys = [f'continuation_{kind}_t{tokens}' for kind in ('exact', 'approximate')]
  if len(found) < 2 or not len(found['reference'].negatives):
    seconds = (tokens + LENGTH) / FRAME_RATE
    why = f'needs clips of {seconds:g} s on both sides, of two references'
    for key in keys:
      results.add(key, None, remarks=[why], **facts)
    return
  ours, null = found['training'], found['reference']
  n = {'training': len(ours.costs), 'reference': len(null.costs)}
  if n['training'] < ENOUGH_PROMPTS:
    remarks.append(f'{n["training"]} prompts; {ENOUGH_PROMPTS} are advised')
  exact, _ = bootstrap.unit_means(ours.exact, ours.pieces)
  bounds = bootstrap.mean(exact, seed=facts['seed'])
  results.add(
    keys[0],
    bounds.value,
    interval=bounds,
    remarks=remarks,
    null=float(null.exact.mean()),
    n=n,
    **facts,
  )
  threshold = memorization.bounded_threshold(
    null.negatives, copies.FALSE_MATCHES
  )
  few = len(null.negatives)
  remarks = [*remarks, *copies.few_negatives(few, 'pairs of references')]
  matches = ours.costs < threshold
  near, names = bootstrap.unit_means(matches, ours.pieces)
  bounds = bootstrap.mean(near, seed=facts['seed'])
  results.add(
    keys[1],
    bounds.value,
    interval=bounds,
    remarks=remarks,
    null=float((null.costs < threshold).mean()),
    threshold=threshold,
    false_matches=float((null.negatives < threshold).mean()),
    entropy_bits=float(ours.entropies.mean()),
    entropy_bits_of_matches=(
      float(ours.entropies[matches].mean()) if matches.any() else None
    ),
    n={**n, 'mismatched': few},
    per_song=dict(zip(names, near.tolist(), strict=True)),
    **facts,
  )


def greedy(model: MusicLM, batch_size: int) -> Continue:
  """The semantic model of a bundle, which takes the likeliest token each time.

  A stretch that is longer than its crop is made window by window, each of which
  begins with the last half of a crop.

  Args:
    model: The bundle.
    batch_size: Rows of one call.
  """
  network = model.networks['semantic']
  layout = network.model.layout
  crop = layout.predicted.num_frames
  generate = jax.jit(network.model.generate, static_argnames=('num_frames',))

  def continue_rows(
    mulan: np.ndarray, known: np.ndarray, length: int
  ) -> np.ndarray:
    given = Conditioning(mulan).at(0.0, layout)
    keys = jax.random.split(jax.random.key(0), len(mulan))
    wanted = known.shape[1] + length
    while known.shape[1] < wanted:
      left = wanted - known.shape[1]
      # All that fits beside what is wanted, but half of the crop at least.
      prefix = min(known.shape[1], max(crop - left, crop // 2))
      made = generate(
        network.params,
        given,
        num_frames=min(prefix + left, crop),
        keys=keys,
        temperature=jnp.float32(0.0),
        prefix=jnp.asarray(
          known[:, known.shape[1] - prefix :, None], jnp.int32
        ),
      )
      new = np.asarray(made)[:, prefix:, 0]
      known = np.concatenate([known, new], axis=1)
    return known[:, wanted - length :]

  def continue_all(
    mulan: np.ndarray, prompts: np.ndarray, length: int
  ) -> np.ndarray:
    size = min(batch_size, len(mulan))
    parts = []
    for start in range(0, len(mulan), size):
      rows = np.arange(start, start + size) % len(mulan)  # of one shape
      parts.append(continue_rows(mulan[rows], prompts[rows], length))
    return np.concatenate(parts)[: len(mulan)]

  return continue_all


def _tokens(
  inputs: EvaluationInputs, folder: ClipFolder, side: str
) -> TrainingPrompts:
  """Tokenizes clips, as the language models learned from them.

  Raises:
    UsageError: If no clip has 5 s.
  """
  rng = np.random.default_rng([inputs.seed, len(folder)])
  chosen = sorted(rng.permutation(len(folder))[:ENOUGH_PROMPTS].tolist())
  each = math.ceil(ENOUGH_PROMPTS / len(chosen))
  mulan, semantic, pieces = [], [], []
  for tokens, names in _encoded(inputs, folder, side, chosen, each):
    mulan += list(tokens['mulan'])
    semantic += list(tokens['semantic'])
    pieces += names
  if not pieces:
    raise UsageError(
      f"continuation: no clip of '{printable(folder.path)}' has "
      f'{LENGTH / FRAME_RATE:g} s: give longer ones'
    )
  kinds = {folder.names[index]: _kind(folder, index) for index in chosen}
  return TrainingPrompts(
    np.stack(mulan), semantic, pieces, [kinds[p] for p in pieces]
  )


def _kind(folder: ClipFolder, index: int) -> str:
  """Style and tempo, as far as the caption of a clip states them."""
  told = captions.stated(captions.prompt_of(folder, index) or '')
  return ' '.join(told.get(head, '') for head in ('style', 'tempo')).strip()


def _encoded(
  inputs: EvaluationInputs,
  folder: ClipFolder,
  side: str,
  chosen: Sequence[int],
  each: int,
) -> Iterator[tuple[Mapping[str, np.ndarray], list[str]]]:
  """Tokens of windows, as long as the longest prompt that a clip allows."""
  lengths = [
    round((tokens + LENGTH) / FRAME_RATE * SAMPLE_RATE)
    for tokens in PROMPT_TOKENS
  ]
  waiting: dict[int, list[tuple[np.ndarray, str]]] = {n: [] for n in lengths}

  def encode(rows: list[tuple[np.ndarray, str]]):
    # One shape, one program: what is missing repeats the last.
    filled = [w for w, _ in rows] + [rows[-1][0]] * (_BATCH - len(rows))
    tokens = inputs.model.tokenizer.encode(np.stack(filled))
    names = [name for _, name in rows]
    return {k: np.asarray(v)[: len(rows)] for k, v in tokens.items()}, names

  read = folder.clips(SAMPLE_RATE, f'tokens, {side}', inputs.progress, chosen)
  for clip in read:
    fitting = [n for n in lengths if n <= len(clip.waveform)]
    if not fitting:
      continue
    length = fitting[-1]
    for k in range(min(each, len(clip.waveform) // length)):
      row = clip.waveform[k * length : (k + 1) * length]
      waiting[length].append((row, clip.name))
      if len(waiting[length]) == _BATCH:
        yield encode(waiting[length])
        waiting[length] = []
  for rows in waiting.values():
    if rows:
      yield encode(rows)
