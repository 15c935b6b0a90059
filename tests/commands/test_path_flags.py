"""Every path that a command takes is read in one way."""

import ast
from pathlib import Path

import pytest
from absl import flags

from musiclm_jax import path_flags
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.data import sources

PACKAGE = Path(path_flags.__file__).parent
# Flags of commands that are text and name no file or folder.
TEXTS = {'text', 'source', 'topology', 'profile', 'size', 'until', 'splits'}
TEXTS |= {'metrics', 'embedders', 'stages', 'mix', 'negative'}
# Several files, each read as `contracts.paths.local` reads one.
TEXTS |= {'mix_audio', 'sound'}


def test_no_command_reads_a_path_in_another_way():
  """A new flag of text is a path until it is listed here."""
  for command in PACKAGE.glob('*.py'):
    for node in ast.walk(ast.parse(command.read_text())):
      match node:
        case ast.Call(
          func=ast.Attribute(
            attr='DEFINE_string' | 'DEFINE_multi_string' | 'DEFINE_list'
          ),
          args=[ast.Constant(value=name), *_],
        ):
          assert name in TEXTS, f'--{name} of {command.name}'


def parse(*argv):
  values = flags.FlagValues()
  holder = path_flags.DEFINE_path('out', None, 'A path.', values)
  values(['command', *argv])
  return holder.value


def test_a_flag_gives_a_path_or_one_line_with_its_name(tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path))
  assert parse() is None
  assert parse('--out=~/x.wav') == tmp_path / 'x.wav'
  assert parse('--out', '-x.wav') == Path('-x.wav')
  for text, words in (('gs://b/x', 'not supported'), ('', 'is no path')):
    with pytest.raises(flags.IllegalFlagValueError, match=f'--out.*{words}'):
      parse(f'--out={text}')


def test_the_config_file_is_a_path_too(tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path))
  given = ['train', '--config=~/c.py:tiny', '--config', 'file:///c.py', '--x']
  assert path_flags.expand_config(given) == [
    *('train', f'--config={tmp_path}/c.py:tiny', '--config=/c.py', '--x')
  ]
  with pytest.raises(UsageError, match='not supported'):
    path_flags.expand_config(['train', '--config=gs://b/c.py:tiny'])


def test_a_source_is_a_kind_and_such_a_path(tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path))
  for folder, words in (
    ('gs://bucket/music', 'gs:// is not supported'),
    ('~/music', f"no folder '{tmp_path}/music'"),
    ('file:///nowhere', "no folder '/nowhere'"),
  ):
    with pytest.raises(UsageError, match=words):
      sources.open_source(f'audio_folder:{folder}', 'train')
