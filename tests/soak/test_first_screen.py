"""The commands of the README's first screen, in their order, in a new checkout.

`make cascade` takes an hour; `-k 'not cascade'` leaves it out.
"""

import os
import re
import subprocess
import venv
from pathlib import Path

import pytest

pytestmark = pytest.mark.soak

ROOT = Path(__file__).parents[2]
_SCREEN = (ROOT / 'README.md').read_text(encoding='utf-8').partition('\n## ')[0]
_BLOCKS = re.findall(r'^```\n(.*?)^```$', _SCREEN, re.MULTILINE | re.DOTALL)
COMMANDS = [
  line.partition('#')[0].strip()
  for block in _BLOCKS
  for line in block.splitlines()
  if re.match('(pip|python|make) ', line)
]


@pytest.fixture(scope='module')
def machine(tmp_path_factory):
  """A checkout in which nothing was done, and an empty environment."""
  folder = tmp_path_factory.mktemp('machine')
  checkout = folder / 'musiclm_jax'
  subprocess.run(['git', 'clone', '--quiet', ROOT, checkout], check=True)
  venv.create(folder / 'own', with_pip=True)
  (folder / 'home').mkdir()
  kept = ('LANG', 'PIP_INDEX_URL', 'PIP_EXTRA_INDEX_URL', 'PIP_CONFIG_FILE')
  environment = {name: os.environ[name] for name in kept if name in os.environ}
  path = f'{folder / "own" / "bin"}{os.pathsep}{os.environ["PATH"]}'
  return checkout, environment | {'PATH': path, 'HOME': str(folder / 'home')}


def test_the_first_screen_has_the_commands_of_the_first_minute():
  assert [c.split()[:2] for c in COMMANDS][:1] == [['pip', 'install']]
  assert {'make demo', 'make cascade', 'make test'} <= set(COMMANDS)
  assert any('musiclm_jax.generate' in command for command in COMMANDS)


@pytest.mark.parametrize('command', COMMANDS)
def test_a_command_of_the_first_screen(command, machine):
  checkout, environment = machine
  subprocess.run(command, shell=True, cwd=checkout, env=environment, check=True)
  for out in re.findall(r'--out=(\S+)', command):
    assert (checkout / out).stat().st_size > 10_000
  if command == 'make demo':
    assert (checkout / 'runs' / 'demo' / 'report.html').exists()
