"""Layouts of token LMs that are small enough for tests."""

from musiclm_jax.token_lm.layout import make_layout


def small_layout(stage, crop_seconds, **melody):
  """One of 12 x 16 MuLan, 16 semantic and 4 x 16 acoustic codes."""
  return make_layout(
    stage,
    crop_seconds=crop_seconds,
    mulan_levels=12,
    mulan_codebook_size=16,
    semantic_codebook_size=16,
    semantic_frame_rate=25.0,
    acoustic_levels=4,
    acoustic_codebook_size=16,
    acoustic_frame_rate=50.0,
    coarse_levels=2,
    **melody,
  )
