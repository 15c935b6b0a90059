"""Flags that are paths: what a user writes becomes a Path in one way."""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from musiclm_jax import configs
from musiclm_jax.contracts import paths
from musiclm_jax.contracts.errors import UsageError

# A flag belongs to the command that defines it, whose --help shows it.
flags.disclaim_key_flags()


class _PathParser(flags.ArgumentParser):
  """See `contracts.paths.local`."""

  def parse(self, argument: str | Path) -> Path:
    try:
      return paths.local(argument)
    except UsageError as error:
      raise ValueError(str(error)) from error

  def flag_type(self) -> str:
    return 'path'


def DEFINE_path(
  name: str,
  default: str | None,
  help_: str,
  flag_values: flags.FlagValues = flags.FLAGS,
) -> flags.FlagHolder:
  """Defines a flag whose value is a Path, or None."""
  return flags.DEFINE(
    _PathParser(),
    name,
    default,
    help_,
    flag_values,
    serializer=flags.ArgumentSerializer(),
  )


def expand_config(argv: Sequence[str]) -> list[str]:
  """Makes `--config=FILE.py:SIZE` name its file as a path.

  So does a name, `--config=semantic:SIZE`, of a config that comes with the
  package. ml_collections opens that file itself.

  Returns:
    The arguments, those of `--config` all spelt `--config=…`.

  Raises:
    UsageError: If it is no path; see `contracts.paths.local`.
  """
  out, waiting = [], iter(argv)
  for argument in waiting:
    flag, equals, given = argument.partition('=')
    if flag in ('--config', '-config'):
      given = given if equals else next(waiting, '')
      argument = f'--config={given and _expand(given)}'
    out.append(argument)
  return out


def _expand(given: str) -> str:
  name, colon, size = given.partition(':')
  if name in configs.names() and not Path(name).is_file():
    return f'{configs.FOLDER / name}.py{colon}{size}'
  file, suffix, size = given.rpartition('.py')
  return f'{paths.local(file + suffix)}{size}' if suffix else given
