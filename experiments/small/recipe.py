"""The recipe of the small model: one stage at a time, each a command.

    python -m experiments.small.recipe --stage=soundstream --out=runs/small

prints the command and runs it, in the root of a checkout. A stage that is
interrupted goes on when it is called again; README.md says what each has
reached, and on which machine.
"""

import shlex
import subprocess
import sys
from pathlib import Path

from absl import flags

from musiclm_jax import cli, path_flags
from musiclm_jax.stages import LANGUAGE_MODELS

PIECES, SEED = 9000, 1  # seed 0 is what is measured on
_CODEC = {
  'model.channels': 16,
  'model.dtype': 'float32',
  'discriminators.dtype': 'float32',
  'discriminators.wave_channels': 2,
  'discriminators.wave_max_channels': 128,
  'discriminators.stft_channels': 4,
  'data.batch_size': 8,
  'data.crop_seconds': 0.5,
  'data.eval_batches': 8,
  'optimizer.codec.name': 'muon',
  'optimizer.codec.warmup_steps': 20,
  'schedule.eval_every': 500,
  'training.ema_decay': 0.998,
}
_SEMANTIC = {
  'model.num_layers': 3,
  'model.embed_dim': 192,
  'model.num_heads': 3,
  'model.dropout_rate': 0.0,  # below two epochs
  'model.time_buckets': 64,  # by which it finds the melody of the moment
  'model.time_peak': 5.0,
  'layout.melody': True,
  'loss.no_melody_probability': 0.5,  # most music is asked for without one
  'layout.melody_levels': 2,
  'layout.melody_window_seconds': 0.4,
  'layout.melody_hop_seconds': 0.2,
  'data.crop_seconds': 10.0,
  'data.batch_size': 16,
  'schedule.eval_every': 250,
}
# Of two cores, where float32 is as fast as bfloat16 and batches are small:
# stage -> (size of its config, what is changed of it).
SETTINGS = {
  # Encoder, codebooks and a decoder, without discriminators.
  'codec': (
    'small',
    _CODEC
    | {
      'loss.waveform_weight': 5.0,
      'loss.codebook_decay': 0.97,
      'loss.adversarial_start': 1.0,
      'optimizer.codec.learning_rate': 4e-3,
      'schedule.total_steps': 4600,
    },
  ),
  # The decoder learns on with them, under the codes of `codec`.
  'soundstream': (
    'small',
    _CODEC
    | {
      'loss.frozen_codes': True,
      'loss.waveform_weight': 2.0,
      'loss.waveform_until_adversarial': False,
      'loss.adversarial_start': 0.0,
      'loss.adversarial_warmup': 0.1,
      'optimizer.codec.learning_rate': 1.5e-3,
      'optimizer.discriminators.learning_rate': 5e-4,
      'schedule.total_steps': 2500,
    },
  ),
  'mulan': (
    'tiny',
    {
      'data.batch_size': 96,
      'data.mark_true_pairs': True,
      'schedule.total_steps': 850,
      'schedule.log_every': 20,
      'schedule.eval_every': 200,
    },
  ),
  # Text and audio agree on the first of 16 codes in 59 %, of 64 in 26 %.
  'mulan_rvq': ('tiny', {'model.codebook_size': 16}),
  'w2v_bert': (
    'tiny',
    {
      'model.num_cepstra': 79,  # all of them: 23 hold no pitch
      'model.attention_seconds': 2.0,
      'model.feature_depth': 0,
      'schedule.total_steps': 600,
      'schedule.log_every': 20,
      'schedule.eval_every': 200,
    },
  ),
  'kmeans': ('tiny', {'model.codebook_size': 512}),
  # Note by note and in its key: of intervals in windows of 4 s the semantic
  # stage has learned nothing.
  'melody': (
    'tiny',
    {
      'model.pitch_classes': True,
      'model.high_hz': 3133.4,
      'model.hop_length': 1200,
      'model.segments': 2,
      'loss.window_seconds': 0.4,
      'loss.window_hop_seconds': 0.2,
      'data.crop_seconds': 0.4,
      'data.same_key': True,
      'data.tempo_change': 0.1,
    },
  ),
  'melody_rvq': ('tiny', {'model.num_levels': 2}),
  'first_semantic': ('tiny', _SEMANTIC | {'schedule.total_steps': 3000}),
  # It has learned to trust MuLan's tokens; now as far as a prompt's deserve:
  # text tokens are right in 59, 29, 15 % of the first levels.
  'semantic': (
    'tiny',
    _SEMANTIC
    | {
      'loss.wrong_level_probability': 0.4,
      'optimizer.lm.learning_rate': 4e-4,
      'schedule.total_steps': 250,
    },
  ),
  'coarse': (
    'tiny',
    {
      'model.embed_dim': 192,
      'model.num_heads': 3,
      'loss.no_semantic_probability': 0.1,
      'data.crop_seconds': 3.0,
      'data.batch_size': 8,
      'schedule.total_steps': 6900,
      'schedule.eval_every': 500,
    },
  ),
  'fine': (
    'tiny',
    {
      'model.embed_dim': 192,
      'model.num_heads': 3,
      'schedule.total_steps': 2900,
      'schedule.eval_every': 650,
    },
  ),
  # Not shipped: what experiments/fast_decoding plays it with.
  'parallel': (
    'tiny',
    {
      'model.num_layers': 3,
      'model.scan_unroll': 3,
      'model.embed_dim': 192,
      'model.num_heads': 3,
      'loss.no_semantic_probability': 0.1,
      'data.crop_seconds': 3.0,
      'data.batch_size': 8,
      'schedule.total_steps': 5000,
      'schedule.eval_every': 500,
    },
  ),
  'draft': (
    'tiny',
    {
      'model.num_layers': 1,
      'model.scan_unroll': 1,
      'model.embed_dim': 64,
      'model.num_heads': 1,
      'model.mlp_dim': 256,
      'data.crop_seconds': 3.0,
      'data.batch_size': 8,
      'schedule.total_steps': 3000,
      'schedule.eval_every': 500,
    },
  ),
}
# Of all language models: what their tokens are.
_LAYOUT = {
  'layout.mulan_levels': 12,
  'layout.mulan_codebook_size': 16,
  'layout.semantic_codebook_size': 512,
  'layout.acoustic_levels': 8,
  'layout.acoustic_codebook_size': 512,
}
# Stores of tokens: all streams of some music, and of more of it those that the
# semantic stage reads, which cost two cores a seventh. Of crops of 10 s.
_STORES = {
  'tokens': [
    '--hop_seconds=60',
    '--max_pieces=2000',
    '--splits=train,validation,test',
  ],
  'semantic_tokens': [
    '--hop_seconds=30',
    '--noacoustic',
    '--splits=train,validation',
  ],
}
# Which training is the first of a stage, in a folder of its own.
_BEGUN_BY = {'soundstream': 'codec', 'semantic': 'first_semantic'}
_DRAFT_OF = {'draft': 'coarse'}
_FITTED = {'mulan_rvq': 'mulan', 'kmeans': 'w2v_bert', 'melody_rvq': 'melody'}
# Of those in README.md one of low KAD that copies and stands still least.
_SAMPLING = {
  'temperature_semantic': 1.0,
  'guidance_semantic': 3.0,
  'temperature_coarse': 0.9,
  'top_p_coarse': 0.95,
  'guidance_coarse': 2.0,
  'temperature_fine': 0.2,
}
_DTYPE = 'bfloat16'  # in which all is shipped, and tokens are made
_STAGE = flags.DEFINE_enum(
  'stage', None, ['prepare', *SETTINGS, *_STORES, 'bundle'], 'What to run.'
)
_OUT = path_flags.DEFINE_path('out', 'runs/small', 'Folder of the model.')


def command(stage: str, out: Path) -> list[str]:
  """The command of a stage: program and arguments."""
  workdirs = out / 'workdirs'
  if stage in SETTINGS:
    arguments = ['train', *_training(stage, out)]
  elif stage == 'prepare':
    arguments = [
      'prepare',
      '--source=rendered_music',
      f'--pieces={PIECES}',
      f'--seed={SEED}',
      f'--out={out / "corpus"}',
    ]
  elif stage in _STORES:
    arguments = [
      'tokenize',
      f'--workdirs={workdirs}',
      f'--source=prepared:{out / "corpus"}',
      f'--out={out / stage}',
      f'--dtype={_DTYPE}',
      *_STORES[stage],
    ]
  else:
    arguments = [
      'bundle',
      f'--workdirs={workdirs}',
      f'--tokens={out / "tokens"}',
      f'--out={out / "bundle"}',
      f'--dtype={_DTYPE}',
      *(f'--{name}={value}' for name, value in _SAMPLING.items()),
    ]
  return [sys.executable, '-m', f'musiclm_jax.{arguments[0]}', *arguments[1:]]


def _training(stage: str, out: Path) -> list[str]:
  size, changes = SETTINGS[stage]
  goes_on_as = {first: stage for stage, first in _BEGUN_BY.items()}
  begins = stage in goes_on_as
  workdir = out / stage if begins else out / 'workdirs' / stage
  if stage in _DRAFT_OF:
    stage = _DRAFT_OF[stage]
    workdir = out / 'drafts' / stage
    changes = SETTINGS[stage][1] | changes
  first, stage = _BEGUN_BY.get(stage), goes_on_as.get(stage, stage)
  arguments = [f'--config=configs/{stage}.py:{size}', f'--workdir={workdir}']
  if first:
    arguments.append(f'--init_from={out / first}')
  if stage in (*LANGUAGE_MODELS, 'parallel'):
    changes = _LAYOUT | changes
    tokens = 'semantic_tokens' if stage == 'semantic' else 'tokens'
    arguments.append(f'--tokens={out / tokens}')
  elif stage != 'melody':  # which composes its tunes
    arguments.append(f'--config.data.source=prepared:{out / "corpus"}')
  if stage in _FITTED:
    arguments.append(f'--network={out / "workdirs" / _FITTED[stage]}')
  return arguments + [f'--config.{key}={it}' for key, it in changes.items()]


def main() -> int:
  """Runs one stage."""
  cli.require(_STAGE)
  arguments = command(_STAGE.value, _OUT.value)
  print(shlex.join(arguments), flush=True)
  return subprocess.run(arguments, check=False).returncode


if __name__ == '__main__':
  cli.run(main)
