"""The probe finds planted notes and no other; timbre is told from notes."""

import numpy as np
import pytest

from experiments.tiny_cascade import gates, semantic_checks
from experiments.tiny_cascade.semantic_checks import ProbedFrames
from musiclm_jax.metrics import bootstrap, probe

PITCHES, CHORDS = 12, 24


def frames(seed, pieces, strength):
  """Frames of which ours know as much as `strength`, `deaf` nothing."""
  rng = np.random.default_rng(seed)
  count = 16 * pieces
  truth = {
    'lead_pitch': rng.integers(0, PITCHES, count),
    'chord': rng.integers(0, CHORDS, count),
    'onset': rng.integers(0, 2, count),
  }
  truth['lead_pitch'][::5] = probe.NO_LABEL
  planted = np.concatenate(
    [
      np.eye(PITCHES)[truth['lead_pitch']],
      np.eye(CHORDS)[truth['chord']],
      truth['onset'][:, None],
    ],
    axis=1,
  )
  noise = rng.standard_normal((2, *planted.shape))
  return ProbedFrames(
    np.repeat(np.arange(pieces), 16),
    truth,
    {'w2v_bert': strength * planted + noise[0], 'deaf': noise[1]},
  )


def probed(strength):
  return semantic_checks.frame_probes(
    frames(0, 60, strength), frames(1, 30, strength)
  )


def about(value, spread=0.1):
  return bootstrap.Interval(value, value - spread, value + spread)


def test_frames_that_know_the_notes_pass():
  found = probed(8.0)
  gate = semantic_checks.probe_gate(found['w2v_bert'], about(3.0))
  assert gate.passed, found
  for task, chance in semantic_checks.CHANCE.items():
    assert abs(found['deaf'][task].value - chance) < 0.1, task


def test_frames_that_know_nothing_are_a_fault_of_the_machinery():
  known = {task: about(0.95, 0.01) for task in semantic_checks.TASKS}
  gate = semantic_checks.probe_gate(
    known | {'lead_pitch': about(1 / 12, 0.02)}, about(3.0)
  )
  assert not gate.passed and gate.kind == gates.MACHINERY


@pytest.mark.parametrize(
  ('change', 'words'),
  [
    ({'lead_pitch': 0.7}, "the lead's pitch class in >= 75 % of frames"),
    ({'chord': 0.4}, 'the chord in >= 40 % of frames'),
    ({'onset': 0.75}, 'onsets with an AUC >= 0.8'),
  ],
)
def test_each_kind_of_note_must_be_known(change, words):
  known = {'lead_pitch': 0.9, 'chord': 0.6, 'onset': 0.95} | change
  gate = semantic_checks.probe_gate(
    {task: about(value, 0.05) for task, value in known.items()}, about(3.0)
  )
  assert gate.kind == gates.SIZE
  assert [w for w, holds in gate.conditions.items() if not holds] == [words]


def test_tokens_that_change_with_the_instrument_fail():
  known = {task: about(0.95, 0.01) for task in semantic_checks.TASKS}
  assert semantic_checks.probe_gate(known, about(2.2)).passed
  assert not semantic_checks.probe_gate(known, about(2.05)).passed
