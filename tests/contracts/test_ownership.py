"""Folders of ours are marked and held; what is a user's is never taken."""

import pytest

from experiments.tiny_cascade import feature_cache, run_folder
from musiclm_jax.contracts import ownership
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.data import prepared, token_store
from musiclm_jax.training import workdir

KIND = ownership.Kind('thing', ('about.json', 'parts/[0-9]*', '*.log'))
KINDS = (
  *(token_store.FOLDER, prepared.FOLDER, workdir.FOLDER),
  *(feature_cache.FOLDER, run_folder.FOLDER),
)


def tree(folder):
  return {p.relative_to(folder).as_posix(): p for p in folder.rglob('*')}


@pytest.mark.parametrize('kind', KINDS, ids=lambda kind: kind.name)
def test_a_folder_with_a_file_of_our_name_is_refused_by_that_name(
  kind, tmp_path
):
  name = kind.patterns[0]
  (tmp_path / name).write_text('{"mine": true}')
  for refusing in (ownership.begin, ownership.check_ours, ownership.clear):
    with pytest.raises(UsageError, match=name):
      refusing(tmp_path, kind)
  assert (tmp_path / name).read_text() == '{"mine": true}'
  assert list(tree(tmp_path)) == [name], 'not even a mark'


def test_other_files_of_a_users_do_not_matter_and_stay(tmp_path):
  (tmp_path / 'notes').mkdir()
  (tmp_path / 'notes' / 'about.json').touch()
  ownership.begin(tmp_path, KIND)
  (tmp_path / 'about.json').touch()
  ownership.begin(tmp_path, KIND)
  ownership.discard(tmp_path, KIND)
  assert set(tree(tmp_path)) == {'notes', 'notes/about.json'}


def test_only_a_folder_that_is_all_ours_is_cleared(tmp_path):
  ownership.begin(tmp_path, KIND)
  (tmp_path / 'parts').mkdir()
  for name in ('about.json', 'parts/1', 'a.log', 'parts/mine'):
    (tmp_path / name).touch()
  with pytest.raises(UsageError, match=r"'parts/mine', which musiclm_jax did"):
    ownership.clear(tmp_path, KIND)
  assert len(tree(tmp_path)) == 6
  (tmp_path / 'parts' / 'mine').unlink()
  ownership.clear(tmp_path, KIND)
  assert set(tree(tmp_path)) == {ownership.MARK}


def test_a_folder_is_one_thing_and_one_runs(tmp_path):
  with (
    ownership.hold(tmp_path / 'f', KIND, 'working'),
    pytest.raises(UsageError, match='another run is working in'),
    ownership.hold(tmp_path / 'f', KIND, 'working'),
  ):
    pass
  with pytest.raises(UsageError, match='is a thing of musiclm_jax, no workdir'):
    ownership.begin(tmp_path / 'f', workdir.FOLDER)
  (tmp_path / 'f' / ownership.MARK).write_text('mine')
  with pytest.raises(UsageError, match='strange'):
    ownership.begin(tmp_path / 'f', KIND)
  assert (tmp_path / 'f' / ownership.MARK).read_text() == 'mine'


def test_a_mark_that_was_cut_short_is_made_again(tmp_path):
  (tmp_path / ownership.MARK).touch()
  ownership.begin(tmp_path, prepared.FOLDER)
  assert ownership.is_ours(tmp_path, prepared.FOLDER)


def test_folders_of_earlier_versions_are_known(tmp_path):
  for kind, name, text in (
    (prepared.FOLDER, 'corpus.json', '{"source": "rendered_music"}'),
    (workdir.FOLDER, 'config.json', '{"stage": "lm", "schedule": {}}'),
    (
      token_store.FOLDER,
      'contract.json',
      '{"schema_version": 1, "streams": 0}',
    ),
    (run_folder.FOLDER, 'stamps/mulan.json', '{"inputs": "a"}'),
  ):
    folder = tmp_path / kind.name
    (folder / name).parent.mkdir(parents=True)
    (folder / name).write_text(text)
    ownership.begin(folder, kind)
    assert ownership.is_ours(folder, kind)


def test_a_second_run_is_refused_until_the_first_ends(tmp_path):
  for _ in range(2):
    with ownership.lock(tmp_path / 'a' / 'b', 'writing tokens into'):
      (tmp_path / 'a' / 'b' / 'x').touch()
      with (
        pytest.raises(UsageError, match='another run is writing tokens into'),
        ownership.lock(tmp_path / 'a' / 'b', 'writing tokens into'),
      ):
        pass
  assert [p.name for p in (tmp_path / 'a' / 'b').iterdir()] == ['x']


def test_a_refused_call_leaves_no_folder_behind(tmp_path):
  with (
    pytest.raises(ValueError),
    ownership.lock(tmp_path / 'a' / 'b', 'writing tokens into'),
  ):
    raise ValueError
  assert list(tmp_path.iterdir()) == []
