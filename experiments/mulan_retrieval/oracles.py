"""A retriever that knows attributes only: a matrix of scores like any other."""

import numpy as np


def attribute_oracle(fits: np.ndarray) -> np.ndarray:
  """Scores of a retriever that knows what captions state, and nothing else.

  Caption i was written of one of the clips that it fits, each as likely as
  the others. So clips are tied where the caption fits, and a clip ranks the
  captions that fit it by how few others they fit.

  Args:
    fits: bool [captions, clips], whether all that caption i states is true
      of clip j; true on the diagonal.

  Returns:
    Probability that caption i was written of clip j; the transpose ranks
    captions of a clip.

  Raises:
    ValueError: If a caption does not fit its own clip.
  """
  if not np.diagonal(fits).all():
    wrong = np.flatnonzero(~np.diagonal(fits))[:5]
    raise ValueError(f'captions {wrong.tolist()} do not fit their own clips')
  return fits / fits.sum(axis=1, keepdims=True)
