"""The evaluation reads a whole run's folder and leaves a whole report."""

import dataclasses
import json
import shutil
import types

import jax
import numpy as np
import pytest

from experiments.tiny_cascade import (
  artifacts,
  cascade_checks,
  evaluation,
  feature_cache,
  gates,
  semantic_checks,
  token_checks,
)
from musiclm_jax.cascade import networks
from musiclm_jax.contracts.token_contract import TokenContract
from musiclm_jax.data.token_store import Plan, TokenRecord, TokenStoreWriter
from musiclm_jax.rendered_music import programs, theory, truth

pytestmark = pytest.mark.soak  # a whole report: a minute of compiling

RATE = 24_000
SECONDS = 5.2
PIECES = 16


class Music:
  """Sixteen pieces a split: tones whose attributes are known."""

  sample_rate = RATE

  def __init__(self, split):
    self._split = split
    self._seed = {'train': 0, 'validation': 1, 'test': 2}[split]

  def __len__(self):
    return PIECES

  def piece_id(self, i):
    return f'{self._split}-{i}'

  def num_samples(self, i):
    return round(RATE * 2 * SECONDS)

  def read(self, i, start=0, num_samples=None):
    rng = np.random.default_rng([self._seed, i])
    count = self.num_samples(i)
    wave = self._noise(i, rng)
    step = round(RATE * 60 / self._bpm(i))
    for at in range(0, count - step, step):
      time = np.arange(step) / RATE
      hz = 150 * 2 ** (rng.integers(0, 24) / 12)
      tone = np.sin(2 * np.pi * hz * time) + 0.3 * np.sin(6.3 * hz * time)
      wave[at : at + step] += 0.2 * tone * np.exp(-4 * time)
    wave = np.pad(wave, (0, count))
    return wave[start:][: num_samples or count].astype(np.float32)

  def _bpm(self, i):
    return 70.0 + 5 * i

  def _family(self, i):
    return programs.LEAD_FAMILIES[i % 8]

  @property
  def descriptions(self):
    return types.SimpleNamespace(described=self.described, truth=self.truth)

  def truth(self, i):
    """Notes of its tones, with chords that change with the lead's pitch."""
    rng = np.random.default_rng([self._seed, i])
    self._noise(i, rng)
    step = 60 / self._bpm(i)
    count = int(2 * SECONDS / step)
    melody = [
      [k * step, 50 + int(rng.integers(0, 24)), step] for k in range(count)
    ]
    roots = [theory.NOTE_NAMES[pitch % 12] for _, pitch, _ in melody]
    return {
      'melody': melody,
      'notes': [{'notes': melody}],
      'parts': [{'program': 1}],
      'beats': [onset for onset, _, _ in melody],
      'chords': [f'{root}:maj' for root in roots],
    }

  def _noise(self, i, rng):
    return 1e-3 * rng.standard_normal(self.num_samples(i))

  def describe(self, i, start_seconds, end_seconds, rng):
    word = programs.LEADS[self._family(i)][0].name
    stated = {'lead_family': self._family(i), 'bpm': self._bpm(i)}
    return f'{word} at {self._bpm(i):.0f} bpm', stated

  def attributes(self, i, start_seconds, end_seconds):
    return {
      'lead_family': self._family(i),
      'lead_program': i,
      'style': 'waltz',
      'bpm': self._bpm(i),
      'tempo_class': truth.tempo_class(self._bpm(i)),
    }


def write_tokens(folder, contract):
  """Random tokens of one record a piece."""
  frames = round(SECONDS * 25)
  for k, split in enumerate(('train', 'validation', 'test')):
    music = Music(split)
    rng = np.random.default_rng(k)
    ids = tuple(music.piece_id(i) for i in range(PIECES))
    plan = Plan(ids, SECONDS, SECONDS, -50.0, 'rendered_music:x')
    writer = TokenStoreWriter(folder, split, plan, contract)

    def record(name, rng=rng, split=split):
      draw = lambda *shape: rng.integers(0, 16, shape)  # noqa: E731
      return TokenRecord(
        piece_id=name,
        start_seconds=1.0,
        crop_seconds=SECONDS,
        mulan=draw(12),
        piece_mulan=draw(3, 12),
        piece_starts=np.array([0.0, 1.0, 5.0]),
        semantic=draw(frames),
        acoustic=draw(2 * frames, 4),
        mulan_text=None if split == 'train' else draw(2, 12),
      )

    for shard in writer.missing():
      pieces = plan.shard_pieces(shard)
      writer.write(shard, [record(ids[i]) for i in pieces])


@pytest.fixture(scope='module')
def demo(tmp_path_factory, bundle):
  folder = tmp_path_factory.mktemp('demo')
  shutil.copytree(bundle[0], folder / 'bundle')
  contract = (bundle[0] / 'contract.json').read_text()
  write_tokens(folder / 'tokens', TokenContract.from_json(contract))
  workdir = folder / 'workdirs' / 'mulan'
  workdir.mkdir(parents=True)
  lines = '{"step": 1, "loss": 4.0}\n{"step": 2, "loss": 3.5}\n{"step": 3, "lo'
  (workdir / 'metrics.jsonl').write_text(lines)
  return folder


@pytest.fixture(scope='module')
def report(demo):
  patch = pytest.MonkeyPatch()
  opened = lambda spec, split: Music(split)  # noqa: E731
  patch.setattr(artifacts.sources, 'open_source', opened)
  patch.setattr(cascade_checks, 'SECONDS', SECONDS)
  patch.setattr(feature_cache, '_SECONDS', SECONDS)
  patch.setattr(semantic_checks, 'SECONDS', SECONDS)
  patch.setattr(semantic_checks, 'TAKES', 8)
  patch.setattr(cascade_checks, 'PROMPTS_PER_FAMILY', 1)
  patch.setattr(token_checks, '_CODEC_SECONDS', 1.2)
  patch.setattr(token_checks, '_CODEC_CLIPS', 16)
  patch.setattr(token_checks, '_RETRIEVAL_SECONDS', 2.0)
  try:
    evaluation.write_report(demo, 0)
  finally:
    patch.undo()
  return json.loads((demo / 'report.json').read_text())


def test_untrained_networks_get_every_gate_and_fail_most(report):
  table = {gate['name']: gate for gate in report['gates']}
  assert list(table) == list(gates.STAGE_OF)
  for name in (
    'codec_distance',
    'semantic_probe',
    'mulan_recall',
    'mulan_handover',
    'semantic_nll',
    'lm_conditioning',
    'cascade_prompt',
  ):
    assert not table[name]['passed'], table[name]


def test_what_holds_without_training_holds(report):
  table = {gate['name']: gate for gate in report['gates']}
  for name in ('lm_perturb', 'negative_controls'):
    words = report['baselines'][name]['conditions']
    assert table[name]['passed'], (table[name], words)
  words = report['baselines']['codec_roundtrip']['conditions']
  assert words['decode(encode(x)) is the training forward pass']


def test_classifiers_state_their_accuracy_and_the_gate_needs_it(report):
  found = report['baselines']['classifiers']
  for name in ('family', 'tempo'):
    assert 0 <= found[name]['real']['value'] <= 1
    assert 0 <= found[name]['resynthesised']['value'] <= 1
  conditions = report['baselines']['cascade_family']['conditions']
  words = 'the family classifier is right on >= 85% of plain clips'
  assert words in conditions


@pytest.fixture
def compute(tmp_path, bundle, monkeypatch):
  """Features of eight crops of the made music; counts how often it must."""
  monkeypatch.setattr(feature_cache, '_SECONDS', SECONDS)
  monkeypatch.setattr(feature_cache, 'CLIPS', {'train': 8})
  network = networks.load(bundle[0], 'soundstream')
  calls = []

  def run(network=network):
    split = artifacts.CorpusSplit(Music('train'), None)
    codec = artifacts.BatchedCodec(network)
    return feature_cache.of_split(tmp_path, 'train', split, codec, calls.append)

  run.network, run.calls = network, calls
  run.path = tmp_path / 'features' / 'train.npz'
  return run


def equal_features(a, b):
  assert (*a.families,) == (*b.families,)
  assert (*a.bpm,) == (*b.bpm,) and (*a.units,) == (*b.units,)
  for side in ('plain', 'coded'):
    for name, array in vars(getattr(a, side)).items():
      np.testing.assert_array_equal(array, vars(getattr(b, side))[name])


def test_features_are_kept_and_not_computed_again(compute):
  first = compute()
  assert compute.calls == [8]
  equal_features(compute(), first)
  assert compute.calls == [8]
  assert first.plain.timbres.shape[:2] == (8, 9)
  assert first.plain.tempograms.shape == (8, 2, 4, 96)
  assert np.abs(first.plain.timbres - first.coded.timbres).max() > 1


@pytest.mark.parametrize(
  'content', [pytest.param(b'', marks=pytest.mark.soak), b'PK damaged', None]
)
def test_a_damaged_cache_is_made_again(compute, content):
  first = compute()
  whole = compute.path.read_bytes()
  half = whole[: len(whole) // 2] if content is None else content
  compute.path.write_bytes(half)
  equal_features(compute(), first)
  assert compute.calls == [8, 8]


def test_another_codec_has_features_of_its_own(compute):
  compute()
  weights = compute.network.weights
  params = jax.tree.map(lambda x: 1.1 * x, weights.params)
  other = networks.build(dataclasses.replace(weights, params=params))
  compute(other)
  assert compute.calls == [8, 8]


def test_what_is_computed_beside_the_trainings_serves_the_bundle(
  compute, workdirs, tmp_path, monkeypatch
):
  """The workdir's codec is the bundle's: the evaluation computes no more."""
  monkeypatch.setattr(
    evaluation,
    'open_split',
    lambda _, n: artifacts.CorpusSplit(Music(n), None),
  )
  (tmp_path / 'workdirs').symlink_to(workdirs)
  events = []
  evaluation.compute_features(tmp_path, events.append)
  assert (events[-1].done, events[-1].total) == (8, 8)
  compute()
  assert compute.calls == []


def test_all_streams_are_hashed(report):
  names = ('mulan', 'semantic', 'acoustic', 'generated_semantic')
  for name in (*names, 'generated_acoustic'):
    assert len(report['token_hashes'][name]) == 64
  assert len(set(report['token_hashes'].values())) == 5


def test_baselines_stand_beside_the_gates(report):
  figures = report['baselines']
  assert figures['codec_distance']['vocoder_db'] > 0
  assert len(figures['mulan_handover']['agreement_per_level']) == 12
  assert figures['mulan_recall']['ln_batch'] > 1
  assert figures['mulan_recall']['loss'] == 3.5
  assert len(figures['fine_nll']['nats_per_level']) == 2


def test_page_and_picture_are_written(demo, report):
  assert (demo / 'report.html').stat().st_size > 10_000
  assert (demo / 'picture.png').exists()


def test_token_hashes_change_with_one_token(demo, tmp_path):
  before = evaluation.token_hashes(demo)
  shutil.copytree(demo / 'tokens', tmp_path / 'tokens')
  shutil.rmtree(tmp_path / 'tokens' / 'validation')
  after = evaluation.token_hashes(tmp_path)
  assert all(before[name] != after[name] for name in before)
