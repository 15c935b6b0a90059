"""Which checkpoints stay, which one is read, and what each says of itself."""

import json
import shutil

import jax
import numpy as np
import pytest
from training_games import play

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.training import checkpoint, workdir
from musiclm_jax.training.schedule import Best, Schedule

# Learns, then forgets: the best checkpoint is neither new nor the first.
PLAN = {
  'total_steps': 12,
  'log_every': 1,
  'eval_every': 1,
  'save_every': 1,
  'keep_every': 5,
  'keep_best': 'lowest eval_loss',
}
FORGETS = {'schedule': 'constant', 'learning_rate': 2.0, 'clip_norm': 0.0}


def held_out(path):
  rows = (path / 'metrics.jsonl').read_text().splitlines()
  return {row['step']: row['eval_loss'] for row in map(json.loads, rows)}


def steps(path):
  return {int(step.name) for step in (path / 'checkpoints').glob('[0-9]*')}


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """A training whose last steps are not its best: (path, losses)."""
  path = tmp_path_factory.mktemp('run') / 'w'
  play('lm', path, schedule=PLAN, optimizer=FORGETS)
  return path, held_out(path)


@pytest.fixture
def copy(run, tmp_path):
  return shutil.copytree(run[0], tmp_path / 'w')


def test_the_best_the_newest_and_every_fifth_stay(run):
  path, losses = run
  best = min(losses, key=losses.get)
  assert best not in (5, 10, 11, 12), losses
  assert steps(path) == {best, 5, 10, 11, 12}


def test_the_best_stays_when_a_run_goes_on(run, copy):
  """Held-out metrics of the first run are read from its checkpoints."""
  best = min(run[1], key=run[1].get)
  play('lm', copy, schedule=PLAN | {'total_steps': 16}, optimizer=FORGETS)
  assert steps(copy) == {best, 5, 10, 14, 15, 16}


def test_readers_take_the_best_or_the_one_that_is_named(run, copy):
  best = min(run[1], key=run[1].get)
  assert checkpoint.read(copy).step == best
  assert checkpoint.read(copy / 'checkpoints' / '11').step == 11
  shutil.rmtree(copy / 'checkpoints' / str(best) / 'state')
  assert checkpoint.read(copy).step == 12


def test_an_evaluation_saves_so_that_it_can_be_the_best():
  plan = Schedule(100, 10, 20, 50, 30, 'highest eval_accuracy')
  saved = [step for step in range(1, 101) if plan.saves(step)]
  assert saved == [20, 30, 40, 50, 60, 80, 90, 100]


def test_what_is_not_finite_is_never_the_best():
  rows = {1: {'eval_a': 2.0}, 2: {'eval_a': np.nan}, 3: {}, 4: {'eval_a': 2.0}}
  assert Best.parse('lowest eval_a').step(rows) == 4
  assert Best.parse('highest eval_a').step(rows | {5: {'eval_a': 3.0}}) == 5
  assert Best.parse('highest eval_b').step(rows) is None


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('best eval_loss', "'lowest' or 'highest'"),
    ('lowest loss', "'lowest' or 'highest'"),
    ('lowest eval_los', "'eval_los': choose one of eval_loss"),
  ],
)
def test_a_wrong_metric_is_refused_before_the_first_step(
  text, message, tmp_path
):
  with pytest.raises(UsageError, match=message):
    play('lm', tmp_path / 'w', schedule={'keep_best': text})
  assert not (tmp_path / 'w').exists()


def test_a_checkpoint_is_whole_without_its_workdir(tmp_path):
  contract = json.dumps({'streams': {}})
  play(
    'lm', tmp_path / 'w', schedule={'total_steps': 1}, contract_json=contract
  )
  alone = tmp_path / 'else' / 'checkpoints' / '1'
  shutil.copytree(tmp_path / 'w' / 'checkpoints' / '1', alone)
  read = checkpoint.read(alone)
  assert read.config == workdir.read_config(tmp_path / 'w')
  assert read.contract_json == contract
  assert checkpoint.read_metadata(alone).schema == checkpoint.SCHEMA


@pytest.mark.parametrize('schema', [0, checkpoint.SCHEMA + 1])
def test_another_schema_is_one_clear_line_and_no_damage(schema, copy):
  file = next((copy / 'checkpoints' / '12' / 'about').glob('*'))
  file.write_text(json.dumps(json.loads(file.read_text()) | {'schema': schema}))
  plan = PLAN | {'total_steps': 16}
  with pytest.raises(UsageError, match=f'12 has schema {schema}, this version'):
    play('lm', copy, schedule=plan, optimizer=FORGETS)
  with pytest.raises(UsageError, match=f'has schema {schema}'):
    checkpoint.read(copy / 'checkpoints' / '12')
  assert 12 in steps(copy)


def test_the_first_schema_is_still_read_but_not_continued(copy):
  """It named the players and left the config to the workdir."""
  before = checkpoint.read(copy / 'checkpoints' / '12')
  for path in (copy / 'checkpoints').glob('[0-9]*'):
    file = next((path / 'about').glob('*'))
    said = json.loads(file.read_text())
    named = {name: said[name] for name in ('players', 'collections')}
    file.write_text(json.dumps(named))
    (path / 'about').rename(path / 'names')
  read = checkpoint.read(copy / 'checkpoints' / '12')
  assert read.config == before.config
  jax.tree.map(np.testing.assert_array_equal, read.params, before.params)
  with pytest.raises(UsageError, match=r'12 has schema 1, .* --init_from'):
    play('lm', copy, schedule=PLAN, optimizer=FORGETS)


def test_a_torn_description_is_damage(copy, capsys):
  next((copy / 'checkpoints' / '12' / 'about').glob('*')).write_text('{"sch')
  plan = PLAN | {'total_steps': 13}
  assert play('lm', copy, schedule=plan, optimizer=FORGETS).step == 13
  assert 'skipping the damaged checkpoint' in capsys.readouterr().out
  assert (copy / 'damaged' / '12').is_dir()


@pytest.mark.parametrize('folder', ['/proc/w', '/sys/w/deep', '/proc'])
def test_an_unwritable_workdir_is_one_clear_line(folder):
  with (
    pytest.raises(UsageError, match=f"workdir '{folder}' cannot be written"),
    workdir.claim(folder),
  ):
    pass


def test_how_a_step_is_computed_may_change_but_not_what(run):
  path, _ = run
  model = {'width': 8, 'tower': {'remat': 'none', 'dtype': 'float32'}}
  config = {'model': model, 'training': {'accumulation': 1, 'ema_decay': 0.0}}
  workdir.describe(path.parent, config, None)
  config['model']['tower']['remat'] = 'full'
  config['training']['accumulation'] = 4
  config['data'] = {'read_threads': 8, 'read_processes': 2}
  config['mesh'] = {'fsdp': 4}
  workdir.describe(path.parent, config, None)
  config['model']['tower']['dtype'] = 'bfloat16'
  with pytest.raises(UsageError, match=r'model\.tower\.dtype'):
    workdir.describe(path.parent, config, None)


def test_a_config_may_leave_out_a_player_that_it_named_once(tmp_path):
  old = {'stage': 'fit', 'optimizer': {'fit': {'name': 'adam', 'b1': 0.9}}}
  workdir.describe(tmp_path, old, None)
  workdir.describe(tmp_path, {'stage': 'fit', 'optimizer': {}}, None)
  other = {'stage': 'fit', 'optimizer': {'fit': {'name': 'muon'}}}
  with pytest.raises(UsageError, match=r"optimizer\.fit\.name='adam'"):
    workdir.describe(tmp_path, other, None)


@pytest.mark.parametrize(
  ('field', 'default', 'other'),
  [
    ('layout.semantic', True, False),
    ('loss.no_semantic_probability', 0.0, 0.1),
    ('loss.wrong_level_probability', 0.0, 0.4),
    ('loss.first_level_probability', 0.0, 0.5),
    ('data.mark_true_pairs', False, True),
    ('loss.split_share', 0.0, 0.25),
    ('model.attention_seconds', None, 2.0),
    ('model.feature_depth', None, 0),
    ('loss.frozen_codes', False, True),
    ('model.pitch_classes', False, True),
    ('data.same_key', False, True),
  ],
)
def test_a_field_that_a_later_release_added_had_its_default(
  tmp_path, field, default, other
):
  section, name = field.split('.')
  kept = {'coarse_levels': 4}

  def describe(**added):
    config = {'stage': 'coarse', section: kept | added}
    workdir.describe(tmp_path, config, None)

  describe()
  describe(**{name: default})
  with pytest.raises(UsageError, match=rf'{field}={default}, not {other}'):
    describe(**{name: other})


@pytest.mark.parametrize('text', [b'', b'[]', b'7', b'{"a": ', b'\xff\xfe'])
def test_a_damaged_config_is_named(tmp_path, text):
  (tmp_path / 'config.json').write_bytes(text)
  with pytest.raises(UsageError, match=r'config\.json is damaged'):
    workdir.read_config(tmp_path)
