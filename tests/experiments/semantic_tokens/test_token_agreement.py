"""What two takes share is told apart from what all takes share."""

import numpy as np
import pytest

from experiments.semantic_tokens import token_agreement

PIECES, FRAMES, K = 12, 200, 50
GROUPS = [i % 3 for i in range(PIECES)]
AUDIBLE = np.ones((PIECES, FRAMES), bool)


def tokens(seed, levels=1):
  return np.random.default_rng(seed).integers(0, K, (PIECES, FRAMES, levels))


def test_planted_share_is_found_at_its_level():
  rng = np.random.default_rng(9)
  first, second = tokens(0, 2), tokens(1, 2)
  same = rng.random((PIECES, FRAMES)) < 0.4
  second[same, 0] = first[same, 0]
  found = token_agreement.measure(first, second, AUDIBLE, GROUPS)
  assert found[0].corrected() == pytest.approx(0.4, abs=0.03)
  assert found[1].corrected() == pytest.approx(0.0, abs=0.02)
  assert found[0].kept.mean() == pytest.approx(0.4 + 0.6 / K, abs=0.03)
  both = token_agreement.mean_of(found)
  assert both.difference() == pytest.approx(0.2, abs=0.02)
  bounds = token_agreement.interval(found[0])
  assert bounds.low < bounds.value < bounds.high
  assert bounds.high - bounds.low < 0.1


def test_tokens_that_name_the_instruments_keep_nothing():
  """Equal in every frame, but so are those of any other piece."""
  named = np.tile(np.array(GROUPS)[:, None, None], (1, FRAMES, 1))
  noise = tokens(2)
  few = np.random.default_rng(3).random(named.shape) < 0.1
  (found,) = token_agreement.measure(
    named, np.where(few, noise, named), AUDIBLE, GROUPS
  )
  assert found.kept.mean() > 0.85
  assert abs(found.corrected()) < 0.05


def test_frames_without_a_note_do_not_count():
  first, second = tokens(4), tokens(5)
  audible = AUDIBLE.copy()
  audible[:, 100:] = False
  second[:, 100:] = first[:, 100:]
  (found,) = token_agreement.measure(first, second, audible, GROUPS)
  assert found.kept.mean() < 0.05


def test_ratio_is_of_corrected_shares_and_unbounded_by_chance():
  def planted(share):
    return token_agreement.Agreement(
      np.full(PIECES, 0.1 + 0.9 * share), np.full(PIECES, 0.1)
    )

  assert token_agreement.ratio(planted(0.6), planted(0.2)).low == pytest.approx(
    3.0
  )
  assert token_agreement.ratio(planted(0.6), planted(0.0)).value == np.inf


def test_tokens_that_are_all_alike_keep_nothing():
  same = np.zeros((PIECES, FRAMES, 1), int)
  (found,) = token_agreement.measure(same, same, AUDIBLE, GROUPS)
  assert found.corrected() == 0.0
  assert token_agreement.ratio(found, found).value == 0.0


def test_a_piece_alone_on_its_instruments_is_refused():
  with pytest.raises(ValueError, match='two pieces or more on 7'):
    token_agreement.measure(
      tokens(0), tokens(1), AUDIBLE, [7, *([0] * (PIECES - 1))]
    )
