"""How many MuLan levels of a prompt to hear, chosen on held-out captions."""

import jax
import jax.numpy as jnp
import numpy as np

from musiclm_jax.cascade.networks import Network
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.data.token_store import TokenStore

MAX_RECORDS = 64
_BATCH_SIZE = 16


def choose_mulan_levels(semantic: Network, store: TokenStore) -> int:
  """Picks the n >= 1 that makes held-out music likeliest given its captions.

  Text and audio codes agree on the first levels only; what is heard beyond
  them misleads.

  Args:
    semantic: The semantic stage.
    store: A held-out split, whose records hold text tokens.

  Raises:
    UsageError: If no record has captions.
  """
  layout = semantic.task.lm.layout
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
  nll = jax.jit(semantic.task.nll)

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

  return min(range(1, layout.mulan.num_levels + 1), key=mean)
