"""Claims on composed music: what it holds; it is true, in tune, audible."""

import dataclasses
import functools
import itertools
import json
from collections import Counter

import numpy as np
import pytest

from musiclm_jax.rendered_music import (
  composer,
  forms,
  performer,
  programs,
  room,
  splits,
  styles,
  synthesis,
  theory,
  truth,
)

SEED = 5
SAMPLE_RATE = 24_000


@functools.cache
def _scores(split: str = 'train', count: int = 150):
  return tuple(composer.compose(SEED, split, i) for i in range(count))


@functools.cache
def _played(index: int):
  score = composer.compose(SEED, 'train', index)
  return score, performer.perform(score)


PLAYED = tuple(range(8))


def test_styles_leads_and_metres_are_many():
  leads = [p for family in programs.LEADS.values() for p in family]
  assert len(leads) >= 32 and len(programs.LEAD_FAMILIES) == 8
  assert len(styles.STYLES) >= 12 and len(theory.MODES) == 4
  assert len(room.ROOMS) == 4
  scores = _scores()
  assert {len(s.parts) for s in scores} == set(range(1, 9))
  assert {s.metre for s in scores} == {'3/4', '4/4', '6/8'}
  assert {s.mode for s in scores} == set(theory.MODES)
  assert {s.tonic for s in scores} == set(range(12))
  assert {s.key.split()[-1] for s in scores} == {'major', 'minor'}
  assert {s.parts[0].program.family for s in scores} == set(
    programs.LEAD_FAMILIES
  )
  assert {s.style.name for s in scores} == {s.name for s in styles.STYLES}
  assert {s.ending for s in scores} == {'hold', 'ritard', 'fade', 'cut'}
  assert {s.form for s in scores} == set(forms.FORMS)


def test_grooves_fill_their_bars():
  for style in styles.STYLES:
    for metre, groove in style.drums.items():
      steps = theory.STEPS_PER_BEAT[metre] * theory.BEATS_PER_BAR[metre]
      assert all(len(pattern) == steps for pattern in groove.values()), style


def test_tempo_is_log_uniform_and_independent_of_the_lead():
  scores = _scores()
  bpm = np.array([s.bpm for s in scores])
  assert bpm.min() >= 60 and bpm.max() <= 180
  quarters = np.quantile(np.log(bpm / 60) / np.log(3), (0.25, 0.5, 0.75))
  np.testing.assert_allclose(quarters, (0.25, 0.5, 0.75), atol=0.12)
  families = np.array([s.parts[0].program.family for s in scores])
  means = [np.log(bpm[families == f]).mean() for f in set(families)]
  assert np.std(means) < 0.5 * np.log(bpm).std()


def test_pieces_last_60_to_120_seconds_and_sections_return_varied():
  transposed = 0
  for score in _scores():
    seconds = score.bars * score.beats_per_bar * 60 / score.bpm
    assert 60 <= seconds <= 117
    assert any(s.turn > 0 for s in score.sections)
    transposed += any(s.transpose for s in score.sections)
  assert 0.15 < transposed / len(_scores()) < 0.45


def test_returns_share_the_theme_but_not_every_note():
  score = next(
    s
    for s in _scores()
    if any(x.label in 'AB' and x.turn == 1 for x in s.sections)
  )
  again = next(x for x in score.sections if x.label in 'AB' and x.turn == 1)
  first = next(x for x in score.sections if x.label == again.label)
  assert (first.loop, first.motif) == (again.loop, again.motif)
  size = score.beats_per_bar

  def notes(section):
    begin = section.start_bar * size
    return {
      (round(n[0] - begin, 3), n[2] - section.transpose)
      for n in score.melody
      if begin <= n[0] < begin + section.bars * size
    }

  shared = len(notes(first) & notes(again)) / len(notes(first) | notes(again))
  assert 0.2 < shared < 1.0


def test_splits_share_no_piece_seed_and_no_theme():
  themes = {
    split: {
      (section.loop, section.motif)
      for score in _scores(split, 60)
      for section in score.sections
    }
    for split in splits.SPLITS
  }
  assert not themes['train'] & themes['validation']
  assert not themes['train'] & themes['test']
  assert not themes['validation'] & themes['test']
  firsts = [composer.compose(SEED, s, 0).melody for s in splits.SPLITS]
  assert len(set(firsts)) == 3


def test_same_seed_and_index_sound_the_same():
  score, played = _played(0)
  again = performer.perform(composer.compose(SEED, 'train', 0))
  np.testing.assert_array_equal(played.waveform, again.waveform)
  assert truth.describe(score, played) == truth.describe(score, again)
  other = composer.compose(SEED + 1, 'train', 0)
  assert other.melody != score.melody


def test_part_sounds_the_same_whatever_was_played_before():
  """Programs that share samples do not change each other."""
  notes = np.array([[0.5 * i, 0.4, 50 + 2 * i, 90] for i in range(8)])
  for first, second in ((0, 1), (40, 41), (48, 49), (88, 89)):
    alone = synthesis.render(notes, second, False, 5 * SAMPLE_RATE)
    synthesis.render(notes, first, False, 5 * SAMPLE_RATE)
    after = synthesis.render(notes, second, False, 5 * SAMPLE_RATE)
    np.testing.assert_array_equal(alone, after)


@pytest.mark.parametrize('program', [0, 24, 56, 80])
def test_nothing_sounds_that_is_not_in_the_notes(program):
  """What makes the synthesizer go on to the end is not heard."""
  note = np.array([[0.5, 0.3, 64, 90]])
  sound = synthesis.render(note, program, False, 4 * SAMPLE_RATE)
  assert np.abs(sound[: SAMPLE_RATE // 2]).max() == 0
  assert np.abs(sound[3 * SAMPLE_RATE :]).max() < 1e-3


@pytest.mark.parametrize('index', PLAYED)
def test_a_piece_has_rung_out_at_its_end(index):
  _, played = _played(index)
  last = played.waveform[-SAMPLE_RATE // 5 :]
  assert np.abs(last).max() < 0.01 * np.abs(played.waveform).max()


@pytest.mark.parametrize('index', PLAYED)
def test_lead_is_audible_and_nothing_clips(index):
  _, played = _played(index)
  assert np.isfinite(played.waveform).all()
  assert np.abs(played.waveform).max() <= room.PEAK + 1e-6
  over = played.lead_over_rest_db[np.isfinite(played.lead_over_rest_db)]
  assert (over >= 3.0).mean() >= 0.5


@pytest.mark.parametrize('index', PLAYED[:4])
def test_loudness_is_what_was_asked_for_unless_it_would_clip(index):
  score, played = _played(index)
  reached = room.integrated_loudness(played.powers)
  assert reached <= score.mix.loudness + 0.6
  if np.abs(played.waveform).max() < 0.6:
    assert abs(reached - score.mix.loudness) < 0.6


def test_loudness_meter_agrees_with_the_standard():
  """A full-scale 997 Hz sine reads -3.01 LUFS (BS.1770-4)."""
  sine = np.sin(2 * np.pi * 997 * np.arange(5 * SAMPLE_RATE) / SAMPLE_RATE)
  reading = room.integrated_loudness(room.block_powers(sine))
  assert abs(reading + 3.01) < 0.05


def test_near_silence_is_rare_and_nearly_silent():
  shares = [s.mix.near_silence for s in _scores()]
  assert 0 < np.mean(shares) < 0.08
  score = _scores()[0]
  quiet = dataclasses.replace(
    score, mix=dataclasses.replace(score.mix, near_silence=True, loudness=-65.0)
  )
  played = performer.perform(quiet)
  assert 0 < np.sqrt(np.square(played.waveform).mean()) < 2e-3
  audible = truth.audible(truth.describe(quiet, played), 5.0, 15.0)
  assert audible['near_silence'] and not audible['instruments']
  assert audible['lead_family'] is None


def _cents(sound: np.ndarray, hertz: float) -> float:
  """Deviation of a steady tone from `hertz`, by autocorrelation."""
  from scipy.interpolate import CubicSpline

  sound = sound - sound.mean()
  count, periods = len(sound), 8
  spectrum = np.fft.rfft(sound, 2 * count)
  auto = np.fft.irfft(np.abs(spectrum) ** 2)[:count]
  auto /= count - np.arange(count)
  lag = periods * SAMPLE_RATE / hertz
  edges = lag * 2 ** (-50 / 1200), lag * 2 ** (50 / 1200)
  lags = np.arange(int(edges[0]) - 2, int(edges[1]) + 3)
  fine = np.linspace(*edges, 1000)
  best = fine[CubicSpline(lags, auto[lags])(fine).argmax()]
  return 1200 * np.log2(lag / best)


@pytest.mark.parametrize('family', programs.LEAD_FAMILIES)
def test_instruments_are_in_tune(family):
  for program in programs.LEADS[family]:
    off = []
    for pitch in range(program.low, program.high + 1, 5):
      note = np.array([[0.0, 0.9, pitch, 96]])
      sound = synthesis.render(note, program.number, False, SAMPLE_RATE)
      assert np.abs(sound).max() > 1e-3, (program.name, pitch)
      hertz = 440 * 2 ** ((pitch - 69) / 12)
      off.append(abs(_cents(sound[3600:14400], hertz)))
    assert np.median(off) < 12 and max(off) < 25, (program.name, off)


def test_truth_is_json_and_says_what_sounds():
  score, played = _played(1)
  record = json.loads(json.dumps(truth.describe(score, played)))
  assert len(record['chords']) == len(record['beats'])
  assert len(record['bars']) == score.bars
  spans = [(s['start'], s['end']) for s in record['sections']]
  assert all(a[1] == b[0] for a, b in itertools.pairwise(spans))
  seconds = record['seconds']
  assert 0 <= record['melody'][0][0] <= record['melody'][-1][0] < seconds
  onset = np.array([n[0] for n in record['melody']])
  rises = np.abs(np.diff(onset))
  assert rises.max() < 25  # the lead plays on
  for part in record['parts']:
    assert len(part['levels']) == int(np.ceil(seconds / 0.5))


@pytest.mark.parametrize('index', PLAYED)
def test_audible_names_no_part_that_is_silent_in_the_crop(index):
  score, played = _played(index)
  record = truth.describe(score, played)
  for start in range(0, int(record['seconds']) - 10, 10):
    audible = truth.audible(record, start, start + 10.0)
    for name in audible['instruments']:
      part = next(p for p in record['parts'] if p['name'] == name)
      at = [p['name'] for p in record['parts']].index(part['name'])
      times = played.notes[at][:, 0], played.notes[at][:, :2].sum(axis=1)
      assert ((times[0] < start + 10.5) & (times[1] > start - 0.5)).any()


def test_beats_are_even_apart_from_the_ending():
  score, played = _played(2)
  steps = np.diff(played.beats)[: -2 * score.beats_per_bar]
  np.testing.assert_allclose(steps, 60 / score.bpm, rtol=1e-6)


def test_timing_stays_within_ten_milliseconds():
  score, played = _played(3)
  straight = dataclasses.replace(score, timing=0.0)
  exact = performer.perform(straight)
  for moved, still in zip(played.notes, exact.notes, strict=True):
    assert np.abs(moved[:, 0] - still[:, 0]).max(initial=0.0) <= 0.0101


def test_parts_are_as_many_kinds_as_styles_dictate():
  band = Counter(p.role for s in _scores() for p in s.parts)
  assert {'lead', 'bass', 'drums', 'chords', 'pad', 'arpeggio', 'counter'} <= (
    band.keys()
  )
  for score in _scores():
    families = [p.program.family for p in score.parts if p.program]
    assert families.count(families[0]) == 1  # nobody doubles the lead
