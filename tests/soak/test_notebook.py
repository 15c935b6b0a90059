"""The notebook from its first cell to its last, in an empty environment."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.soak

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / 'experiments' / 'colab' / 'musiclm_jax.ipynb'


def test_the_notebook_runs_from_an_empty_environment(tmp_path):
  out = tmp_path / 'executed.ipynb'
  command = [sys.executable, '-m', 'experiments.colab.execute', f'--out={out}']
  subprocess.run(command, cwd=ROOT, check=True)
  cells, ours = (
    json.loads(path.read_text(encoding='utf-8'))['cells']
    for path in (out, NOTEBOOK)
  )
  assert [c['source'] for c in cells] == [c['source'] for c in ours]
  for cell, own in zip(cells, ours, strict=True):
    found, expected = (
      [set(o.get('data', {})) for o in c.get('outputs', []) if 'data' in o]
      for c in (cell, own)
    )
    assert found == expected
