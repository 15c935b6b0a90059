"""Cascade gates: unconditioned, repeating and insane models are told apart."""

import dataclasses

import numpy as np
import pytest

from experiments.tiny_cascade import cascade_checks, gates
from experiments.tiny_cascade.music import ClipStatistics

FAMILIES = [name for name in ('piano', 'organ', 'brass', 'guitar') * 4]
GOOD = ClipStatistics(True, 0.9, -18.0, 0.01, 6, 3.0)


def unit(x):
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


def scores(strength, bias=0.0, seed=0):
  rng = np.random.default_rng(seed)
  text = unit(rng.normal(size=(16, 32)))
  common = unit(text.sum(axis=0))
  noise = rng.normal(size=(16, 2, 32)) * 0.2
  audio = unit(strength * text[:, None] + noise + bias * common)
  free = unit(rng.normal(size=(32, 32)))
  return cascade_checks.PromptScores.measure(text, audio, free)


def test_a_model_that_follows_its_prompts_passes():
  assert scores(0.5).gate().passed


def test_a_model_that_ignores_its_prompts_fails():
  assert not scores(0.0).gate().passed


def test_clips_that_please_every_prompt_fail_against_shuffled_prompts():
  gate = scores(0.0, bias=3.0).gate()
  assert gate.conditions['above unconditional model']
  assert not gate.conditions['above shuffled prompts'] and not gate.passed


def named(share, seed=0):
  rng = np.random.default_rng(seed)
  return [
    [f if rng.random() < share else rng.choice(FAMILIES[:4]) for _ in range(2)]
    for f in FAMILIES
  ]


def family_gate(own, qualified=True):
  rng = np.random.default_rng(5)
  free = rng.choice(FAMILIES[:4], 32)
  hits = cascade_checks.FamilyHits.measure(FAMILIES, own, free)
  return hits.gate(classifier_qualified=qualified)


def test_prompted_families_that_are_recognised_pass():
  assert family_gate(named(0.9)).passed


def test_a_model_that_always_plays_the_piano_fails():
  assert not family_gate([['piano', 'piano']] * 16).passed


def test_an_unqualified_classifier_fails_the_gate_and_is_named():
  gate = family_gate(named(0.9), qualified=False)
  assert not gate.passed and gate.stage == 'evaluate'
  assert not gate.conditions['the family classifier is qualified']


def clips(bad=0, **changes):
  worse = dataclasses.replace(GOOD, **changes)
  flat = [worse] * bad + [GOOD] * (32 - bad)
  return [flat[i : i + 2] for i in range(0, 32, 2)]


def test_music_needs_pitches_and_onsets_in_most_clips():
  different = np.full(16, 0.1)
  assert cascade_checks.music_gate(clips(), different).passed
  assert cascade_checks.music_gate(
    clips(4, distinct_pitches=1), different
  ).passed
  for change in ({'distinct_pitches': 2}, {'onsets_per_second': 0.4}):
    gate = cascade_checks.music_gate(clips(8, **change), different)
    assert not gate.passed


def test_two_seeds_that_give_the_same_music_fail():
  tokens = np.random.default_rng(0).integers(0, 9, (16, 250))
  same = cascade_checks.equal_tokens(tokens, tokens)
  assert not cascade_checks.music_gate(clips(), same).passed


@pytest.mark.parametrize(
  'change',
  [
    {'finite': False},
    {'peak': 1.2},
    {'rms_dbfs': -45.0},
    {'rms_dbfs': -3.0},
    {'flatness': 0.6},
  ],
)
def test_one_insane_clip_fails(change):
  assert cascade_checks.sane_gate(clips()).passed
  assert not cascade_checks.sane_gate(clips(1, **change)).passed


def test_every_gate_must_be_there_once():
  row = [gates.make(name, 1.0, 0.0, {'x': True}) for name in gates.STAGE_OF]
  assert [g.name for g in gates.in_order(row[::-1])] == list(gates.STAGE_OF)
  with pytest.raises(ValueError, match='audio_sane'):
    gates.in_order(row[:-1])
  with pytest.raises(ValueError, match='codec_usage'):
    gates.in_order([*row, gates.make('codec_usage', 1.0, 0.0, {'x': True})])
