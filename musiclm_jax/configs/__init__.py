"""The configs, by name: `--config=semantic:tiny`.

They are programs that stand at the top of a checkout, in `configs/`; a wheel
carries them in this folder. Either way what they share is imported from here,
as `musiclm_jax.configs.base`.
"""

from pathlib import Path

_HERE = Path(__file__).parent
_PACKAGED = (_HERE / 'semantic.py').is_file()
FOLDER = _HERE if _PACKAGED else _HERE.parents[1] / 'configs'
__path__ = [str(FOLDER)]


def names() -> list[str]:
  """Lists the configs, such as `semantic`."""
  return sorted(p.stem for p in FOLDER.glob('*.py') if p.stem != '__init__')
