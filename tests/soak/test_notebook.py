"""The notebook from its first cell to its last, in an empty environment."""

import json
import sys

import pytest

from experiments.colab import execute

pytestmark = pytest.mark.soak


def test_the_notebook_runs_from_an_empty_environment():
  text = execute.execute(execute.NOTEBOOK, sys.executable)
  committed = json.loads(execute.NOTEBOOK.read_text(encoding='utf-8'))
  cells, ours = json.loads(text)['cells'], committed['cells']
  assert [c['source'] for c in cells] == [c['source'] for c in ours]
  for cell, own in zip(cells, ours, strict=True):
    found, expected = (
      [set(o.get('data', {})) for o in c.get('outputs', []) if 'data' in o]
      for c in (cell, own)
    )
    assert found == expected
