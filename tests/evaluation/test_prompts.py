"""Prompts: whence they come, and what they state."""

import numpy as np
import pytest
import soundfile

from musiclm_jax.cascade.provenance import write_sound
from musiclm_jax.evaluation import prompts
from musiclm_jax.evaluation.clips import ClipFolder


@pytest.mark.parametrize(
  ('prompt', 'stated'),
  [
    (
      'A slow waltz on a grand piano',
      {'family': 'piano', 'style': 'waltz', 'tempo': 'slow'},
    ),
    ('fast techno at 80 bpm', {'style': 'techno', 'tempo': 'slow'}),
    ('a piano and a marimba', {}),
    ('vibes, 100bpm', {'family': 'mallets', 'tempo': 'medium'}),
    ('something beautiful', {}),
    ('slowly, then fast', {}),
  ],
)
def test_what_is_stated_is_what_is_said_once(prompt, stated):
  assert prompts.stated(prompt) == stated


def test_captions_come_before_what_a_file_says_of_itself(tmp_path):
  silence = np.zeros(24_000, np.float32)
  for name in ('captioned', 'made'):
    write_sound(tmp_path / f'{name}.wav', silence, 24_000, {'prompt': 'inside'})
  soundfile.write(tmp_path / 'foreign.wav', silence, 24_000)
  (tmp_path / 'captions.csv').write_text(
    'path,caption\ncaptioned.wav,beside\ncaptioned.wav,another\n'
  )
  folder = ClipFolder(tmp_path)
  found = {
    name: prompts.prompt_of(folder, i) for i, name in enumerate(folder.names)
  }
  assert found == {
    'captioned.wav': 'beside',
    'foreign.wav': None,
    'made.wav': 'inside',
  }
