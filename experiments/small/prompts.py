"""What a prompt is worth to the language models that read it.

    python -m experiments.small.prompts --model=runs/small

Nats a token of held-out music from the semantic and the coarse stage, given n
MuLan levels of its own caption, of another piece's, and of its own audio;
n = 0 is none of them. And what a melody is worth, where one is read.
"""

import dataclasses

import numpy as np
from absl import flags

from musiclm_jax import cli, path_flags
from musiclm_jax.cascade import held_out_nll, networks
from musiclm_jax.data.token_store import TokenRecord, TokenStore

_OTHER = 7  # records on: another piece, as neighbours may be of one
_MODEL = path_flags.DEFINE_path('model', 'runs/small', 'Folder of the model.')
_SEMANTIC = path_flags.DEFINE_path(
  'semantic', None, 'Workdir, or bundle, of another semantic stage.'
)
_CROPS = flags.DEFINE_integer('crops', 192, 'Of the validation split.', 16)


def main() -> None:
  """Prints a table of each stage."""
  store = TokenStore(_MODEL.value / 'tokens', 'validation')
  records = held_out_nll.captioned_records(store, _CROPS.value)
  text = np.stack([record.mulan_text[0] for record in records])
  conditions = {
    'own text': text,
    "another's text": np.roll(text, _OTHER, axis=0),
    'own audio': np.stack([record.mulan for record in records]),
  }
  workdirs = {
    stage: _MODEL.value / 'workdirs' / stage for stage in ('semantic', 'coarse')
  }
  if _SEMANTIC.value:
    workdirs['semantic'] = _SEMANTIC.value
  for stage, workdir in workdirs.items():
    network = networks.load(workdir, stage)
    nll = held_out_nll.open_nll(network, records)
    for levels in range(network.model.layout.mulan.num_levels + 1):
      costs = {name: nll(mulan, levels) for name, mulan in conditions.items()}
      words = ', '.join(f'{name} {cost:.4f}' for name, cost in costs.items())
      print(f'{stage}, {levels} levels: {words}', flush=True)
    if network.model.layout.melody:
      print(f'{stage}: {_melodies(network, records)}', flush=True)


def _melodies(network: networks.Network, records: list[TokenRecord]) -> str:
  """Nats a token given no melody, its own and another's, without a prompt."""
  no_prompt = np.stack([record.mulan for record in records]), 0
  others = [
    dataclasses.replace(record, melody=records[k - _OTHER].melody)
    for k, record in enumerate(records)
  ]
  costs = {
    'no melody': held_out_nll.open_nll(network, records),
    'own': held_out_nll.open_nll(network, records, melody=True),
    "another's": held_out_nll.open_nll(network, others, melody=True),
  }
  return ', '.join(f'{k} {nll(*no_prompt):.4f}' for k, nll in costs.items())


if __name__ == '__main__':
  cli.run(main)
