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

PIECES, SEED = 1500, 1  # seed 0 is what is measured on
# Of two cores, where float32 is as fast as bfloat16 and batches are small:
# stage -> what is changed of its config's `small`.
SETTINGS = {
  'soundstream': {
    'model.channels': 16,
    'model.dtype': 'float32',
    'discriminators.dtype': 'float32',
    'discriminators.wave_channels': 2,
    'discriminators.wave_max_channels': 128,
    'discriminators.stft_channels': 4,
    'data.batch_size': 8,
    'data.crop_seconds': 0.5,
    'data.eval_batches': 8,
    'loss.waveform_weight': 5.0,
    'loss.codebook_decay': 0.97,
    'loss.adversarial_start': 1.0,
    'optimizer.codec.name': 'muon',
    'optimizer.codec.learning_rate': 4e-3,
    'optimizer.codec.warmup_steps': 20,
    'schedule.total_steps': 4600,
    'schedule.eval_every': 500,
    'training.ema_decay': 0.998,
  },
}
_STAGE = flags.DEFINE_enum(
  'stage', None, ['prepare', *SETTINGS], 'What to run.'
)
_OUT = path_flags.DEFINE_path('out', 'runs/small', 'Folder of the model.')


def command(stage: str, out: Path) -> list[str]:
  """The command of a stage: program and arguments."""
  if stage == 'prepare':
    return [
      *(sys.executable, '-m', 'musiclm_jax.prepare'),
      '--source=rendered_music',
      f'--pieces={PIECES}',
      f'--seed={SEED}',
      f'--out={out / "corpus"}',
    ]
  return [
    *(sys.executable, '-m', 'musiclm_jax.train'),
    f'--config=configs/{stage}.py:small',
    f'--workdir={out / "workdirs" / stage}',
    f'--config.data.source=prepared:{out / "corpus"}',
    *(f'--config.{key}={value}' for key, value in SETTINGS[stage].items()),
  ]


def main() -> int:
  """Runs one stage."""
  cli.require(_STAGE)
  arguments = command(_STAGE.value, _OUT.value)
  print(shlex.join(arguments), flush=True)
  return subprocess.run(arguments, check=False).returncode


if __name__ == '__main__':
  cli.run(main)
