"""Smaller language models that guess what those of a bundle draw."""

import os
from collections.abc import Mapping
from pathlib import Path

from musiclm_jax.cascade import networks
from musiclm_jax.cascade.networks import Network
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.token_contract import TokenContract
from musiclm_jax.stages import LANGUAGE_MODELS
from musiclm_jax.token_lm.sampler import Draft


def read(
  folder: str | os.PathLike,
  cascade: Mapping[str, Network],
  contract: TokenContract,
) -> dict[str, Draft]:
  """Reads the drafts of a folder, of any of the language models.

  One is trained as the model that it guesses for, on the same tokens and with
  the same config but for a smaller `model`.

  Args:
    folder: Workdirs or exports of trainings, `FOLDER/coarse`, ….
    cascade: Stage -> the network that it guesses for.
    contract: Of the tokens.

  Returns:
    Stage -> draft.

  Raises:
    UsageError: If there is none, or one is of other tokens or other crops.
  """
  found = {}
  for stage in LANGUAGE_MODELS:
    path = Path(folder) / stage
    if not networks.is_there(path):
      continue
    network = networks.load_beside(path, stage, contract, 'draft')
    if network.model.layout != cascade[stage].model.layout:
      raise UsageError(
        f"the draft '{path}' has sequences other than the bundle's {stage} "
        'model: train it with the config of that one but for a smaller model'
      )
    found[stage] = Draft(network.model, network.weights.params)
  if not found:
    raise UsageError(
      f"'{folder}' has no workdir of {', '.join(LANGUAGE_MODELS)}: name the "
      'folder that holds those of the drafts'
    )
  return found
