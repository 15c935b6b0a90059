"""captions.csv: what is read as it was meant, matched, named or refused."""

import unicodedata

import pytest

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.data import captions_file

NAMES = ('a.wav', 'b.wav', 'sub/c.wav')
TEXT = 'path,caption\na.wav,señal lenta\nb.wav,"fast, ""loud"""\n'
MEANT = {'a.wav': ('señal lenta',), 'b.wav': ('fast, "loud"',)}


@pytest.fixture
def read(tmp_path):
  """A function (content, names) -> captions."""

  def run(content, names=NAMES):
    path = tmp_path / 'captions.csv'
    path.write_bytes(
      content if isinstance(content, bytes) else content.encode()
    )
    return captions_file.read(path, names)

  return run


@pytest.mark.parametrize(
  'content',
  [
    TEXT.encode(),
    TEXT.encode('utf-8-sig'),
    TEXT.encode('utf-16'),
    TEXT.replace('\n', '\r\n').encode(),
    TEXT.replace('\n', '\r').encode(),
    TEXT.replace('path,caption', ' Path , CAPTION').encode(),
    TEXT.replace('path,caption', '"path","caption"').encode(),
    # Spreadsheets fill up with empty rows.
    (TEXT + ',\n\n,\n').encode(),
    b'path;caption\na.wav;se\xc3\xb1al lenta\nb.wav;fast, "loud"\n',
    'path\tcaption\na.wav\tseñal lenta\nb.wav\tfast, "loud"\n'.encode('utf-16'),
  ],
)
def test_every_way_of_writing_the_same_table_is_read_alike(read, content):
  assert read(content).of == MEANT


def test_several_rows_and_more_columns_are_allowed(read):
  found = read('id,caption,path\n7,slow,a.wav\n8,"two\nlines",a.wav\n')
  assert found.of == {'a.wav': ('slow', 'two\nlines')}


@pytest.mark.parametrize(
  'content, words',
  [
    (TEXT + 'a.wav,slow, sad\n', r'line 4: 3 column.*in quotes'),
    (TEXT + 'a.wav, "slow, sad"\n', 'line 4: 3 column.*without a blank'),
    (TEXT + 'a.wav,muffled\ndrums\n', r'line 5: 1 column.*line break'),
    (TEXT + 'a.wav,"open\nb.wav,x\nb.wav,y\n', 'line 4: .*never closed'),
    (TEXT + 'a.wav,"open\nb.wav,x"\n', "line 4: .*the row of 'b.wav'"),
    (TEXT + 'a.wav,"slow" piano\n', 'line 4: .*written twice'),
    (TEXT + f'a.wav,{"word " * 30_000}\n', 'line 4: .*longer than 131072'),
    (TEXT + 'a.wav,x\0y\n', 'line 4: holds a NUL'),
    (TEXT.encode('latin-1'), 'line 2: byte 0xf1 is not UTF-8'),
    (TEXT.encode('utf-16') + b'\0', 'is not UTF-16'),
    ('file;text\n', 'columns path,caption, it is file;text'),
    ('', 'it is empty'),
  ],
)
def test_what_would_be_misread_is_refused_by_its_line(read, content, words):
  with pytest.raises(UsageError, match=words) as caught:
    read(content)
  assert '\n' not in str(caught.value)


def test_names_meet_however_their_letters_are_composed(read):
  name = 'André Übung.wav'
  forms = [unicodedata.normalize(form, name) for form in ('NFC', 'NFD')]
  for ours, theirs in (forms, forms[::-1]):
    assert read(f'path,caption\n{theirs},x\n', (ours,)).of == {ours: ('x',)}
  both = read(f'path,caption\n{forms[0]},x\n{forms[1]},y\n', forms)
  assert both.of == {forms[0]: ('x',), forms[1]: ('y',)}


def test_a_path_is_one_file_however_it_is_written(read, tmp_path):
  for path in ('./sub/c.wav', 'sub\\c.wav', f'{tmp_path}/sub/c.wav'):
    assert read(f'path,caption\n{path},x\n').of == {'sub/c.wav': ('x',)}


def test_blanks_of_a_name_are_part_of_it(read):
  found = read('path,caption\n a.wav,one\nb.wav ,two\n', (' a.wav', 'b.wav'))
  assert found.of == {' a.wav': ('one',)}
  assert "'b.wav ' (line 3; there is 'b.wav')" in found.remarks[0]


def test_rows_without_a_file_and_files_without_a_row_are_counted(read):
  rows = 'A.WAV,x\nb,x\n' + ''.join(f'gone{k}.wav,x\n' for k in range(6))
  lost, without = read(f'path,caption\nsub/c.wav,x\n{rows}').remarks
  assert '8 of 9 rows name no readable file' in lost
  assert "'A.WAV' (line 3; there is 'a.wav'), 'b' (line 4; there is" in lost
  assert lost.endswith('and 3 more')
  assert without.endswith("2 of 3 files have no caption: 'a.wav', 'b.wav'")


def test_remarks_are_one_line_each(read):
  found = read('path,caption\n"x\n\x1b[2J",x\n', ('a\nb.wav',))
  assert all(remark.isprintable() for remark in found.remarks)


def test_a_folder_of_that_name_is_refused(tmp_path):
  with pytest.raises(UsageError, match='is a folder'):
    captions_file.read(tmp_path, NAMES)
