"""The parallel stage in the place of coarse and fine."""

import numpy as np
import pytest

from musiclm_jax.cascade.conditioning import Conditioning
from musiclm_jax.cascade.generator import Generator
from musiclm_jax.cascade.sampling import SamplingConfig
from musiclm_jax.contracts.kept_parts import KeptParts, unkept
from musiclm_jax.parallel_lm.sampler import ParallelSampler

SAMPLING = SamplingConfig(mulan_levels=12)


@pytest.fixture(scope='module')
def generator(tiny):
  """One without the two stages whose place it takes."""
  own = {name: tiny.networks[name] for name in ('soundstream', 'semantic')}
  return Generator({**own, 'parallel': tiny.parallel_lm})


def begin(generator, rows=1, seconds=1.0, keep=unkept, begun=None, **changes):
  mulan = np.random.default_rng(0).integers(16, size=(rows, 12))
  return generator.piece(
    Conditioning(mulan),
    seconds=seconds,
    seed=0,
    sampling=SAMPLING.changed(changes),
    keep=keep,
    begun=begun,
  )


def tokens(generator, *arguments, **changes):
  piece = begin(generator, *arguments, **changes)
  piece.all()
  return piece.tokens()


@pytest.mark.parametrize('seconds', [0.01, 1.23])
def test_music_is_as_long_as_asked_and_has_all_levels(generator, seconds):
  piece = begin(generator, seconds=seconds)
  waveform, made = piece.all(), piece.tokens()
  assert waveform.shape == (1, round(seconds * 24000))
  frames = -(-round(seconds * 24000) // 480)
  assert made['acoustic'].shape == (1, frames, 4)
  assert made['semantic'].shape == (1, -(-frames // 2))
  assert generator.least_seconds == 0.4


def test_a_stream_is_the_whole_bit_for_bit(generator):
  whole = begin(generator, rows=2, seconds=2.3).all()
  chunks = [*begin(generator, rows=2, seconds=2.3)]
  assert len(chunks) > 2
  np.testing.assert_array_equal(np.concatenate(chunks, axis=1), whole)


def test_windows_continue_each_other_and_read_their_semantic_tokens(
  generator, monkeypatch
):
  seen, begun = [], ParallelSampler.begin

  def spy(self, conditioning, *, prefix, **rest):
    seen.append((conditioning['semantic'], np.array(prefix)))
    return begun(self, conditioning, prefix=prefix, **rest)

  monkeypatch.setattr(ParallelSampler, 'begin', spy)
  made = tokens(generator, seconds=1.5)
  assert len(seen) == 7
  # 75 frames are 38 ticks; the first window is as short as it takes.
  ends = [8, *range(13, 39, 5)]
  assert not seen[0][1].size
  for (semantic, prefix), end in zip(seen[1:], ends[1:], strict=True):
    np.testing.assert_array_equal(semantic, made['semantic'][:, end - 10 : end])
    np.testing.assert_array_equal(
      prefix, made['acoustic'][:, 2 * end - 20 : 2 * end - 10]
    )


def test_a_row_does_not_depend_on_its_company(generator):
  alone, three = (tokens(generator, rows) for rows in (1, 3))
  for name in alone:
    np.testing.assert_array_equal(alone[name], three[name][:1])
  assert (three['acoustic'][0] != three['acoustic'][1]).any()


def test_the_sampling_of_the_coarse_stage_is_its_own(generator):
  plain, hot, other = (
    tokens(generator, **changes)
    for changes in ({}, {'temperature_coarse': 9}, {'temperature_fine': 9})
  )
  np.testing.assert_array_equal(plain['semantic'], hot['semantic'])
  assert (plain['acoustic'] != hot['acoustic']).any()
  np.testing.assert_array_equal(plain['acoustic'], other['acoustic'])
  guided = tokens(generator, guidance_coarse=30.0)
  assert (plain['acoustic'] != guided['acoustic']).any()


def test_music_that_is_given_stays(generator):
  rng = np.random.default_rng(1)
  begun = {
    'semantic': rng.integers(16, size=12),
    'acoustic': rng.integers(16, size=(24, 4)),
  }
  made = tokens(generator, begun=begun)
  np.testing.assert_array_equal(made['acoustic'][0, :24], begun['acoustic'])
  np.testing.assert_array_equal(made['semantic'][0, :12], begun['semantic'])


def test_what_is_kept_is_not_drawn_again(generator, tmp_path, monkeypatch):
  with KeptParts(tmp_path / 'kept', 'key') as keep:
    first = tokens(generator, keep=keep)
    monkeypatch.setattr(ParallelSampler, 'advance', None)
    again = tokens(generator, keep=keep)
  np.testing.assert_array_equal(first['acoustic'], again['acoustic'])


def test_one_stage_alone_makes_what_all_make(generator):
  made = tokens(generator)
  mulan = np.random.default_rng(0).integers(16, size=(1, 12))
  alone = generator.make_stage(
    'parallel',
    Conditioning(mulan),
    made['semantic'],
    frames=made['acoustic'].shape[1],
    seed=0,
    sampling=SAMPLING,
  )
  np.testing.assert_array_equal(alone, made['acoustic'])


def test_a_change_is_made_from_what_is_not_played_yet(generator):
  whole = tokens(generator, seconds=2.3)
  piece = begin(generator, seconds=2.3)
  chunks = iter(piece)
  played = next(chunks).shape[1] // 480
  piece.change(sampling=SAMPLING.changed({'temperature_coarse': 9.0}))
  samples = sum(chunk.shape[1] for chunk in chunks) + played * 480
  changed = piece.tokens()
  assert samples == round(2.3 * 24000)
  same = (changed['acoustic'] == whole['acoustic']).all(axis=(0, 2))
  assert same[:played].all() and not same[played:].all()
