"""Opening sources by name: refusals come with the way out."""

import pytest

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.data.sources import open_source


@pytest.mark.parametrize('spec', ['', 'rendered_music', 'mp3:/tmp', 'x:'])
def test_unknown_kind_lists_the_known_ones(spec):
  with pytest.raises(UsageError, match='prepared, rendered_music, audio'):
    open_source(spec, 'train')


def test_unknown_split_lists_the_known_ones(tmp_path):
  with pytest.raises(UsageError, match='train, validation, test'):
    open_source(f'audio_folder:{tmp_path}', 'valid')


def test_missing_folder_is_named(tmp_path):
  with pytest.raises(UsageError, match='nowhere'):
    open_source(f'audio_folder:{tmp_path}/nowhere', 'train')


def test_folder_without_audio_is_refused(tmp_path):
  (tmp_path / 'notes.txt').write_text('la la')
  with pytest.raises(UsageError, match='holds no audio'):
    open_source(f'audio_folder:{tmp_path}', 'train')
