"""A seal: tells a JSON object that we wrote and that nobody has changed."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

KEY = 'musiclm_jax_seal'


def seal(record: Mapping[str, Any]) -> dict[str, Any]:
  """Adds the hash of everything else in a JSON object."""
  return {**record, KEY: _hash(record)}


def is_sealed(record: Any) -> bool:
  """Whether we wrote this object and nobody has changed it since."""
  if not isinstance(record, dict) or KEY not in record:
    return False
  rest = {name: value for name, value in record.items() if name != KEY}
  return record[KEY] == _hash(rest)


def _hash(record: Mapping[str, Any]) -> str:
  text = json.dumps(record, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()
