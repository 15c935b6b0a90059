"""Bits say of captions and crops what `captions.fits` says of them."""

import numpy as np
import pytest

from musiclm_jax.rendered_music import (
  captions,
  facts,
  programs,
  styles,
  theory,
  truth,
)


def _crops(count):
  """Crops alike enough for captions of one to be true of others."""
  rng = np.random.default_rng(0)

  def among(options):
    return options[rng.integers(len(options))]

  crops = []
  for _ in range(count):
    lead = among(programs.LEADS['brass'][:2])
    band = [
      n for n in ('drums', 'electric bass', 'viola') if rng.random() < 0.7
    ]
    major, tempo = bool(rng.integers(2)), among(('slow', 'medium', 'fast'))
    leads = rng.random() < 0.8
    crops.append(
      {
        'style': among(styles.STYLES[:2]).name,
        'bpm': among((88.0, 88.4, 96.3)),
        'tempo_class': tempo,
        'key': theory.key_name(2, 'major' if major else 'dorian'),
        'mode': among(('major', 'dorian')),
        'metre': among(('3/4', '4/4')),
        'mood': truth.MOODS[major, tempo][0],
        'brightness': among(('dark', 'neutral', 'bright')),
        'loudness': among(('soft', 'moderate', 'loud')),
        'density': among(('sparse', 'moderate', 'busy')),
        'lead_family': lead.family if leads else None,
        'lead_program': lead.name if leads else None,
        'instruments': (*([lead.name] if leads else []), *band),
        'families': (),
        'texture': among(('solo', 'ensemble')),
        'near_silence': rng.random() < 0.05,
      }
    )
  return crops


def _true(claims, found):
  return bool(claims.any()) and not (claims & ~found).any()


def test_bits_agree_with_what_fits():
  rng, crops = np.random.default_rng(1), _crops(60)
  written = [captions.write(crop, 'train', rng) for crop in crops for _ in 'ab']
  bits = [facts.of_crop(crop) for crop in crops]
  expected = [
    [captions.fits(c.stated, crop) for crop in crops] for c in written
  ]
  found = [
    [_true(facts.of_caption(c.stated), crop) for crop in bits] for c in written
  ]
  np.testing.assert_array_equal(found, expected)
  # Beside the crops that captions were written on there are some others.
  assert 200 < np.sum(expected) - len(written) < np.size(expected) / 2


def test_every_single_claim_is_told_from_every_other():
  """All values that a caption may state, of all attributes."""
  stated = [
    {name: (value,) if name == 'others' else value}
    for name, values in facts._VALUES.items()
    for value in values
    if name != 'near_silence'
  ]
  rows = np.stack([facts.of_caption(claim) for claim in stated])
  assert rows.dtype == np.int32
  assert rows.shape == (len(stated), facts.num_words())
  bits = np.unpackbits(rows.view(np.uint8), axis=1)
  np.testing.assert_array_equal(bits @ bits.T, np.eye(len(stated)))


def test_what_nobody_knows_is_true_of_nothing():
  audible = _crops(1)[0] | {'near_silence': False}
  crop = facts.of_crop(audible)
  silence = facts.of_crop(audible | {'near_silence': True})
  for claims in (facts.of_caption(None), facts.of_crop(None)):
    assert not claims.any()
    assert not _true(claims, crop)
  assert _true(facts.of_caption({}), silence)
  assert not _true(facts.of_caption({}), crop)
  assert not _true(facts.of_caption({'bpm': 96.0}), facts.of_crop(None))
  with pytest.raises(ValueError, match=r"\('style', 'grunge'\)"):
    facts.of_caption({'style': 'grunge'})
