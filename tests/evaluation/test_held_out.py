"""Held-out and generated clips: kept, continued, never taken from a user."""

import types

import numpy as np
import pytest
import soundfile

from musiclm_jax.cascade.sampling import SamplingConfig
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.evaluation import held_out
from musiclm_jax.evaluation.clips import ClipFolder
from musiclm_jax.evaluation.held_out import GENERATED, REFERENCE, PromptedClip

RATE = 24_000


class OneTone:
  """A bundle that answers each text with a tone, and counts."""

  sampling = SamplingConfig()
  bundle = types.SimpleNamespace(sha256='b' * 64)

  def __init__(self):
    self.calls = []

  def generate(self, texts, *, seconds, seed, keep, progress, report):
    del keep, progress
    for text in texts:
      report(f'{text} is not known')
    self.calls.append((list(texts), seed))
    tone = 0.1 * np.sin(np.arange(round(seconds * RATE)) * 0.1)
    return types.SimpleNamespace(
      waveform=np.stack([tone] * len(texts)),
      sample_rate=RATE,
      metadata={'prompts': texts, 'seconds': seconds, 'seed': seed},
    )


@pytest.fixture
def rendered(monkeypatch):
  """Pieces of 4 s whose first half is silent; a list of those made."""
  made = []

  def crop(pieces, index, seconds, seed):
    made.append(index)
    rng = np.random.default_rng([seed, index])
    return 0.1 * rng.standard_normal(round(seconds * RATE)), f'no {index}', 0.5

  monkeypatch.setattr(held_out, '_crop', crop)
  return made


def write(folder, clips=3, seed=0):
  held_out.write_reference(folder, clips=clips, seconds=0.5, seed=seed)


def generate(folder, model, asked, seed=0, **options):
  held_out.generate(folder, model, asked, seconds=0.5, seed=seed, **options)


ASKED = [PromptedClip('a/x.flac', 'slow piano'), PromptedClip('y.wav', 'harp')]


def test_clips_have_captions_and_are_made_once(rendered, tmp_path):
  folder = tmp_path / 'reference'
  write(folder)
  found = held_out.prompted_clips(ClipFolder(folder))
  assert [clip.prompt for clip in found] == ['no 0', 'no 1', 'no 2']
  assert found[1].name == found[1].file == 'test-000001.wav'
  (folder / 'test-000001.wav').unlink()
  write(folder)
  assert rendered == [0, 1, 2, 1], 'the others are there'
  write(folder, clips=2)
  assert len(ClipFolder(folder)) == 2, 'what is not asked for is removed'
  write(folder, clips=2, seed=1)
  assert rendered[-2:] == [0, 1], 'another seed is other music'


def test_what_is_generated_has_the_names_of_its_references(tmp_path):
  folder, model = tmp_path / 'generated', OneTone()
  lines = []
  generate(folder, model, ASKED, report=lines.append)
  assert lines == ['harp is not known, slow piano is not known']
  assert ClipFolder(folder).names == ['a/x.wav', 'y.wav']
  found = held_out.prompted_clips(ClipFolder(folder))
  assert [clip.prompt for clip in found] == ['slow piano', 'harp']
  generate(folder, model, ASKED)
  assert model.calls == [(['slow piano', 'harp'], 0)], 'nothing is made again'
  generate(folder, model, ASKED, seed=5)
  (folder / 'y.wav').unlink()
  generate(folder, model, ASKED, seed=5)
  assert [seed for _, seed in model.calls] == [0, 5, 5]
  generate(folder, model, ASKED[:1], seed=5, keep_others=True)
  assert ClipFolder(folder).names == ['a/x.wav', 'y.wav']
  generate(folder, model, ASKED[:1], seed=5)
  assert ClipFolder(folder).names == ['a/x.wav']


def test_many_texts_go_in_batches_of_their_own_seeds(tmp_path, monkeypatch):
  monkeypatch.setattr(held_out, 'GENERATE_BATCH', 2)
  folder, model = tmp_path / 'generated', OneTone()
  asked = [PromptedClip(f'{k}.wav', f'text {k}') for k in range(5)]
  generate(folder, model, asked, seed=7)
  assert [(len(texts), seed) for texts, seed in model.calls] == [
    *((2, 7), (2, 8), (1, 9))
  ]
  (folder / '2.wav').unlink()
  generate(folder, model, asked, seed=7)
  assert model.calls[3:] == [(['text 2', 'text 3'], 8)], 'its batch alone'


def test_two_references_of_one_name_are_refused(tmp_path):
  asked = [PromptedClip('x.wav', 'a'), PromptedClip('x.flac', 'b')]
  with pytest.raises(UsageError, match='two references have the name'):
    generate(tmp_path / 'generated', OneTone(), asked)


def test_a_users_files_stay(tmp_path):
  folder = tmp_path / 'generated'
  folder.mkdir()
  soundfile.write(folder / 'mine.wav', np.zeros(100), RATE)
  with pytest.raises(UsageError, match=r"holds 'mine\.wav'"):
    held_out.check_folder(folder, GENERATED)
  (folder / 'mine.wav').unlink()
  generate(folder, OneTone(), ASKED)
  held_out.check_folder(folder, GENERATED)
  with pytest.raises(UsageError, match='no folder of held-out music'):
    held_out.check_folder(folder, REFERENCE)
  (folder / 'notes.txt').write_text('mine')
  with pytest.raises(UsageError, match=r"holds 'notes\.txt'"):
    held_out.check_folder(folder, GENERATED)
  (folder / 'notes.txt').unlink()
  soundfile.write(folder / 'mine.wav', np.zeros(100), RATE)
  with pytest.raises(UsageError, match='give --overwrite'):
    held_out.check_folder(folder, GENERATED)
  held_out.check_folder(folder, GENERATED, overwrite=True)
  with pytest.raises(UsageError, match='move it elsewhere'):
    generate(folder, OneTone(), ASKED)
  assert (folder / 'mine.wav').is_file(), 'even --overwrite removes none'


@pytest.mark.soak
def test_a_rendered_clip_is_sound_of_its_length_with_a_caption(tmp_path):
  folders = [tmp_path / name for name in 'ab']
  for folder in folders:
    held_out.write_reference(folder, clips=1, seconds=3.0, seed=4)
  waves = [ClipFolder(folder).read(0, RATE).waveform for folder in folders]
  assert len(waves[0]) == 3 * RATE and np.abs(waves[0]).max() > 0.01
  np.testing.assert_array_equal(*waves)
  assert held_out.prompted_clips(ClipFolder(folders[0]))[0].prompt
