"""Two evaluations are compared where one network has measured both."""

import numpy as np
import pytest

from musiclm_jax.evaluation import comparison
from musiclm_jax.evaluation.results import Results
from musiclm_jax.metrics.bootstrap import Interval

NAMES = [f'{k}.wav' for k in range(12)]


def results(shift=0.0, sha256='a', suffix='.wav', names=NAMES):
  rng = np.random.default_rng(0)
  songs = {
    str(n).replace('.wav', suffix): float(x + shift)
    for n, x in zip(names, rng.normal(3, 2, len(names)), strict=True)
  }
  found = Results()
  facts = {'sha256': sha256, 'windowing': 'w', 'per_song': songs}
  mean = float(np.mean(list(songs.values())))
  bounds = Interval(mean, mean - 1, mean + 1)
  found.add('kld_x', mean, interval=bounds, **facts)
  found.add('fad_x', 50 + shift, interval=Interval(50, 40, 60), **facts)
  found.add('kad_x', 5.0, sha256=sha256, windowing='w')
  found.add('codec_si_sdr', mean, **facts | {'sha256': f'codec {shift}'})
  return found


def test_means_are_paired_clip_by_clip():
  found = comparison.compare(results(), results(0.5, suffix='.flac'))
  one = found['kld_x']
  # Clips differ by 2, but each pair by 0.5: the bounds know.
  assert one.value == pytest.approx(0.5)
  assert one.interval.low == pytest.approx(0.5)
  assert one.interval.high == pytest.approx(0.5)
  assert one.num_units == 12
  assert found['codec_si_sdr'].value == pytest.approx(0.5)


def test_clips_of_one_prompt_are_one_unit():
  prompts = {str(k): f'prompt {k // 4}' for k in range(12)}
  found = comparison.compare(results(), results(0.5), prompts)
  assert found['kld_x'].num_units == 3


def test_distances_of_sets_are_paired_by_songs_only():
  found = comparison.compare(results(), results(0.5))
  assert found['fad_x'].value == pytest.approx(0.5)
  assert found['fad_x'].interval is None
  assert 'compare the bounds' in found['fad_x'].remark
  song = found['song_fad_x']
  assert song.value == pytest.approx(0.5) and song.num_units == 12
  assert song.values[1] - song.values[0] == pytest.approx(0.5)
  assert found['kad_x'].remark == 'not paired'
  assert found['kad_x'].to_json()['interval'] is None


def test_figures_of_two_embedders_are_not_compared():
  found = comparison.compare(results(), results(0.5, sha256='b'))
  for key in ('kld_x', 'fad_x', 'kad_x'):
    assert found[key].value is None and 'not comparable' in found[key].remark
  assert 'song_fad_x' not in found
  assert found['codec_si_sdr'].value is not None, 'it is what is measured'


def test_what_one_lacks_has_no_difference():
  first, second = results(), results()
  second.add('kad_x', None)
  second.add('mcc_y', 0.3)
  found = comparison.compare(first, second)
  assert found['kad_x'].value is None and found['mcc_y'].value is None


def test_clips_of_other_names_are_not_paired():
  other = results(names=[f'other{k}.wav' for k in range(12)])
  found = comparison.compare(results(), other)
  assert found['kld_x'].interval is None
  assert found['kld_x'].remark == 'not paired: compare the bounds'
