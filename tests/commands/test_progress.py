"""Progress of a command: a bar or lines, and a file for a parent process."""

import io
import json
import sys

import pytest

from musiclm_jax import cli
from musiclm_jax.contracts.progress import Progress

EVENTS = (
  Progress('semantic', 0, 750, 'tokens', 0.0, None),
  Progress('semantic', 250, 750, 'tokens', 2.0, None),
  Progress('semantic', 500, 750, 'tokens', 4.0, 2.0),
  Progress('semantic', 750, 750, 'tokens', 6.0, 0.0),
  Progress('coarse', 300, 3000, 'tokens', 2.0, 18.0),
)


class Terminal(io.StringIO):
  def isatty(self):
    return True


def test_lines_are_few_where_there_is_no_terminal(capsys):
  show = cli.progress()
  for event in EVENTS:
    show(event)
  assert capsys.readouterr().err.splitlines() == [
    'semantic: 0 of 750 tokens',
    'semantic: 750 tokens in 6.0 s',
    'coarse: 300 of 3000 tokens, 150 a second, 18 s left',
  ]


def test_a_terminal_gets_a_bar_that_gives_way_to_lines(monkeypatch):
  monkeypatch.setattr(sys, 'stderr', Terminal())
  show = cli.progress()
  show(EVENTS[0])
  cli.report('a line')
  for event in EVENTS[1:]:
    show(event)
  shown = sys.stderr.getvalue()
  assert '\ra line\n' in shown
  assert '100%' in shown and '750/750' in shown and 'coarse' in shown


def test_a_parent_process_reads_events_from_a_file(monkeypatch, tmp_path):
  path = tmp_path / 'events.jsonl'
  monkeypatch.setenv(cli.PROGRESS_FILE, str(path))
  show = cli.progress()
  for event in EVENTS:
    show(event)
  read = [
    Progress(**json.loads(line)) for line in path.read_text().split('\n')[:-1]
  ]
  assert tuple(read) == EVENTS


def test_where_lines_are_printed_already_the_file_alone_is_written(
  monkeypatch, tmp_path, capsys
):
  path = tmp_path / 'events.jsonl'
  monkeypatch.setenv(cli.PROGRESS_FILE, str(path))
  cli.progress(shown=False)(EVENTS[0])
  assert path.read_text().count('\n') == 1
  assert capsys.readouterr().err == ''


@pytest.mark.parametrize('end', [KeyboardInterrupt, SystemExit])
def test_an_interruption_says_that_the_work_goes_on(end, tmp_path, capsys):
  with pytest.raises(end), cli.resumable(tmp_path / 'tokens'):
    raise end
  said = capsys.readouterr().err
  assert 'tokens' in said and 'run again to go on' in said
