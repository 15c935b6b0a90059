"""Text scores: chance is what the prompts of other clips would give."""

import pytest

from musiclm_jax.evaluation import scores
from musiclm_jax.evaluation.inputs import EvaluationInputs
from musiclm_jax.evaluation.results import Results

STATED = {
  'a slow waltz': {'style': 'waltz', 'tempo': 'slow'},
  'fast techno': {'style': 'techno', 'tempo': 'fast'},
  'fast': {'tempo': 'fast'},
}


def test_chance_is_over_the_other_prompts_that_state_something():
  chance = scores._chance
  assert chance('fast', 'a slow waltz', 'tempo', STATED) == 1.0
  assert chance('fast', 'fast', 'tempo', STATED) == 0.5
  assert chance('waltz', 'fast techno', 'style', STATED) == 1.0
  assert chance('piano', 'fast', 'family', STATED) is None


def test_heads_are_put_together_clip_by_clip():
  heard = [
    scores._Heard('a', 'x', 1.0, 0.5),
    scores._Heard('a', 'x', 0.0, 0.1),
    scores._Heard('b', 'y', 1.0, None),
  ]
  one, other = scores._over_heads(heard)
  assert (one.clip, one.hit) == ('a', 0.5) and one.chance == pytest.approx(0.3)
  assert (other.hit, other.chance) == (1.0, None)
  results = Results()
  scores._add_agreement(
    EvaluationInputs(), results, 'planted', [one, other], remarks=[]
  )
  assert results.figures['text_score_planted'] == pytest.approx(0.75)
  assert results.figures[
    'text_score_above_mismatched_planted'
  ] == pytest.approx(0.2)
  assert results.details['text_score_planted']['mismatched'] == pytest.approx(
    0.3
  )
