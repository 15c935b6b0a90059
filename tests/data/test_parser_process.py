"""Claims on processes in which parsers of others' files may die."""

import os

import pytest

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.data import parser_process
from musiclm_jax.data.parser_process import ParserError

POISON = 'import builtins; builtins.poisoned = True'
DIES_OF_POISON = """
import builtins, os
if hasattr(builtins, 'poisoned'):
  os.abort()
"""


@pytest.mark.parametrize(
  ('function', 'argument', 'reason'),
  [
    (exec, 'import os; os.abort()', 'died of SIGABRT'),
    (exec, 'import os; os._exit(0)', 'ended the process'),
    (exec, 'import ctypes; ctypes.string_at(0)', 'died of SIGSEGV'),
    (exec, 'while True: pass', 'took more than 0 s'),
    (int, 'x', 'ValueError: invalid literal'),
    (bytearray, 1 << 60, 'MemoryError'),
  ],
)
def test_however_a_parser_ends_it_is_an_error_with_its_reason(
  function, argument, reason
):
  with pytest.raises(ParserError, match=reason):
    parser_process.call(function, argument, seconds=0.3)
  assert parser_process.call(int, '7') == 7


def test_a_file_is_not_blamed_for_what_an_earlier_one_left(monkeypatch):
  monkeypatch.setattr(parser_process, '_idle', [])
  parser_process.call(exec, POISON)
  parser_process.call(exec, DIES_OF_POISON)
  with pytest.raises(ParserError):
    parser_process.call(exec, POISON + DIES_OF_POISON)


def test_what_a_user_can_mend_stays_what_it_is():
  raises = (
    'from musiclm_jax.contracts.errors import UsageError; '
    'raise UsageError("install it")'
  )
  with pytest.raises(UsageError, match='install it'):
    parser_process.call(exec, raises)


def test_what_parsers_print_is_not_seen(capfd):
  parser_process.call(exec, 'import os; os.write(2, b"x"); os.write(1, b"y")')
  assert capfd.readouterr() == ('', '')


def test_a_process_serves_many_calls_and_knows_no_jax():
  assert parser_process.call(os.getpid) == parser_process.call(os.getpid)
  parser_process.call(exec, 'import sys; assert "jax" not in sys.modules')


def test_many_calls_answer_in_their_order():
  rows = [(str(k) if k % 7 else 'x',) for k in range(80)]
  answers = parser_process.call_all(int, rows, [9.0] * 80)
  assert all(
    isinstance(answer, ParserError) if k % 7 == 0 else answer == k
    for k, answer in enumerate(answers)
  )
