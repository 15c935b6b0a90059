"""Packaging of musiclm_jax; exact versions are pinned in requirements.txt."""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
VERSION = re.search(
  r"__version__ = '(.+)'", (ROOT / 'musiclm_jax/__init__.py').read_text()
).group(1)

CORE = [
  'absl-py',
  'flax>=0.12',
  'jax>=0.10.2',
  'jaxtyping',
  'numpy',
  'optax',  # which flax needs too
  'orbax-checkpoint>=0.12',
  'pyyaml',
  'safetensors',
  'soundfile',
  'soxr',
  'tokenizers',
  'tqdm',
]
EXTRAS = {
  'train': [
    'array_record',
    'grain',
    # tensorflow-datasets 4.9.10 imports it on Python 3.11 without saying so.
    'importlib_resources',
    'ml-collections',
    'pretty_midi',  # for the SoundFont that its package carries
    'scipy',
    'symusic>=0.5.8,<0.6',
    'tensorboardX',
    'tensorflow-datasets',
  ],
  # Beside those of `train`.
  'demo': ['librosa>=0.11', 'matplotlib', 'psutil', 'scikit-learn'],
  # The page that plays in a browser.
  'serve': ['starlette', 'uvicorn'],
  'gpu': ['jax[cuda12]'],
  # Also what rehearsals compile with, where no TPU is.
  'tpu': ['jax[tpu]'],
  'dev': [
    'beartype',
    'hypothesis',
    'import-linter',
    'pytest',
    'pytest-xdist',
    'ruff',
    'selenium',  # drives a browser that is there, to test the page
  ],
}


class BuildPy(build_py):
  """Lays the configs into the package, beside which a checkout has them."""

  def run(self):
    """Builds the package and, but for an editable one, copies configs/."""
    super().run()
    if not self.editable_mode:
      shutil.copytree(
        ROOT / 'configs',
        Path(self.build_lib, 'musiclm_jax/configs'),
        ignore=shutil.ignore_patterns('__pycache__'),
        dirs_exist_ok=True,
      )


setup(
  name='musiclm_jax',
  version=VERSION,
  description='MusicLM (text to music) in JAX, trained on audio alone',
  long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
  long_description_content_type='text/markdown',
  license='Apache-2.0',
  python_requires='>=3.11,<3.14',
  packages=find_packages(include=['musiclm_jax', 'musiclm_jax.*']),
  package_data={
    # The model that plays where no other is named.
    'musiclm_jax': ['shipped/*', 'shipped/*/*'],
    # The embedder that evaluate has without published weights.
    'musiclm_jax.evaluation': ['*.safetensors'],
    'musiclm_jax.serving': ['static/*'],
  },
  cmdclass={'build_py': BuildPy},
  install_requires=CORE,
  extras_require=EXTRAS,
)
