"""Writes the table of parity from the report of the tests named `parity`.

python -m pytest -k parity --junitxml=runs/parity.xml
python experiments/parity/table.py runs/parity.xml
"""

import datetime
import importlib.metadata
import platform
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
FIXTURES = HERE.parents[1] / 'tests' / 'fixtures'
README = """# Parity with independent implementations

Each network is computed beside a PyTorch twin that somebody else wrote, with
the twin's random weights copied into ours, in float32. `make parity` runs the
twins again, compares them with the committed fixtures (`tests/fixtures/`), runs
our networks on the same input and writes this table; the tests hold the same
errors below 1e-4.

FAD and KAD of drawn embeddings are those of the packages frechet-audio-distance
and kadtk, whose arithmetic is run without the networks (`audio_distances.py`);
files of weights are those that torch.save writes (`torch_files.py`).

{date}, Python {python}, jax {jax}; twins by {twins}.

| network: its twin | largest absolute error |
|---|---|
{rows}
"""


def main() -> None:
  """Reads a JUnit report, writes README.md and prints the rows."""
  errors = {}
  for case in ElementTree.parse(sys.argv[1]).iter('testcase'):
    for noted in case.iter('property'):
      name, error = noted.get('name'), float(noted.get('value'))
      errors[name] = max(error, errors.get(name, 0.0))
  if not errors:
    raise SystemExit(f'error: {sys.argv[1]} notes no parity: run make parity')
  rows = '\n'.join(f'| {n} | {e:.1e} |' for n, e in sorted(errors.items()))
  with np.load(FIXTURES / 'bert.npz') as file:
    torch, transformers = file['versions']
  (HERE / 'README.md').write_text(
    README.format(
      date=datetime.date.today(),
      python=platform.python_version(),
      jax=importlib.metadata.version('jax'),
      twins=f'torch {torch}, transformers {transformers}',
      rows=rows,
    )
  )
  print(rows)


if __name__ == '__main__':
  main()
