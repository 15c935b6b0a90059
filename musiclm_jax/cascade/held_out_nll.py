"""What MuLan tokens tell a language model of held-out music, in nats."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from musiclm_jax.cascade.networks import Network
from musiclm_jax.data.token_store import TokenRecord, TokenStore
from musiclm_jax.token_lm.language_model import UNKNOWN

_BATCH_SIZE = 16


def captioned_records(store: TokenStore, most: int) -> list[TokenRecord]:
  """Reads records that have text tokens, of at most so many.

  They are spread over the split, as neighbours are of one piece.
  """
  picked = np.linspace(0, len(store) - 1, min(len(store), most))
  records = [store.record(int(i)) for i in picked]
  return [record for record in records if record.mulan_text is not None]


def open_nll(
  network: Network, records: Sequence[TokenRecord], *, melody: bool = False
) -> Callable[[np.ndarray, int], float]:
  """Lets a language model score the first crop of each record.

  Args:
    network: Of the language model.
    records: N of them, as long as its crops or longer.
    melody: Whether it hears their melody too, where it could do without: most
      prompts come without one, and a melody tells some of what they say.

  Returns:
    A function of MuLan tokens int [N, L] and of how many of their levels are
    read: the mean nats a token, given those and all else that it reads.
  """
  layout = network.model.layout
  crops = {}
  for segment in layout.segments:
    if segment is not layout.mulan:
      rows = [getattr(record, segment.stream) for record in records]
      crops[segment.stream] = np.stack([r[: segment.num_frames] for r in rows])
  without = 'melody' in crops and not melody
  if without and network.config['loss'].get('no_melody_probability'):
    crops['melody'] = np.full_like(crops['melody'], UNKNOWN)
  tokens = len(records) * layout.predicted.num_tokens
  nll = jax.jit(network.model.nll)

  def score(mulan: np.ndarray, levels: int) -> float:
    batch = {'mulan': mulan} | crops
    sums = [
      nll(
        network.params,
        network.collections,
        {name: rows[k : k + _BATCH_SIZE] for name, rows in batch.items()},
        jnp.int32(levels),
      ).sum()
      for k in range(0, len(records), _BATCH_SIZE)
    ]
    return float(sum(sums)) / tokens

  return score
