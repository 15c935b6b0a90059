"""Repetition: what a sound file says -> arguments that make it again."""

from collections.abc import Mapping, Sequence
from typing import Any

from musiclm_jax.cascade import prompts
from musiclm_jax.cascade.inputs import Audio
from musiclm_jax.cascade.sampling import SamplingConfig
from musiclm_jax.contracts.errors import UsageError


def arguments(
  record: Mapping[str, Any],
  bundle_sha256: str,
  sounds: Sequence[str] = (),
  parallel_sha256: str | None = None,
) -> dict[str, Any]:
  """Reads arguments of `MusicLM.generate`.

  Args:
    record: Of `provenance.read_provenance`.
    bundle_sha256: Of the bundle that shall make it.
    sounds: Files that the music was made with.
    parallel_sha256: Of the parallel LM that shall take part.

  Raises:
    UsageError: If another bundle or parallel LM made it, a sound is missing,
      or the record is not of `generate`.
  """
  theirs = record.get('bundle_sha256')
  if theirs != bundle_sha256:
    raise UsageError(
      f'the file was made by the bundle {str(theirs)[:12]}…, this one is '
      f'{bundle_sha256[:12]}…: name that one by --bundle'
    )
  theirs = record.get('parallel')
  if theirs != parallel_sha256:
    made, here = (
      f'{h[:12]}…' if h else 'none' for h in (theirs, parallel_sha256)
    )
    raise UsageError(
      f'the file was made with the parallel LM {made}, here it is {here}: '
      + ('name that one by --parallel' if theirs else 'leave --parallel out')
    )
  if record.get('changes'):
    raise UsageError(
      'the music was changed while it was made: only what one call of generate '
      'has made can be made again'
    )
  files = {_sha256(file): file for file in sounds}

  def sound(name: str) -> Audio | None:
    return prompts.find_sound(name, record, files) if name in record else None

  try:
    settings = SamplingConfig(**record['settings'])
    found = {
      'text': prompts.from_json(record['prompt'], files),
      'seconds': record['seconds'],
      'seed': record['seed'],
      'first_row': record['row'],
      'melody': sound('melody'),
      'continue_from': sound('continued'),
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


def _sha256(file: str) -> str:
  try:
    return prompts.sound_facts('sound', file)['sound_sha256']
  except OSError as error:
    raise UsageError(
      f"--sound='{file}' cannot be read ({error.strerror})"
    ) from error
