"""What setup.py asks for: lists of distributions, as they stand there."""

import ast
import functools
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Module that is imported -> its distribution, where that has another name.
DISTRIBUTIONS = {
  'absl': 'absl-py',
  'libtpu': 'jax',
  'orbax': 'orbax-checkpoint',
  'sklearn': 'scikit-learn',
  'yaml': 'pyyaml',
}


def name_of(requirement):
  """The distribution of a requirement, without versions and extras."""
  name = re.match(r'[\w.-]+', requirement).group()
  return re.sub('[-_.]+', '-', name).lower()


@functools.cache
def asked():
  """`core` or extra -> distributions."""
  lists = {
    node.targets[0].id: node.value
    for node in ast.parse((ROOT / 'setup.py').read_text()).body
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
  }
  found = {'core': ast.literal_eval(lists['CORE'])}
  found |= ast.literal_eval(lists['EXTRAS'])
  return {extra: set(map(name_of, names)) for extra, names in found.items()}


def module_of(distribution):
  """The module that is imported of a distribution."""
  modules = {name: module for module, name in DISTRIBUTIONS.items()}
  return modules.get(distribution, distribution.replace('-', '_'))
