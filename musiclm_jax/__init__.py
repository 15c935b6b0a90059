"""musiclm_jax: MusicLM (text to music) in JAX, trained on audio alone.

`from musiclm_jax import MusicLM`; importing the package itself loads no jax.
"""

import importlib
from typing import Any

__version__ = '0.1.0'
# Name -> module, imported when the name is first used. A module is named by a
# string, so that what runs through this file does not depend on all of them.
_LAZY = dict.fromkeys(('MusicLM', 'Music'), 'musiclm_jax.cascade.musiclm') | {
  'SamplingConfig': 'musiclm_jax.cascade.sampling',
  'UsageError': 'musiclm_jax.contracts.errors',
}
__all__ = ['Music', 'MusicLM', 'SamplingConfig', 'UsageError']


def __getattr__(name: str) -> Any:
  """Imports a public name."""
  if name not in _LAZY:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
  return sorted({*globals(), *_LAZY})
