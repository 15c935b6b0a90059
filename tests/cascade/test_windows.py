"""Windows and chunks: every frame made exactly once, always of one shape."""

import itertools

import pytest

from musiclm_jax.cascade.windows import chunks, windows


@pytest.mark.parametrize('crop', [2, 5, 20, 125])
@pytest.mark.parametrize('total', [1, 2, 5, 19, 20, 21, 126, 777])
def test_windows_join_and_see_no_more_than_a_crop(total, crop):
  """Mistakes 28 and 35: prefixes counted once, windows of the crop's length."""
  plan = windows(total, crop)
  assert (plan[0].start, plan[0].prefix) == (0, 0)
  for before, after in itertools.pairwise(plan):
    assert after.start + after.prefix == before.end
    assert after.prefix > 0 and after.frames > 0
    assert after.prefix + after.frames == crop
    # What conditions a later window is a whole crop, none of it beyond.
    assert after.start + crop <= total
  assert plan[-1].end == total
  assert plan[0].frames <= crop
  assert len({(w.prefix, w.frames) for w in plan}) <= 2


@pytest.mark.parametrize('crop', [2, 5, 20])
@pytest.mark.parametrize('total', [5, 20, 21, 126])
@pytest.mark.parametrize('begun', [0, 1, 4])
@pytest.mark.parametrize('cuts', [(), (3,), (0, 4, 5, 60, 126)])
def test_windows_begin_to_add_where_they_shall(crop, total, begun, cuts):
  plan = windows(total, crop, begun, cuts)
  adds = [window.start + window.prefix for window in plan]
  assert adds[0] == begun and plan[-1].end == total
  assert {cut for cut in cuts if begun <= cut < total} <= set(adds)
  for before, after in itertools.pairwise(plan):
    assert after.start + after.prefix == before.end
  for window in plan:
    assert window.start >= 0 and window.frames > 0
    assert window.prefix + window.frames <= crop
    # As much of what is there as the crop has room for.
    at = window.start + window.prefix
    assert window.prefix == min(at, crop - window.frames)
    assert window.start + crop <= max(total, crop)


def test_a_semantic_window_advances_by_half_a_crop():
  """The paper's 30 s windows advance by 15 s (MusicLM section 6)."""
  plan = windows(60 * 25, 750)
  assert [(w.start, w.prefix, w.frames) for w in plan] == [
    (0, 0, 750),
    (375, 375, 375),
    (750, 375, 375),
  ]


@pytest.mark.parametrize('crop', [1, 5, 75])
@pytest.mark.parametrize('total', [1, 5, 74, 75, 76, 151, 500])
@pytest.mark.parametrize('begun', [0, 3])
def test_chunks_cover_each_frame_once_without_padding(total, crop, begun):
  total += begun
  plan = chunks(total, crop, begun)
  covered = []
  for chunk in plan:
    assert chunk.start >= 0 and chunk.end <= total
    assert chunk.prefix + chunk.frames == min(crop, total)
    covered += range(chunk.start + chunk.prefix, chunk.end)
  assert covered == list(range(begun, total))
