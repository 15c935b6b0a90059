"""Workdirs of all trainings -> a bundle of networks that belong together."""

import os
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from musiclm_jax.cascade import bundle, networks, provenance, tokenizer
from musiclm_jax.cascade.bundle import Bundle
from musiclm_jax.cascade.networks import Network
from musiclm_jax.cascade.sampling import SamplingConfig
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.tensor_file import DTYPES, DType
from musiclm_jax.contracts.token_contract import TokenContract
from musiclm_jax.data.token_store import TokenStore

MAX_RECORDS = 64
_BATCH_SIZE = 16


def bundle_workdirs(
  workdirs: str | os.PathLike,
  out: str | os.PathLike,
  *,
  tokens: str | os.PathLike | None = None,
  mulan_levels: int | None = None,
  sampling: Mapping[str, Any] | None = None,
  dtype: DType | None = None,
  overwrite: bool = False,
  report: Callable[[str], None] | None = None,
) -> Bundle:
  """Checks that the networks of workdirs belong together and bundles them.

  Args:
    workdirs: Folder of the workdirs, or of exports.
    out: Folder of the bundle; see `bundle.check_out`.
    tokens: Folder of a token store, on whose validation split the number of
      MuLan levels is chosen where it is not given.
    mulan_levels: MuLan levels of a prompt to use; None: all, or as chosen.
    sampling: Other fields of `SamplingConfig` to propose, such as `guidance`.
    dtype: That weights are rounded to and stored in; see `tensor_file`. None:
      that of the networks that made the tokens, which the language models
      learned.
    overwrite: Whether a bundle with files that were changed is replaced.
    report: Takes a line where no prompt is better than any; see
      `choose_mulan_levels`.

  Raises:
    UsageError: If a network is missing, they do not fit each other or the
      store, or a number is out of bounds.
  """
  loaded = networks.load_all(workdirs, bundle.STAGES)
  # The tokens that the language models learned say which networks made them.
  trained = TokenContract.from_json(
    loaded['semantic'].weights.contract_json or '{}'
  )
  more = set(bundle.stages_of(trained)) - loaded.keys()
  loaded |= networks.load_all(workdirs, tuple(sorted(more)))
  made_in = _made_in(loaded, trained)
  dtype = dtype or made_in or 'float32'
  made = _made(loaded, trained, dtype)
  if made_in not in (None, dtype) and len(made) < len(trained.networks):
    raise UsageError(
      f'--dtype={dtype}: the tokens that the language models learned were made '
      f'by networks in {made_in}, and rounded ones make others: leave --dtype '
      f'out, or run tokenize with --dtype={dtype} and train on its tokens'
    )
  if dtype != 'float32':
    loaded = {
      stage: networks.build(network.weights.rounded(dtype))
      for stage, network in loaded.items()
    }
  contract = tokenizer.load(workdirs, loaded).contract(
    trained.coarse_levels, trained
  )
  levels = contract.streams['mulan'].num_levels
  if mulan_levels is None and tokens:
    store = TokenStore(tokens, 'validation')
    contract.check(store.contract, 'the networks', f'store {tokens}')
    mulan_levels = choose_mulan_levels(loaded['semantic'], store, report)
  settings = SamplingConfig(
    mulan_levels=levels if mulan_levels is None else mulan_levels
  ).changed(sampling or {})
  settings.check_levels(levels)
  return bundle.write(
    out,
    {stage: network.weights for stage, network in loaded.items()},
    contract,
    tokenizer.vocabulary_of(workdirs),
    settings,
    provenance.versions(),
    overwrite,
    dtype,
    tokenizer.caption_words_of(workdirs),
  )


def _made(
  loaded: Mapping[str, Network], trained: TokenContract, dtype: DType
) -> list[str]:
  """The stages that, in `dtype`, are those that made tokens."""
  made = []
  for stage, sha256 in trained.networks.items():
    if stage in loaded:
      rounded = loaded[stage].weights.rounded(dtype)
      if sha256 in (rounded.codes_sha256(), rounded.sha256()):
        made.append(stage)
  return made


def _made_in(
  loaded: Mapping[str, Network], trained: TokenContract
) -> DType | None:
  """The smallest type in which most networks made tokens; None if none did."""
  made = {kind: len(_made(loaded, trained, kind)) for kind in DTYPES[::-1]}
  best = max(made, key=made.__getitem__)
  return best if made[best] else None


def choose_mulan_levels(
  semantic: Network,
  store: TokenStore,
  report: Callable[[str], None] | None = None,
) -> int:
  """Picks the n that makes held-out music likeliest given its captions.

  Text and audio codes agree on the first levels only; those beyond
  them mislead. Where any of them mislead, n is 0: prompts are not used then,
  and a line says so.

  Args:
    semantic: The semantic stage.
    store: A held-out split, whose records hold text tokens.
    report: Takes that line.

  Raises:
    UsageError: If no record has captions.
  """
  layout = semantic.model.layout
  frames = layout.predicted.num_frames
  # Spread over the split, as neighbours are of one piece.
  picked = np.linspace(0, len(store) - 1, min(len(store), MAX_RECORDS))
  records = [store.record(int(i)) for i in picked]
  records = [r for r in records if r.mulan_text is not None]
  if not records:
    raise UsageError(
      'the validation split of this token store has no captions: leave out '
      '--tokens, or give --mulan_levels'
    )
  text = np.stack([r.mulan_text[0] for r in records])
  music = {'semantic': np.stack([r.semantic[:frames] for r in records])}
  if melody := layout.melody:
    music['melody'] = np.stack([r.melody[: melody.num_frames] for r in records])
  nll = jax.jit(semantic.model.nll)

  def mean(levels: int) -> float:
    sums = [
      nll(
        semantic.params,
        semantic.collections,
        {
          name: rows[k : k + _BATCH_SIZE]
          for name, rows in ({'mulan': text} | music).items()
        },
        jnp.int32(levels),
      ).sum()
      for k in range(0, len(records), _BATCH_SIZE)
    ]
    return float(sum(sums)) / music['semantic'].size

  costs = [mean(levels) for levels in range(layout.mulan.num_levels + 1)]
  chosen = int(np.argmin(costs))
  if chosen == 0 and report is not None:
    best = 1 + int(np.argmin(costs[1:]))
    report(
      'PROMPTS ARE NOT USED: held-out music costs '
      f'{costs[best]:.4f} nats a token given its caption ({best} MuLan levels, '
      f'the best number) and {costs[0]:.4f} given none, so that no level is '
      'used; train mulan longer or on larger batches, or insist by '
      '--mulan_levels'
    )
  return chosen
