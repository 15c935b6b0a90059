"""What a task wants of the compiler, where the compiler has it."""

import jax
import pytest

from musiclm_jax.contracts.task import HasCompilerOptions
from musiclm_jax.token_lm.task import TokenLMTask
from musiclm_jax.training.step import _compiler_options


class Wishes:
  def __init__(self, **options):
    self.compiler_options = {'cpu': options}


@pytest.mark.skipif(jax.default_backend() != 'cpu', reason="a CPU's options")
@pytest.mark.parametrize(
  'task, platform, expected',
  [
    (
      Wishes(xla_cpu_enable_fast_math='True'),
      'cpu',
      'xla_cpu_enable_fast_math',
    ),
    (Wishes(xla_cpu_enable_fast_math='True'), 'tpu', None),
    (Wishes(xla_of_another_version='1'), 'cpu', None),
    (object(), 'cpu', None),
  ],
  ids=['known', 'other platform', 'unknown', 'none'],
)
def test_an_option_is_passed_where_it_is_known(task, platform, expected):
  options = _compiler_options(task, platform)
  assert options == (expected and task.compiler_options['cpu'])


def test_language_models_have_such_wishes_and_this_compiler_knows_them():
  assert isinstance(TokenLMTask, HasCompilerOptions)
  for options in TokenLMTask.compiler_options.values():
    jax.jit(abs, compiler_options=dict(options)).lower(1.0).compile()
