"""What a prompt is worth to the language models that read it.

    python -m experiments.small.prompts --model=runs/small

Nats a token of held-out music from the semantic and the coarse stage, given n
MuLan levels of its own caption, of another piece's, and of its own audio;
n = 0 is none of them.
"""

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from musiclm_jax import cli, path_flags
from musiclm_jax.cascade import networks
from musiclm_jax.data.token_store import TokenRecord, TokenStore

_BATCH = 16
_OTHER = 7  # records on: another piece, as neighbours may be of one
_MODEL = path_flags.DEFINE_path('model', 'runs/small', 'Folder of the model.')
_CROPS = flags.DEFINE_integer('crops', 192, 'Of the validation split.', 16)


def main() -> None:
  """Prints a table of each stage."""
  store = TokenStore(_MODEL.value / 'tokens', 'validation')
  picked = np.linspace(0, len(store) - 1, min(len(store), _CROPS.value))
  records = [store.record(int(i)) for i in picked]
  records = [r for r in records if r.mulan_text is not None]
  text = np.stack([record.mulan_text[0] for record in records])
  conditions = {
    'own text': text,
    "another's text": np.roll(text, _OTHER, axis=0),
    'own audio': np.stack([record.mulan for record in records]),
  }
  for stage in ('semantic', 'coarse'):
    network = networks.load(_MODEL.value / 'workdirs' / stage, stage)
    music = _music(network, records)
    nll = jax.jit(network.model.nll)
    for levels in range(network.model.layout.mulan.num_levels + 1):
      costs = {
        name: _mean(nll, network, {'mulan': mulan} | music, levels)
        for name, mulan in conditions.items()
      }
      words = ', '.join(f'{name} {cost:.4f}' for name, cost in costs.items())
      print(f'{stage}, {levels} levels: {words}', flush=True)


def _music(
  network: networks.Network, records: list[TokenRecord]
) -> dict[str, np.ndarray]:
  """The streams that a stage reads, as long as its crops are."""
  layout = network.model.layout
  seconds = layout.predicted.num_frames / layout.predicted.frame_rate
  frames = round(25 * seconds)
  music = {'semantic': np.stack([r.semantic[:frames] for r in records])}
  if layout.predicted.stream == 'acoustic':
    count = layout.predicted.num_frames
    music['acoustic'] = np.stack([r.acoustic[:count] for r in records])
  if melody := layout.melody:
    music['melody'] = np.stack([r.melody[: melody.num_frames] for r in records])
  return music


def _mean(nll, network, batch: dict[str, np.ndarray], levels: int) -> float:
  parts = [
    np.asarray(
      nll(
        network.params,
        network.collections,
        {name: rows[k : k + _BATCH] for name, rows in batch.items()},
        jnp.int32(levels),
      )
    )
    for k in range(0, len(batch['mulan']), _BATCH)
  ]
  return float(np.concatenate([part.reshape(-1) for part in parts]).mean())


if __name__ == '__main__':
  cli.run(main)
