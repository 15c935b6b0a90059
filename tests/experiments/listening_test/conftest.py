"""Systems whose clips a listening test compares."""

import listening_clips
import pytest


@pytest.fixture
def systems(tmp_path):
  """System -> folder of three clips; the last has captions."""
  return listening_clips.write(tmp_path)
