"""Flags that say how to sample, of the commands that do and that propose it."""

from absl import flags

from musiclm_jax.stages import LANGUAGE_MODELS

# A flag belongs to the command that defines it, whose --help shows it.
flags.disclaim_key_flags()


def define(default: str) -> list[flags.FlagHolder]:
  """Defines the fields of `SamplingConfig` of each stage, and one of all.

  Args:
    default: What is where nothing is given, for the help.
  """
  kinds = (
    (flags.DEFINE_float, 'temperature', 'Temperature'),
    (flags.DEFINE_integer, 'top_k', 'Draw among so many likeliest codes'),
    (flags.DEFINE_float, 'top_p', 'Draw among codes of this probability'),
    (flags.DEFINE_float, 'guidance', 'Classifier-free guidance, 1 is off,'),
  )
  return [
    *(
      kind(f'{name}_{stage}', None, f'{words} of the {stage} stage; {default}')
      for kind, name, words in kinds
      for stage in LANGUAGE_MODELS
    ),
    flags.DEFINE_float(
      'guidance', None, 'The same guidance for all stages that have none here.'
    ),
  ]
