"""Executes the notebook as a stranger would, in an environment of its own.

    python -m experiments.colab.execute --out=runs/executed.ipynb

Its environment is new and goes again; the notebook installs the package.
"""

import os
import shutil
import subprocess
import tempfile
import venv
from pathlib import Path

from musiclm_jax import cli, path_flags
from musiclm_jax.contracts import atomic_file

HERE = Path(__file__).parent
NOTEBOOK = HERE / 'musiclm_jax.ipynb'
_CELL_SECONDS = 1800
# Nothing that lies in a checkout may help the package, or be left in it.
_NOT_INSTALLED = ('.*', 'runs', 'build', 'dist', '*.egg-info', '__pycache__')
_OUT = path_flags.DEFINE_path('out', None, 'Where the executed notebook goes.')


def execute(notebook: Path) -> str:
  """Runs all cells of a notebook, in an empty folder.

  Args:
    notebook: It.

  Returns:
    The notebook with what its cells gave.

  Raises:
    subprocess.CalledProcessError: If a cell or the installation fails.
  """
  with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    source, work = folder / 'source', folder / 'work'
    ignored = shutil.ignore_patterns(*_NOT_INSTALLED)
    shutil.copytree(HERE.parents[1], source, ignore=ignored)
    work.mkdir()
    venv.create(folder / 'venv', with_pip=True)
    programs = folder / 'venv' / 'bin'
    pip = [programs / 'python', '-m', 'pip', 'install', '--quiet']
    subprocess.run([*pip, '-r', HERE / 'requirements.txt'], check=True)
    copy = Path(shutil.copy(notebook, work))
    environment = os.environ | {
      'MUSICLM_JAX': str(source),
      'PATH': f'{programs}{os.pathsep}{os.environ["PATH"]}',
      'PYTHONPATH': '',
    }
    subprocess.run(
      [
        programs / 'jupyter-execute',
        '--inplace',
        f'--timeout={_CELL_SECONDS}',
        copy.name,
      ],
      cwd=work,
      env=environment,
      check=True,
    )
    # Where that was is nobody's business.
    return copy.read_text(encoding='utf-8').replace(f'{name}/', '')


def main() -> None:
  """Executes it and writes the result."""
  cli.require(_OUT)
  done = execute(NOTEBOOK)
  atomic_file.write_text(_OUT.value, done)
  cli.report(f"executed: '{_OUT.value}'")


if __name__ == '__main__':
  cli.run(main)
