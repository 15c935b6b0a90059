"""What a user had before is the same afterwards; a full disk costs nothing."""

import contextlib
import hashlib
import os

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from experiments.tiny_cascade import feature_cache, report, run_folder
from musiclm_jax.cascade import bundle, provenance, song_search
from musiclm_jax.cascade.sampling import SamplingConfig
from musiclm_jax.contracts import ownership, paths
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.data import (
  preparable,
  preparation,
  prepared,
  sources,
  token_store,
)
from musiclm_jax.data.audio_folder import AudioFolder
from musiclm_jax.data.token_store import TokenRecord
from musiclm_jax.training import report as training_report
from musiclm_jax.training import workdir

# Names that one or another command would like to write.
TAKEN = (
  *('config.json', 'contract.json', 'metrics.jsonl', 'vocab.txt', 'README.md'),
  *('bundle.json', 'corpus.json', 'dataset_info.json', 'report.html'),
  *('report.json', 'picture.png', 'x.wav', 'x.json', 'train.npz', '.x.part'),
  *('train/plan.json', 'checkpoints/5/state', 'logs/mulan.log', 'bundle/a'),
)


class Noise:
  """Three pieces of noise, ready to be prepared."""

  def __init__(self, name):
    self.name = name

  def __len__(self):
    return 3

  def piece_id(self, i):
    return f'{self.name} {i}'

  def num_samples(self, i):
    return 24_000

  def make(self, i):
    noise = np.random.default_rng(i).uniform(-0.1, 0.1, 24_000)
    return iter([(noise.astype(np.float32), None)]), {'captions': []}

  def origins(self):
    return None


def music(name):
  return preparable.Preparable('noise', name, {'train': Noise(name)}, {})


@pytest.fixture
def commands(tiny):
  """Name -> what a command writes, as a function of the place it is told.

  It is complete but for the mathematics in between.
  """
  weights = tiny.stages(tiny.contract)
  plan = token_store.Plan(('piece',), 2.0, 2.0, -50.0, 'audio_folder:x')
  codes = np.random.default_rng(0).integers(0, 16, (1000, 4))
  record = TokenRecord(
    piece_id='piece',
    start_seconds=0.0,
    crop_seconds=2.0,
    mulan=codes[0],
    piece_mulan=codes[:1],
    piece_starts=np.zeros(1),
    semantic=codes[:, 0],
    acoustic=codes,
  )

  def prepare(out):
    preparation.prepare(music('piece'), out, processes=1)

  def train(out):
    with workdir.claim(out) as path:
      workdir.describe(path, {'stage': 'lm', 'schedule': {}}, None)
      with training_report.Report(path, 0) as lines:
        for step in range(200):
          lines.write({'step': step, 'loss': 1.0})

  def tokenize(out):
    writer = token_store.TokenStoreWriter(out, 'train', plan, tiny.contract)
    for shard in writer.missing():
      writer.write(shard, [record])

  def bundles(out):
    bundle.check_out(out)
    settings = SamplingConfig(mulan_levels=3)
    bundle.write(out, weights, tiny.contract, 'piano\n', settings, {})

  def generate(out):
    path = out if out.suffix == '.wav' else out / 'new.wav'
    provenance.check_out(path)
    provenance.write_sound(path, np.zeros(24000), 24000, {'prompt': 'piano'})

  def evaluate(out):
    report.check_out(out)
    report.EvaluationReport([], [], {}, {}, {}, {}).write(out)

  def rehearse(out):
    path = out if out.suffix == '.json' else out / 'new.json'
    path.parent.mkdir(exist_ok=True)
    ownership.check_sealed(path, 'rehearse')
    ownership.write_sealed(path, {'figures': [1.0] * 1000})

  return {
    **{'prepare': prepare, 'train': train, 'tokenize': tokenize},
    **{'bundle': bundles, 'generate': generate, 'evaluate': evaluate},
    'rehearse': rehearse,
  }


@pytest.fixture
def project(tmp_path):
  """A folder full of a user's files, and the hash of each."""
  for name in TAKEN:
    path = tmp_path / 'project' / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'{{"mine": "{name}"}}')
  return tmp_path / 'project', hashes(tmp_path / 'project')


def hashes(folder):
  return {
    path.relative_to(folder).as_posix(): hashlib.sha256(
      path.read_bytes()
    ).hexdigest()
    for path in folder.rglob('*')
    if path.is_file()
  }


def test_a_file_that_is_not_ours_is_never_replaced(
  commands, project, full_disk
):
  """Refused, cut short, full or finished: all of the user's stays."""
  folder, before = project
  refused = {name: folder for name in commands}
  refused |= {'generate': folder / 'x.wav', 'rehearse': folder / 'x.json'}
  for name, place in refused.items():
    with pytest.raises(UsageError, match=r"'.*'"):
      commands[name](place)
    assert hashes(folder) == before, name
  with pytest.raises(UsageError), run_folder.hold(folder, {'seed': 0}, True):
    pass
  assert hashes(folder) == before
  for name, write in commands.items():
    with full_disk(50), contextlib.suppress(OSError, UsageError):
      write(folder / f'new {name}')
    write(folder / f'new {name}')
    write(folder / f'new {name}')
  assert hashes(folder).items() >= before.items()


def test_a_full_disk_is_one_line_and_the_same_command_continues(
  commands, full_disk, tmp_path
):
  for name, write in commands.items():
    place = tmp_path / name
    with full_disk(2000), pytest.raises(OSError) as raised:
      write(place)
    assert str(raised.value.filename).startswith(str(place)), name
    assert '.part' not in str(raised.value.filename), name
    parts = [p for p in tmp_path.rglob('.musiclm_jax-*')]
    assert not parts, name
    write(place)
  assert token_store.TokenStore(tmp_path / 'tokenize', 'train').record(0)
  assert bundle.read(tmp_path / 'bundle').weights('mulan')
  assert len(sources.open_source(f'prepared:{tmp_path / "prepare"}', 'train'))
  assert provenance.is_ours(tmp_path / 'generate' / 'new.wav')


def test_search_adds_an_index_and_touches_nothing(project, full_disk):
  folder, _ = project
  provenance.write_sound(folder / 'song.wav', np.ones(48000) / 2, 24000, {})
  before, lines = hashes(folder), []
  embedder = song_search.SongEmbedder(
    'net', lambda rows: rows[:, :128] + 0, 24000
  )
  for limit in (50, 10**6):
    songs = AudioFolder(folder, 'all', 24000)
    with full_disk(limit):
      song_search.update_index(songs, folder, embedder, lines.append)
  assert any('cannot be written' in line for line in lines)
  after = hashes(folder)
  assert after.pop(song_search.FILE) and after == before


def test_features_are_kept_in_a_folder_of_its_own(tmp_path):
  (tmp_path / 'features').mkdir()
  (tmp_path / 'features' / 'train.npz').write_text('mine')
  with pytest.raises(UsageError, match=r'train\.npz'):
    feature_cache.ownership.begin(tmp_path / 'features', feature_cache.FOLDER)


def test_a_second_prepare_waits_or_is_refused_and_breaks_nothing(
  commands, tmp_path
):
  out = tmp_path / 'corpus'
  with (
    ownership.hold(out, prepared.FOLDER, 'preparing'),
    pytest.raises(UsageError, match='another run is preparing in'),
  ):
    commands['prepare'](out)
  part = out / 'mine.part'
  part.write_text('mine')
  commands['prepare'](out)
  before = hashes(out)
  with pytest.raises(UsageError, match=r'another corpus.*--overwrite'):
    preparation.prepare(music('other'), out, processes=1)
  with pytest.raises(UsageError, match=r"'mine\.part'"):
    preparation.prepare(music('other'), out, processes=1, overwrite=True)
  assert hashes(out) == before and part.read_text() == 'mine'
  part.unlink()
  preparation.prepare(music('other'), out, processes=1, overwrite=True)
  source = sources.open_source(f'prepared:{out}', 'train')
  assert source.piece_id(0) == 'other 0'


# Letters of names that mean something to a shell, a library or a terminal.
_ODD = (
  *('[', ']', '*', '?', '\\', '"', "'", '\n', '\t', ' ', '-', '~', '%41', '#'),
  *('{', '$HOME', '@', ':', ',', ';', '.', 'gs:', 'e\u0301', '\U0001f3b5'),
  *(os.fsdecode(b'\xe9'), '\x1b[31m', '\u202e', 'x' * 250),
)


def _cut(letters: list[str]) -> str:
  """A name of at most 255 bytes that is no special folder."""
  name = os.fsdecode(os.fsencode(''.join(letters))[:255])
  return name if name.strip('.') else f'a{name}'


names = st.lists(st.sampled_from(_ODD), min_size=1, max_size=12).map(_cut)


@settings(
  max_examples=2,
  deadline=None,
  derandomize=True,
  suppress_health_check=list(HealthCheck),
)
@example(name='-[a]*\n ~' + os.fsdecode(b'\xe9') + 'e\u0301\U0001f3b5')
@given(name=names)
def test_any_legal_name_is_written_where_it_was_told_and_read_back(
  name, commands, tmp_path_factory
):
  tmp_path = tmp_path_factory.mktemp('names')
  for command, write in commands.items():
    place = tmp_path / command / name
    (tmp_path / command).mkdir()
    write(place)
    assert os.listdir(tmp_path / command) == [name], command
    write(place)
  folder = paths.local(tmp_path / 'prepare' / name)
  source = sources.open_source(f'prepared:{folder}', 'train')
  assert source.read(0).any()
  store = token_store.TokenStore(tmp_path / 'tokenize' / name, 'train')
  assert store.record(0).piece_id == 'piece'
  assert bundle.read(tmp_path / 'bundle' / name).weights('coarse').params
  assert provenance.is_ours(tmp_path / 'generate' / name / 'new.wav')
  assert workdir.read_config(tmp_path / 'train' / name)['stage'] == 'lm'
