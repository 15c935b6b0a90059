"""The generator: any length exactly, rows apart, windows joined."""

import dataclasses
import itertools

import numpy as np
import pytest

from musiclm_jax.cascade.conditioning import Conditioning
from musiclm_jax.cascade.decoder import decode, limit
from musiclm_jax.cascade.generator import Generator
from musiclm_jax.cascade.sampling import SamplingConfig
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.kept_parts import KeptParts, unkept
from musiclm_jax.token_lm.sampler import Sampler

SAMPLING = SamplingConfig(mulan_levels=12)


@pytest.fixture(scope='module')
def generator(tiny):
  return Generator(tiny.networks)


@dataclasses.dataclass
class Made:
  waveform: np.ndarray
  semantic: np.ndarray
  acoustic: np.ndarray


def mulan(rows=1):
  return np.random.default_rng(0).integers(16, size=(rows, 12))


def make(generator, rows=1, seconds=1.0, seed=0, keep=unkept, **changes):
  tokens = mulan(rows) if isinstance(rows, int) else rows
  waveform, made = generator.generate(
    Conditioning(tokens),
    seconds=seconds,
    seed=seed,
    sampling=SAMPLING.changed(changes),
    keep=keep,
  )
  return Made(waveform, **made)


@pytest.mark.parametrize(
  'seconds',
  [
    0.0001,
    1.93,
    *(pytest.param(s, marks=pytest.mark.soak) for s in (0.31, 1.0)),
  ],
)
def test_music_is_exactly_as_long_as_asked(generator, seconds):
  music = make(generator, seconds=seconds)
  assert music.waveform.shape == (1, round(seconds * 24000))
  frames = -(-round(seconds * 24000) // 480)
  assert music.acoustic.shape == (1, frames, 4)
  assert music.semantic.shape == (1, -(-frames // 2))
  assert np.isfinite(music.waveform).all()


@pytest.mark.parametrize('seconds', [0, -1, 3600.1, float('nan'), 1e-9])
def test_impossible_lengths_are_refused(generator, seconds):
  with pytest.raises(UsageError, match=r'seconds.*3600'):
    make(generator, seconds=seconds)


def test_a_row_does_not_depend_on_its_company(generator):
  alone, three = (make(generator, rows, seconds=0.31) for rows in (1, 3))
  np.testing.assert_array_equal(alone.semantic, three.semantic[:1])
  np.testing.assert_array_equal(alone.acoustic, three.acoustic[:1])
  assert (three.semantic[0] != three.semantic[1]).any()


def test_the_seed_decides(generator):
  first, again, other = (make(generator, seed=s) for s in (0, 0, 1))
  np.testing.assert_array_equal(first.waveform, again.waveform)
  assert (first.semantic != other.semantic).any()
  assert (first.acoustic != other.acoustic).any()


def test_the_guidance_of_a_stage_is_its_own(tiny, generator):
  rng = np.random.default_rng(0)
  reads = {
    'semantic': None,
    'coarse': rng.integers(16, size=(1, 20)),
    'fine': rng.integers(16, size=(1, 40, 2)),
  }

  def tokens(stage, **changes):
    return generator.make_stage(
      stage,
      Conditioning(mulan()),
      reads[stage],
      frames=20,
      seed=0,
      sampling=SAMPLING.changed(changes),
    )

  plain = {stage: tokens(stage) for stage in reads}
  for stage in reads:
    changed = {n: tokens(n, **{f'guidance_{stage}': 30.0}) for n in reads}
    differs = {n for n in reads if (changed[n] != plain[n]).any()}
    assert differs == {stage}


def stage_of(sampler):
  layout = sampler.lm.layout
  if layout.predicted.stream == 'semantic':
    return 'semantic'
  return 'fine' if layout.predicted.first_level else 'coarse'


@pytest.fixture
def drawn(monkeypatch):
  """The windows that are drawn: (stage, what it reads, prefix, codes)."""
  seen, begun = [], []
  begin, codes = Sampler.begin, Sampler.codes

  def spy(self, conditioning, *, prefix=None, **rest):
    if prefix is None:
      rows = len(conditioning['mulan'])
      prefix = np.zeros((rows, 0, self.lm.layout.predicted.num_levels), int)
    begun[:] = [conditioning, np.array(prefix)]
    return begin(self, conditioning, prefix=prefix, **rest)

  def note(self, window):
    made = codes(self, window)
    seen.append((stage_of(self), *begun, made))
    return made

  monkeypatch.setattr(Sampler, 'begin', spy)
  monkeypatch.setattr(Sampler, 'codes', note)
  return seen


def test_windows_continue_the_tokens_before_them(generator, drawn):
  """Mistakes 25, 28 and 35: each window sees what was really sampled."""
  music = make(generator, seconds=1.5)
  for stage, crop in (('semantic', 20), ('coarse', 20)):
    calls = [call for call in drawn if call[0] == stage]
    assert len(calls) > 2
    for (_, _, _, before), (_, _, prefix, codes) in itertools.pairwise(calls):
      assert prefix.shape[1] == crop // 2 and codes.shape[1] == crop
      np.testing.assert_array_equal(prefix, before[:, -prefix.shape[1] :])
      np.testing.assert_array_equal(codes[:, : prefix.shape[1]], prefix)
  # Each coarse window reads the semantic tokens of its own 0.4 s.
  stream, end = music.semantic[0], 0
  for _, conditioning, prefix, codes in drawn:
    if 'semantic' in conditioning:
      start = end - prefix.shape[1]
      end = start + codes.shape[1]
      np.testing.assert_array_equal(
        conditioning['semantic'][0], stream[start // 2 : start // 2 + 10]
      )
      made = music.acoustic[0, start:end, :2]
      np.testing.assert_array_equal(codes[0, : len(made)], made)
  assert end == 76, 'the whole stream, rounded up to semantic frames'


@pytest.mark.parametrize('change', [0.2, 0.64, 1.0])
def test_other_tokens_condition_what_comes_after_a_change(generator, change):
  """Up to the change nothing else is meant; later stages look ahead."""

  def tell(later):
    _, tokens = generator.generate(
      Conditioning(mulan(), later=((change, later),)),
      seconds=1.5,
      seed=0,
      sampling=SAMPLING.changed({'guidance': 8.0}),
    )
    return tokens

  same, other = tell(mulan()), tell(15 - mulan())
  at = round(change * 25)
  one, two = same['semantic'], other['semantic']
  np.testing.assert_array_equal(one[:, :at], two[:, :at])
  assert (one[:, at:] != two[:, at:]).any()
  coarse = [t['acoustic'][:, 2 * at :, :2] for t in (same, other)]
  assert (coarse[0] != coarse[1]).any()


def test_a_beginning_that_is_given_is_continued(generator, drawn):
  """With what a seed made of it, it goes on as that seed did, or otherwise."""
  whole = make(generator, seconds=1.5)
  begun = {
    'semantic': whole.semantic[0, :15],
    'acoustic': whole.acoustic[0, :30],
  }
  events = []
  drawn.clear()
  waveform, tokens = generator.generate(
    Conditioning(mulan(2)),
    seconds=1.5,
    seed=0,
    sampling=SAMPLING,
    begun=begun,
    progress=events.append,
  )
  for stream, codes in begun.items():
    for row in tokens[stream]:
      np.testing.assert_array_equal(row[: len(codes)], codes)
  assert (tokens['semantic'][0] != tokens['semantic'][1]).any()
  assert waveform.shape == (2, 36000)
  firsts = {}
  for name, _, prefix, _ in drawn:
    firsts.setdefault(name, prefix.shape[1])
  # As long a prefix as the crop has room for: of 20 frames each.
  assert firsts['semantic'] >= 10
  assert firsts['coarse'] >= 10 and firsts['fine'] == 0
  last = {event.stage: event for event in events}
  assert last['semantic'].total == 2 * (38 - 15)
  assert last['coarse'].total == 2 * (76 - 30) * 2


def test_fine_codes_join_the_coarse_codes_they_were_made_for(
  generator, monkeypatch
):
  """Mistake 34: chunks are put back where they were cut."""
  begin, codes = Sampler.begin, Sampler.codes
  read = []

  def note(self, conditioning, **rest):
    read[:] = [conditioning]
    return begin(self, conditioning, **rest)

  def echo(self, window):
    if stage_of(self) != 'fine':
      return codes(self, window)
    # What a perfect fine stage of a rule would say.
    return read[0]['acoustic'][..., :2] + 100

  monkeypatch.setattr(Sampler, 'begin', note)
  monkeypatch.setattr(Sampler, 'codes', echo)
  monkeypatch.setattr(
    'musiclm_jax.cascade.decoder.decode',
    lambda codec, codes, **_: np.zeros((len(codes), 480 * codes.shape[1])),
  )
  music = make(generator, rows=3, seconds=1.13)
  np.testing.assert_array_equal(
    music.acoustic[..., 2:], music.acoustic[..., :2] + 100
  )


def test_the_unconditional_model_reads_no_prompt(generator):
  one, two = (
    make(generator, tokens, seconds=0.5, mulan_levels=0)
    for tokens in (mulan(), 15 - mulan())
  )
  np.testing.assert_array_equal(one.acoustic, two.acoustic)


def test_guidance_does_nothing_where_no_prompt_is_read(generator):
  plain, guided = (
    make(generator, seconds=0.3, mulan_levels=0, guidance=scale)
    for scale in (1.0, 8.0)
  )
  np.testing.assert_array_equal(plain.acoustic, guided.acoustic)


def test_guidance_changes_the_music(generator):
  plain, guided = (
    make(generator, seconds=0.3, guidance=scale) for scale in (1.0, 8.0)
  )
  assert (plain.semantic != guided.semantic).any()


@pytest.mark.parametrize('limit', [{'top_k': 1}, {'top_p': 0.0}])
def test_one_code_to_draw_from_is_the_likeliest(generator, limit):
  """Of each stage by itself."""
  ((name, value),) = limit.items()
  stages = ('semantic', 'coarse', 'fine')
  cold = make(generator, **{f'temperature_{s}': 0.0 for s in stages})
  limited = make(generator, **{f'{name}_{s}': value for s in stages})
  np.testing.assert_array_equal(cold.semantic, limited.semantic)
  np.testing.assert_array_equal(cold.acoustic, limited.acoustic)
  free = make(generator, **{f'{name}_fine': value})
  assert (free.semantic != cold.semantic).any()


def test_nothing_is_louder_than_full_scale():
  """Each sample by itself, so that a stream is what the whole is."""
  waveform = np.linspace(-3, 3, 6001)[None]
  limited = limit(waveform)
  assert np.abs(limited).max() <= 1.0 and limited.dtype == np.float32
  assert (np.diff(limited) >= 0).all(), 'bent, not folded'
  quiet = np.abs(waveform) <= 0.9
  np.testing.assert_allclose(limited[quiet], waveform[quiet], atol=1e-7)
  assert np.abs(np.diff(limited)).max() <= np.diff(waveform).max() + 1e-6
  np.testing.assert_array_equal(limit(waveform[:, 7:9]), limited[:, 7:9])


def test_progress_counts_the_tokens_of_each_stage(generator):
  events = []
  generator.generate(
    Conditioning(mulan(2)),
    seconds=1.0,
    seed=0,
    sampling=SAMPLING,
    progress=events.append,
  )
  last = {event.stage: event for event in events}
  assert list(last) == ['semantic', 'coarse', 'fine', 'decoding']
  assert all(event.done == event.total for event in last.values())
  totals = [event.total for event in last.values()]
  assert totals == [2 * 25, 2 * 50 * 2, 2 * 50 * 2, 50]
  assert len([e for e in events if e.stage == 'semantic']) > 2


def test_an_interrupted_generation_goes_on_with_the_windows_it_has(
  generator, tmp_path, monkeypatch
):
  expected = make(generator, seconds=1.5)
  begin, made, limits = Sampler.begin, [], [4]

  def interrupted(self, *arguments, **rest):
    if len(made) == limits[0]:
      raise KeyboardInterrupt
    made.append(stage_of(self))
    return begin(self, *arguments, **rest)

  def run():
    with KeptParts(tmp_path / 'kept', 'a') as kept:
      return make(generator, seconds=1.5, keep=kept)

  monkeypatch.setattr(Sampler, 'begin', interrupted)
  with pytest.raises(KeyboardInterrupt):
    run()
  first, made[:], limits[0] = list(made), [], -1
  music = run()
  assert first.count('semantic') > 1 and 'semantic' not in made
  for field in dataclasses.fields(music):
    np.testing.assert_array_equal(
      getattr(music, field.name), getattr(expected, field.name)
    )
  assert not (tmp_path / 'kept').exists()


@pytest.mark.parametrize('frames', [7, 60, 61, 145])
def test_blocks_whose_state_is_carried_equal_the_whole(tiny, frames, tmp_path):
  codec, events = tiny.networks['soundstream'], []
  codes = np.random.default_rng(0).integers(16, size=(2, frames, 4))
  whole = decode(codec, codes)
  assert np.abs(whole).max() > 1e-3

  def dies(part, make):
    if part == 'decoded from 30':
      raise KeyboardInterrupt
    return kept(part, make)

  if frames > 30:  # and after an interruption
    with (
      pytest.raises(KeyboardInterrupt),
      KeptParts(tmp_path / 'kept', 'a') as kept,
    ):
      decode(codec, codes, block_frames=30, keep=dies)
  with KeptParts(tmp_path / 'kept', 'a') as kept:
    assert ('decoded from 0' in kept) == (frames > 30)
    blocks = decode(
      codec, codes, block_frames=30, keep=kept, progress=events.append
    )
  assert blocks.shape == whole.shape == (2, frames * 480)
  np.testing.assert_allclose(blocks, whole, atol=1e-5)
  assert events[-1].done == events[-1].total == frames


def test_a_stage_alone_makes_what_it_makes_in_the_cascade(generator):
  music = make(generator, seconds=1.0, seed=3)
  options = {'frames': 50, 'seed': 3, 'sampling': SAMPLING}
  prompt = Conditioning(mulan())
  semantic = generator.make_stage('semantic', prompt, **options)[..., 0]
  np.testing.assert_array_equal(semantic, music.semantic)
  coarse = generator.make_stage('coarse', prompt, semantic, **options)
  np.testing.assert_array_equal(coarse, music.acoustic[..., :2])
  fine = generator.make_stage('fine', prompt, coarse, **options)
  np.testing.assert_array_equal(fine, music.acoustic[..., 2:])
  with pytest.raises(UsageError, match=r'must see 0\.4 s'):
    generator.make_stage('coarse', prompt, semantic[:, :5], **options)


def begin_piece(generator, rows=1, seconds=1.5, **changes):
  return generator.piece(
    Conditioning(mulan(rows)),
    seconds=seconds,
    seed=0,
    sampling=SAMPLING.changed(changes),
  )


@pytest.mark.parametrize('rows', [1, 2])
@pytest.mark.parametrize('guidance', [1.0, 3.0])
def test_what_is_heard_while_it_is_made_is_the_whole(
  generator, rows, guidance, drawn
):
  """Bit for bit: chunks go through the same programs on the same rows."""
  whole = make(generator, rows, seconds=2.53, guidance=guidance)
  drawn.clear()
  piece = begin_piece(generator, rows, seconds=2.53, guidance=guidance)
  chunks, stages = [], []
  for chunk in piece:
    chunks.append(chunk)
    stages.append([name for name, *_ in drawn])
  assert [chunk.shape[1] for chunk in chunks] == [24000, 24000, 12720]
  np.testing.assert_array_equal(np.concatenate(chunks, 1), whole.waveform)
  for stream, codes in piece.tokens().items():
    np.testing.assert_array_equal(codes, getattr(whole, stream))
  # The first second waits for no more than it reads.
  assert 0 < stages[0].count('semantic') < stages[-1].count('semantic')
  assert 0 < stages[0].count('coarse') < stages[-1].count('coarse')


def test_a_change_while_it_is_heard_changes_what_comes(generator):
  whole = make(generator, seconds=3.0, guidance=8.0)
  piece = begin_piece(generator, seconds=3.0, guidance=8.0)
  chunks = iter(piece)
  heard = [next(chunks)]
  second = piece.change(15 - mulan(), SAMPLING.changed({'guidance': 12.0}))
  assert 1.0 <= second < 2.5, 'little is made before it is heard'
  heard += chunks
  waveform, tokens = np.concatenate(heard, 1), piece.tokens()
  assert waveform.shape == whole.waveform.shape
  at = round(second * 25)
  np.testing.assert_array_equal(
    tokens['semantic'][:, :at], whole.semantic[:, :at]
  )
  assert (tokens['semantic'][:, at:] != whole.semantic[:, at:]).any()
  np.testing.assert_array_equal(waveform[:, :24000], whole.waveform[:, :24000])
  assert (waveform[:, 48000:] != whole.waveform[:, 48000:]).any()


def test_a_stream_that_changes_nothing_is_the_whole_in_other_windows(generator):
  """A change to the same goes on: no frame is lost, made twice or moved."""
  piece = begin_piece(generator, seconds=2.0)
  chunks = iter(piece)
  heard = [next(chunks)]
  piece.change(sampling=SAMPLING)
  heard += chunks
  assert np.concatenate(heard, 1).shape == (1, 48000)
  tokens = piece.tokens()
  assert tokens['semantic'].shape == (1, 50)
  assert tokens['acoustic'].shape == (1, 100, 4)
