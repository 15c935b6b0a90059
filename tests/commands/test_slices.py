"""Trainings in slices, on machines that are there for minutes."""

import json

import pytest

from musiclm_jax import cli
from musiclm_jax.contracts.errors import STOPPED
from musiclm_jax.training import export


@pytest.fixture
def train(call, command_flags):
  """A function (stage, *flags) -> exit code, output, errors; two steps."""
  changes = {
    'schedule.total_steps': 2,
    'schedule.log_every': 1,
    'data.batch_size': 2,
    'data.eval_batches': 1,
  }

  def run(stage, *more):
    return call('train', *command_flags(stage, **changes), *more)

  return run


def test_a_training_ends_in_time_and_goes_on_from_its_export(
  train, tokens, tmp_path
):
  data = f'--tokens={tokens[0]}'
  file = tmp_path / 'x.safetensors'
  code, out, err = train(
    'semantic',
    data,
    '--workdir={tmp}/a',
    '--max_minutes=0.01',
    f'--export={file}',
    '--export_part_mb=0.01',
  )
  assert code == STOPPED, err
  assert 'stopped and saved at step 1: run again to go on' in out
  parts = sorted(tmp_path.glob('x.safetensors.*-of-*'))
  assert len(parts) > 1 and all(f"exported to '{p}'" in err for p in parts)
  more = data, f'--init_from={file}'
  code, out, err = train('semantic', *more, '--workdir={tmp}/b')
  assert code == 0, err
  assert f"going on from step 1 of '{file}', which holds no moments" in err
  lines = (tmp_path / 'b' / 'metrics.jsonl').read_text().splitlines()
  assert [json.loads(line)['step'] for line in lines] == [2]
  code, out, err = train('semantic', *more, '--workdir={tmp}/b')
  assert (code, err) == (0, ''), 'nothing is lost where a checkpoint is'
  assert 'has 2 of 2 steps' in out
  longer = '--workdir={tmp}/b', '--config.schedule.total_steps=3'
  code, out, err = train('semantic', *more, *longer)
  assert code == 0, err
  assert 'total_steps is 3 and was 2 until step 2: phases that have' in err
  config = json.loads((tmp_path / 'b' / 'config.json').read_text())
  assert config['schedule']['earlier'] == [[2, 2]]


@pytest.mark.soak
def test_the_words_that_mulan_knows_travel_with_it(
  train, music_folder, tmp_path
):
  source = f'--config.data.source=audio_folder:{music_folder}'
  crop = '--config.data.crop_seconds=2'
  file = tmp_path / 'mulan.export'
  code, _, err = train(
    'mulan',
    source,
    crop,
    '--workdir={tmp}/a',
    '--max_minutes=0.01',
    f'--export={file}',
  )
  assert code == STOPPED, err
  words, counted = (
    (tmp_path / 'a' / name).read_text()
    for name in ('vocab.txt', 'caption_words.txt')
  )
  files = {'vocab.txt': words, 'caption_words.txt': counted}
  assert export.read(file).files == files
  code, _, err = train(
    'mulan', source, crop, '--workdir={tmp}/b', f'--init_from={file}'
  )
  assert code == 0, err
  assert (tmp_path / 'b' / 'vocab.txt').read_text() == words
  both = (tmp_path / 'b' / 'caption_words.txt').read_text().split()
  assert both[::2] == counted.split()[::2], 'the same words, counted twice'


@pytest.mark.parametrize(
  ('flags', 'words'),
  [
    (('--export={tmp}/mine',), "mine' is no export and is not replaced"),
    (('--export={tmp}',), 'it is a folder'),
    (('--export_part_mb=1',), '--export_part_mb without --export'),
    (('--max_minutes=0',), 'max_minutes'),
    (('--init_from={tmp}/mine',), "there is no workdir '{tmp}/mine'"),
  ],
)
def test_what_cannot_be_exported_or_read_is_refused_before_the_work(
  flags, words, train, tokens, tmp_path
):
  (tmp_path / 'mine').write_text('of a user')
  code, out, err = train(
    'semantic', f'--tokens={tokens[0]}', '--workdir={tmp}/w', *flags
  )
  assert (code, out) == (cli.USAGE, ''), err
  assert words.replace('{tmp}', str(tmp_path)) in err
  assert err.count('\n') == 1
  assert [path.name for path in tmp_path.iterdir()] == ['mine']
