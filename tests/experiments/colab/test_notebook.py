"""The notebook: what is committed was executed as it stands."""

import ast
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
NOTEBOOK = ROOT / 'experiments' / 'colab' / 'musiclm_jax.ipynb'
# Of machines that nobody else has.
_OWN = re.compile(r'/(home|root|work|tmp|Users|content)/')


@pytest.fixture(scope='module')
def cells():
  notebook = json.loads(NOTEBOOK.read_text(encoding='utf-8'))
  return [c for c in notebook['cells'] if c['cell_type'] == 'code']


def test_every_cell_was_executed_in_order_without_an_error(cells):
  assert [c['execution_count'] for c in cells] == list(range(1, len(cells) + 1))
  outputs = [output for c in cells for output in c['outputs']]
  assert all(output['output_type'] != 'error' for output in outputs)
  kinds = [kind for output in outputs for kind in output.get('data', {})]
  assert kinds.count('image/png') == 4 and 'image/svg+xml' in kinds
  html = ''.join(
    ''.join(output.get('data', {}).get('text/html', '')) for output in outputs
  )
  assert html.count('<audio') == 2


def test_no_cell_needs_or_shows_a_particular_machine(cells):
  for cell in cells:
    source = ''.join(cell['source'])
    shown = ''.join(
      ''.join(output.get('text', '')) for output in cell['outputs']
    )
    assert not _OWN.search(source) and not _OWN.search(shown), shown
    assert 'google' not in source
    assert 'Traceback' not in shown and 'error:' not in shown


def test_cells_are_python_beside_their_commands(cells):
  for cell in cells:
    source = ''.join(cell['source']).replace('\\\n', ' ')
    plain = re.sub(r'^( *)[!%].*$', r'\1pass', source, flags=re.MULTILINE)
    ast.parse(plain)
