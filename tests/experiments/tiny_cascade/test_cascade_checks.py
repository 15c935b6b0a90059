"""Cascade gates: unconditioned, repeating and insane models are told apart."""

import dataclasses

import numpy as np
import pytest

from experiments.tiny_cascade import (
  cascade_checks,
  classifiers,
  gates,
  prompt_checks,
)
from experiments.tiny_cascade.music import ClipStatistics

FAMILIES = [name for name in ('piano', 'organ', 'brass', 'guitar') * 4]
GOOD = ClipStatistics(True, 0.9, -18.0, 0.01, 6, 3.0, 0.02)


def unit(x):
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


def scores(strength, bias=0.0, seed=0):
  rng = np.random.default_rng(seed)
  text = unit(rng.normal(size=(16, 32)))
  common = unit(text.sum(axis=0))
  noise = rng.normal(size=(16, 2, 32)) * 0.2
  audio = unit(strength * text[:, None] + noise + bias * common)
  free = unit(rng.normal(size=(32, 32)))
  return prompt_checks.PromptScores.measure(text, audio, free)


def prompt_gate(**strengths):
  return prompt_checks.prompt_gate(
    {name: scores(strength) for name, strength in strengths.items()}
  )


def test_a_model_that_follows_its_prompts_passes():
  assert prompt_gate(mulan=0.5, tagger=0.5).passed


@pytest.mark.parametrize('deaf', ['mulan', 'tagger'])
def test_a_model_that_pleases_one_embedder_only_fails(deaf):
  gate = prompt_gate(**{'mulan': 0.5, 'tagger': 0.5, deaf: 0.0})
  assert not gate.passed and gate.kind == gates.SIZE
  assert [w for w, holds in gate.conditions.items() if not holds] == [
    f'{deaf}: above unconditional model',
    f'{deaf}: above shuffled prompts',
  ]


def test_clips_that_please_every_prompt_fail_against_shuffled_prompts():
  gate = prompt_checks.prompt_gate({'mulan': scores(0.0, bias=3.0)})
  assert gate.conditions['mulan: above unconditional model']
  assert not gate.conditions['mulan: above shuffled prompts']


def named(share, seed=0):
  rng = np.random.default_rng(seed)
  return [
    [f if rng.random() < share else rng.choice(FAMILIES[:4]) for _ in range(2)]
    for f in FAMILIES
  ]


def worth(real=0.95, coded=0.93):
  """A classifier that is so often right, plain and coded."""
  return classifiers.qualify(
    'family',
    [real] * 32,
    [coded] * 32,
    range(32),
    chance=0.125,
    threshold=0.85,
  )


def family_gate(own, **accuracies):
  rng = np.random.default_rng(5)
  free = rng.choice(FAMILIES[:4], 32)
  hits = prompt_checks.ClassHits.measure(FAMILIES, own, free)
  return prompt_checks.family_gate(hits, worth(**accuracies))


def test_prompted_families_that_are_recognised_pass():
  assert family_gate(named(0.9)).passed


def test_a_model_that_always_plays_the_piano_fails():
  gate = family_gate([['piano', 'piano']] * 16)
  assert not gate.passed and gate.kind == gates.SIZE


def test_families_above_chance_do_not_suffice():
  gate = family_gate(named(0.5))
  assert gate.conditions['above shuffled prompts']
  assert not gate.conditions['>= 60 % of clips'] and not gate.passed


def test_a_codec_that_loses_the_timbre_fails_the_gate_and_is_named():
  gate = family_gate(named(0.9), coded=0.8)
  assert not gate.passed and gate.kind == gates.SIZE
  assert gate.stage == 'soundstream'


def test_an_unqualified_classifier_is_a_failure_of_the_evaluation():
  gate = family_gate(named(0.9), real=0.8, coded=0.8)
  assert not gate.passed and gate.stage == 'evaluate'
  assert gate.kind == gates.MACHINERY


def test_the_prompted_tempo_is_heard_or_not():
  tempi = ['slow', 'medium', 'fast', 'fast'] * 8
  free = ['medium', 'fast'] * 16
  for named_tempi, passed in (
    ([[tempo, tempo] for tempo in tempi], True),
    ([['fast', 'medium']] * 32, False),
  ):
    hits = prompt_checks.ClassHits.measure(tempi, named_tempi, free)
    assert prompt_checks.tempo_gate(hits, worth()).passed == passed


def clips(bad=0, **changes):
  worse = dataclasses.replace(GOOD, **changes)
  flat = [worse] * bad + [GOOD] * (32 - bad)
  return [flat[i : i + 2] for i in range(0, 32, 2)]


def music_gate(rows, agreement=None, ceiling=None):
  different = np.full(16, 0.1)
  return cascade_checks.music_gate(
    rows, ceiling or [GOOD] * 16, different if agreement is None else agreement
  )


def test_music_needs_pitches_and_onsets_as_often_as_the_ceiling():
  assert music_gate(clips()).passed
  assert music_gate(clips(1, distinct_pitches=1)).passed
  for change in ({'distinct_pitches': 2}, {'onsets_per_second': 0.4}):
    gate = music_gate(clips(8, **change))
    assert not gate.passed and gate.kind == gates.SIZE
  poor = [dataclasses.replace(GOOD, distinct_pitches=0)] * 16
  assert not music_gate(clips(), ceiling=poor).passed, 'nothing to compare'


def test_dead_air_fails_where_nobody_asked_for_silence():
  words = '<= 10 % of 100 ms frames below -60 dBFS'
  assert music_gate(clips(2, dead_share=0.4)).conditions[words]
  assert not music_gate(clips(16, dead_share=0.4)).conditions[words]


def test_two_seeds_that_give_the_same_music_are_a_fault_of_the_machinery():
  tokens = np.random.default_rng(0).integers(0, 9, (16, 250))
  same = cascade_checks.equal_tokens(tokens, tokens)
  gate = music_gate(clips(), same)
  assert not gate.passed and gate.kind == gates.MACHINERY


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
  gate = cascade_checks.sane_gate(clips(1, **change))
  assert not gate.passed
  broken = {'finite', 'peak'} & change.keys()
  assert gate.kind == (gates.MACHINERY if broken else gates.SIZE)


def test_every_gate_must_be_there_once():
  row = [gates.make(name, 1.0, 0.0, {'x': True}) for name in gates.STAGE_OF]
  assert [g.name for g in gates.in_order(row[::-1])] == list(gates.STAGE_OF)
  with pytest.raises(ValueError, match='audio_sane'):
    gates.in_order(row[:-1])
  with pytest.raises(ValueError, match='codec_usage'):
    gates.in_order([*row, gates.make('codec_usage', 1.0, 0.0, {'x': True})])
