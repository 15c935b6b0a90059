"""The train command as processes: refusals in one line, kill and resume."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

import jax
import numpy as np
import pytest
import soundfile
from bert_checkpoints import SIZES, drawn_tensors, write_checkpoint

from musiclm_jax import cli
from musiclm_jax.contracts.progress import Progress
from musiclm_jax.contracts.token_contract import TokenContract, TokenSpec
from musiclm_jax.data.token_store import Plan, TokenRecord, TokenStoreWriter
from musiclm_jax.launch import environment
from musiclm_jax.training import checkpoint

ROOT = Path(__file__).parents[2]
MINUTE = (
  '--config=configs/semantic.py:tiny',
  '--config.model.num_layers=1',
  '--config.model.scan_unroll=1',
  '--config.model.embed_dim=32',
  '--config.model.num_heads=2',
  '--config.model.head_dim=16',
  '--config.model.mlp_dim=32',
  '--config.model.dropout_rate=0.1',
  '--config.data.crop_seconds=2.0',
  '--config.data.batch_size=4',
  '--config.data.eval_batches=1',
  '--config.schedule.total_steps=100',
  '--config.schedule.log_every=10',
  '--config.schedule.eval_every=50',
  '--config.schedule.save_every=20',
)


MINUTE_CODEC = (
  '--config=configs/soundstream.py:tiny',
  '--config.model.channels=1',
  '--config.model.strides=(480,)',
  '--config.model.latent_dim=4',
  '--config.model.num_quantizers=2',
  '--config.model.codebook_size=8',
  '--config.discriminators.num_scales=1',
  '--config.discriminators.stft_channels=1',
  '--config.loss.adversarial_start=0.25',
  '--config.loss.adversarial_warmup=0.0',
  '--config.optimizer.codec.name=adam',
  '--config.data.batch_size=2',
  '--config.data.crop_seconds=0.06',
  '--config.data.eval_batches=0',
  '--config.schedule.total_steps=24',
  '--config.schedule.log_every=4',
  '--config.schedule.save_every=8',
)


def contract(semantic=256, network='a'):
  return TokenContract(
    sample_rate=24000,
    streams={
      'mulan': TokenSpec(32, 12, 0.0),
      'semantic': TokenSpec(semantic, 1, 25.0),
      'acoustic': TokenSpec(256, 12, 50.0),
    },
    coarse_levels=4,
    mulan_audio_mean=(0.0,),
    mulan_text_mean=(0.0,),
    networks={'soundstream': network},
  )


def write_store(folder, **fields):
  """A store of eight pieces of random tokens, 4 s each."""
  rng = np.random.default_rng(0)
  for split in ('train', 'validation'):
    pieces = tuple(f'{split}{i}' for i in range(8))
    plan = Plan(pieces, 4.0, 4.0, -50.0, source='test')
    writer = TokenStoreWriter(folder, split, plan, contract(**fields))
    for shard in writer.missing():
      writer.write(
        shard,
        [
          TokenRecord(
            piece_id=pieces[i],
            start_seconds=0.0,
            crop_seconds=4.0,
            mulan=(mulan := rng.integers(0, 32, 12)),
            piece_mulan=mulan[None],
            piece_starts=np.zeros(1),
            semantic=rng.integers(0, 16, 100),
            acoustic=rng.integers(0, 256, (200, 12)),
          )
          for i in plan.shard_pieces(shard)
        ],
      )
  return folder


def start(*arguments, **environment):
  return subprocess.Popen(
    [sys.executable, '-m', 'musiclm_jax.train', *map(str, arguments)],
    cwd=ROOT,
    env=os.environ | environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def finish(process, code=0):
  out, err = process.communicate(timeout=600)
  assert process.returncode == code, (process.returncode, out, err)
  return out, err


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """A token store and an uninterrupted training on it."""
  folder = tmp_path_factory.mktemp('command')
  tokens = write_store(folder / 'tokens')
  call = (*MINUTE, f'--tokens={tokens}', f'--workdir={folder / "whole"}')
  events = {cli.PROGRESS_FILE: str(folder / 'events.jsonl')}
  _, err = finish(start(*call, **events))
  assert err == ''
  return tokens, folder / 'whole'


def test_a_parent_process_reads_how_far_a_training_is(trained):
  text = (trained[0].parent / 'events.jsonl').read_text()
  events = [Progress(**json.loads(line)) for line in text.splitlines()]
  assert [event.done for event in events] == list(range(10, 101, 10))
  assert {(e.stage, e.total, e.unit) for e in events} == {
    ('semantic', 100, 'steps')
  }
  assert events[1].eta > 0 == events[-1].eta
  assert events[-1].elapsed > events[0].elapsed > 0


def kill_and_resume(call, workdir, step, whole):
  """Kills a training after `step`, goes on, compares it with `whole`."""
  call = (*call, f'--workdir={workdir}')
  run, record = start(*call), workdir / 'metrics.jsonl'
  saved = workdir / 'checkpoints'
  while not (
    record.exists()
    and f'"step": {step}' in record.read_text()
    and any(path.name.isdigit() for path in saved.iterdir())
  ):
    assert run.poll() is None, run.communicate()
    time.sleep(0.005)
  run.kill()
  finish(run, -signal.SIGKILL)
  out, _ = finish(start(*call))
  assert 'continuing' in out
  assert record.read_bytes() == (whole / 'metrics.jsonl').read_bytes()
  one, other = checkpoint.read(whole), checkpoint.read(workdir)
  assert one.step == other.step
  for part in ('params', 'collections'):
    jax.tree.map(
      np.testing.assert_array_equal, getattr(one, part), getattr(other, part)
    )


def test_an_lm_killed_with_9_resumes_bit_for_bit(trained, tmp_path):
  tokens, whole = trained
  kill_and_resume((*MINUTE, f'--tokens={tokens}'), tmp_path / 'cut', 30, whole)


def test_sigterm_before_the_first_step_asks_for_the_same_command(
  trained, tmp_path
):
  workdir = tmp_path / 'w'
  run = start(*MINUTE, f'--tokens={trained[0]}', f'--workdir={workdir}')
  while not workdir.exists():
    assert run.poll() is None, run.communicate()
    time.sleep(0.005)
  run.terminate()
  _, err = finish(run, 75)
  assert 'Traceback' not in err


@pytest.mark.parametrize(('name', 'code'), [('SIGTERM', 75), ('SIGINT', 130)])
def test_a_stop_that_falls_into_a_destructor_is_asked_again(name, code):
  """Python drops what a destructor or a callback raises and goes on."""
  program = f"""
import os, signal, time
from musiclm_jax import cli

signal.signal(signal.SIGINT, signal.default_int_handler)  # a job ignores it

class Closing:
  def __del__(self):
    os.kill(os.getpid(), signal.{name})
    time.sleep(0.01)

def main():
  Closing()
  time.sleep(60)

cli.run(main)
"""
  began = time.monotonic()
  done = subprocess.run(
    [sys.executable, '-c', program], cwd=ROOT, capture_output=True, text=True
  )
  assert done.returncode == code, done.stderr
  assert time.monotonic() - began < 50
  assert done.stderr == ('interrupted\n' if name == 'SIGINT' else '')


@pytest.mark.soak
def test_a_codec_killed_with_9_resumes_bit_for_bit(tmp_path):
  """Two optimizers, codebooks and the adversarial warm-up come back."""
  rng = np.random.default_rng(0)
  for i in range(24):
    tone = np.sin(np.arange(24000) * 0.01 * (i + 3)) + rng.normal(size=24000)
    soundfile.write(tmp_path / f'{i}.wav', 0.2 * tone, 24000)
  call = (*MINUTE_CODEC, f'--config.data.source=audio_folder:{tmp_path}')
  whole = tmp_path / 'whole'
  finish(start(*call, f'--workdir={whole}'))
  kill_and_resume(call, tmp_path / 'cut', 12, whole)


def test_the_workdir_says_what_was_trained_on_which_tokens(trained):
  _, whole = trained
  config = json.loads((whole / 'config.json').read_text())
  assert config['stage'] == 'semantic' and config['model']['embed_dim'] == 32
  assert (whole / 'contract.json').read_text() == contract().to_json()
  rows = [
    json.loads(row)
    for row in (whole / 'metrics.jsonl').read_text().split('\n')[:-1]
  ]
  assert [row['step'] for row in rows] == list(range(10, 101, 10))
  assert all({'loss', 'grad_norm'} <= row.keys() for row in rows)
  assert 'eval_nll' in rows[4] and 'eval_nll' in rows[9]


def test_fine_tuning_starts_from_given_weights_of_the_same_contract(
  trained, tmp_path
):
  tokens, whole = trained
  call = (
    *MINUTE,
    f'--init_from={whole}',
    '--config.schedule.total_steps=1',
    '--config.optimizer.lm.learning_rate=0.0',
  )
  finish(start(*call, f'--tokens={tokens}', f'--workdir={tmp_path / "w"}'))
  jax.tree.map(
    np.testing.assert_array_equal,
    checkpoint.read(tmp_path / 'w').params,
    checkpoint.read(whole).params,
  )
  others = write_store(tmp_path / 'others', network='b')
  _, err = finish(
    start(*call, f'--tokens={others}', f'--workdir={tmp_path / "v"}'), 2
  )
  assert 'networks.soundstream' in err.splitlines()[-1]
  assert not (tmp_path / 'v').exists()


def test_a_text_tower_starts_from_a_published_bert(music_folder, tmp_path):
  tensors = drawn_tensors()
  folder = write_checkpoint(tmp_path / 'bert', tensors)
  call = (
    '--config=configs/mulan.py:tiny',
    f'--config.data.source=audio_folder:{music_folder}',
    f'--init_text={folder}',
    *(f'--config.model.text.{name}={size}' for name, size in SIZES.items()),
    '--config.model.audio.width=1',
    '--config.model.audio.stage_blocks=(1,)',
    '--config.model.norm_features=False',
    '--config.loss.window_seconds=1.0',
    '--config.data.crop_seconds=1.0',
    '--config.data.batch_size=2',
    '--config.data.captions_per_crop=1',
    '--config.optimizer.mulan.name=adam',
    '--config.data.text_length=8',
    '--config.data.eval_batches=0',
    '--config.optimizer.mulan.learning_rate=0.0',
    '--config.schedule.total_steps=1',
  )
  finish(start(*call, f'--workdir={tmp_path / "w"}'))
  tower = checkpoint.read(tmp_path / 'w').params['mulan']['text_tower']
  np.testing.assert_array_equal(
    tower['token'], tensors['embeddings.word_embeddings.weight']
  )
  np.testing.assert_array_equal(
    tower['transformer']['layers']['mlp']['wide']['kernel'][1],
    tensors['encoder.layer.1.intermediate.dense.weight'].T,
  )
  vocabulary = (tmp_path / 'w' / 'vocab.txt').read_text()
  assert vocabulary == (folder / 'vocab.txt').read_text()


@pytest.mark.parametrize(
  'arguments, words',
  [
    (
      ('--config=configs/mulan.py:tiny', '--init_text=/nowhere'),
      'no BERT checkpoint',
    ),
    (('--tokens=/nowhere', '--init_text=x'), 'reads no --init_text'),
    (('--config.model.num_layer=2',), 'did you mean --config.model.num_layers'),
    (('--config.num_layers=2',), 'did you mean --config.model.num_layers'),
    (('--config=configs/semantic.py:huge',), 'tiny, small, paper'),
    (('--config=configs/nope.py',), 'configs/nope.py does not exist'),
    (('--config=semantik:tiny',), 'mulan_rvq, parallel, semantic, soundstream'),
    (('--config.model.num_layers=many',), 'many'),
    (('--workdr=x',), 'workdir'),
    (('spare',), 'spare'),
    ((), 'needs --tokens'),
    (('--tokens=/nowhere',), '/nowhere'),
    (('--tokens=/nowhere', '--network=x'), 'reads no --network'),
    (('--tokens=/nowhere', '--profile=5:2'), 'FIRST:LAST'),
  ],
)
def test_a_mistaken_call_is_one_line_and_leaves_nothing(
  arguments, words, tmp_path
):
  config = () if any('--config=' in a for a in arguments) else MINUTE[:1]
  run = start(*config, *arguments, f'--workdir={tmp_path / "w"}')
  _, err = finish(run, 2)
  assert err.startswith('error:') and err.count('\n') == 1
  assert words in err
  assert not (tmp_path / 'w').exists()


def test_tokens_of_another_codebook_size_are_refused(tmp_path):
  """Mistake 36: a codebook size of another stream or model."""
  tokens = write_store(tmp_path / 'tokens', semantic=64)
  run = start(*MINUTE, f'--tokens={tokens}', f'--workdir={tmp_path / "w"}')
  _, err = finish(run, 2)
  assert 'semantic tokens: codebook_size is 64' in err
  assert not (tmp_path / 'w').exists()


def test_truncated_compilations_are_removed_and_all_else_stays(tmp_path):
  whole = zlib.compress(os.urandom(1000))
  end = f'{"0f" * 32}-cache'
  for name, data in (
    (f'whole-{end}', whole),
    (f'cut-{end}', whole[:-1]),
    (f'empty-{end}', b''),
    (f'zstd-{end}', b'\x28\xb5\x2f\xfd\x00'),
    ('my-cache', whole[:-1]),  # of the user's, in a folder they chose
  ):
    (tmp_path / name).write_bytes(data)
  stay = {f'whole-{end}', 'my-cache'}
  if sys.version_info < (3, 14) and not importlib.util.find_spec('zstandard'):
    stay.add(f'zstd-{end}')  # which cannot be looked into here
  environment.repair_cache(tmp_path)
  assert {p.name for p in tmp_path.glob('*-cache')} == stay
  (tmp_path / f'later-{end}').write_bytes(whole[:10])
  environment.repair_cache(tmp_path)
  assert {p.name for p in tmp_path.glob('*-cache')} == stay


def test_other_errors_of_a_command_keep_their_traceback(capsys):
  def defect():
    raise ZeroDivisionError

  with pytest.raises(ZeroDivisionError):
    cli.exit_code(defect, ['command'])

  def full():
    raise OSError(28, 'No space left on device', 'x.wav')

  def interrupted():
    raise KeyboardInterrupt

  assert cli.exit_code(full, ['command']) == cli.USAGE
  assert capsys.readouterr().err == 'error: No space left on device: x.wav\n'
  assert cli.exit_code(interrupted, ['command']) == cli.INTERRUPTED
