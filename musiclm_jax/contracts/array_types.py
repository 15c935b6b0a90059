"""Array types: the legend of axis letters used in every signature.

`B` batch, `S` audio samples, `T` frames or tokens, `Q` quantizer levels, `K`
codebook entries, `D` width, `H` heads, `V` vocabulary, `F` frequency bins,
`L` text tokens. Annotations are jaxtyping; tests check them with beartype.
"""

from typing import Any

from jaxtyping import Array, Bool, Float, Int

Waveform = Float[Array, 'B S']  # in [-1, 1]
Latents = Float[Array, 'B T D']  # continuous features, one row a frame
Spectrogram = Float[Array, 'B T F']
Codes = Int[Array, 'B T Q']  # indices in [0, K), one column a level
Tokens = Int[Array, 'B T']  # indices in one stream or a vocabulary
Embedding = Float[Array, 'B D']
TextIds = Int[Array, 'B L']
Mask = Bool[Array, 'B T']
PRNGKey = Any  # a typed key of `jax.random.key`
PyTree = Any
