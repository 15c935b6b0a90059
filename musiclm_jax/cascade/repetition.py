"""Repetition: what a sound file says -> arguments that make it again."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from musiclm_jax.cascade import prompts
from musiclm_jax.cascade.inputs import Audio
from musiclm_jax.cascade.sampling import SamplingConfig
from musiclm_jax.contracts import paths
from musiclm_jax.contracts.errors import UsageError


def arguments(
  record: Mapping[str, Any], bundle_sha256: str, sounds: Sequence[str] = ()
) -> dict[str, Any]:
  """Reads arguments of `MusicLM.generate`.

  Args:
    record: Of `provenance.read_provenance`.
    bundle_sha256: Of the bundle that shall make it.
    sounds: Files that the music was made with.

  Raises:
    UsageError: If another bundle made it, a sound is missing, or the record
      is not of `generate`.
  """
  theirs = record.get('bundle_sha256')
  if theirs != bundle_sha256:
    raise UsageError(
      f'the file was made by the bundle {str(theirs)[:12]}…, this one is '
      f'{bundle_sha256[:12]}…: name that one by --bundle'
    )
  files = {_sha256(file): file for file in sounds}
  try:
    settings = SamplingConfig(**record['settings'])
    found = {
      'text': prompts.from_json(record['prompt'], files),
      'seconds': record['seconds'],
      'seed': record['seed'],
      'first_row': record['row'],
      'melody': _sound(record, 'melody', files),
      'continue_from': _sound(record, 'continued', files),
      'negative': record.get('negative'),
      'sampling': settings,
    }
  except (KeyError, TypeError) as error:
    raise UsageError(
      f'the file does not say how it was made ({error}): only what generate '
      'has written can be made again'
    ) from error
  if record.get('sound_levels') == settings.mulan_levels:
    found['mulan_levels'] = settings.mulan_levels
  return found


def _sound(
  record: Mapping[str, Any], name: str, files: Mapping[str, str]
) -> Audio | None:
  if name not in record:
    return None
  digest = record[f'{name}_sha256']
  if digest not in files:
    raise UsageError(
      f"it was made with the sound '{record[name]}', which is not given or has "
      'changed: name it by --sound'
    )
  return files[digest]


def _sha256(file: str) -> str:
  try:
    return hashlib.sha256(paths.local(file).read_bytes()).hexdigest()
  except OSError as error:
    raise UsageError(
      f"--sound='{file}' cannot be read ({error.strerror})"
    ) from error
