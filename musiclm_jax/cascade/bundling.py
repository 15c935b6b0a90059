"""Workdirs of all trainings -> a bundle of networks that belong together."""

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from musiclm_jax.cascade import (
  bundle,
  held_out_nll,
  networks,
  provenance,
  tokenizer,
)
from musiclm_jax.cascade.bundle import Bundle
from musiclm_jax.cascade.networks import Network
from musiclm_jax.cascade.sampling import SamplingConfig
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.tensor_file import DTYPES, DType
from musiclm_jax.contracts.token_contract import TokenContract
from musiclm_jax.data.token_store import TokenStore

MAX_RECORDS = 256  # of fewer, levels that tell nothing are chosen by chance


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
  dtype = _choose_dtype(loaded, trained, dtype)
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


def _choose_dtype(
  loaded: Mapping[str, Network], trained: TokenContract, dtype: DType | None
) -> DType:
  """The smallest type in which most networks made tokens, or `dtype`.

  Raises:
    UsageError: If `dtype` is given, and is not that of all of them.
  """
  made = {kind: _made(loaded, trained, kind) for kind in DTYPES[::-1]}
  best = max(made, key=lambda kind: len(made[kind]))
  if not made[best]:
    return dtype or 'float32'
  if dtype not in (None, best) and len(made[dtype]) < len(trained.networks):
    raise UsageError(
      f'--dtype={dtype}: the tokens that the language models learned were made '
      f'by networks in {best}, and rounded ones make others: leave --dtype '
      f'out, or run tokenize with --dtype={dtype} and train on its tokens'
    )
  return dtype or best


def _made(
  loaded: Mapping[str, Network], trained: TokenContract, dtype: DType
) -> list[str]:
  """The stages that, in `dtype`, are those that made tokens."""
  made = []
  for stage, sha256 in trained.networks.items():
    if stage in loaded:
      rounded = loaded[stage].weights.rounded(dtype)
      if sha256 == rounded.codes_sha256() or sha256 == rounded.sha256():
        made.append(stage)
  return made


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
  records = held_out_nll.captioned_records(store, MAX_RECORDS)
  if not records:
    raise UsageError(
      'the validation split of this token store has no captions: leave out '
      '--tokens, or give --mulan_levels'
    )
  text = np.stack([record.mulan_text[0] for record in records])
  nll = held_out_nll.open_nll(semantic, records)
  most = semantic.model.layout.mulan.num_levels
  costs = [nll(text, levels) for levels in range(most + 1)]
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
