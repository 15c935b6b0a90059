"""Plays a model and shows how it works: pieces, tokens, a search, a training.

`python -m experiments.first_minute.run --out=runs/demo` in the root of the
repository (or `make demo`). What is heard and seen is one page,
OUT/report.html.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

from absl import flags

from experiments.clips import clips
from experiments.first_minute import report
from musiclm_jax import cli, path_flags
from musiclm_jax.contracts import bounds, ownership
from musiclm_jax.training import workdir

PROMPTS = (
  'a slow waltz on a music box',
  'fast techno with a synth lead',
  'a calm piano solo',
  'a cheerful march with brass and drums',
)
LONG_PROMPT = 'slow strings, film music'
QUESTION = 'a piano'
SECONDS, LONG_SECONDS = 10.0, 20.0
# A training that shows its curve within a minute of two cores.
_PIECES, _STEPS = 24, 100
_TRAINING = 'soundstream'
FOLDER = ownership.Kind(
  'demo',
  ('report.html', 'report.json', 'music/*', 'corpus/*', 'training/*'),
  known=lambda folder: ownership.is_sealed(
    ownership.object_in(folder / 'report.json')
  ),
)
_BUNDLE = path_flags.DEFINE_path('bundle', None, cli.BUNDLE)
_OUT = path_flags.DEFINE_path('out', 'runs/demo', 'Folder of the demo.')
_SEED = flags.DEFINE_integer('seed', 0, 'Of the music.', *bounds.DEMO_SEED)
_TRAIN = flags.DEFINE_bool('train', True, 'Train for a minute, too.')
_OVERWRITE = flags.DEFINE_bool(
  'overwrite', False, 'Replace files of the demo that were changed since.'
)


def main() -> None:
  """Plays, searches, trains, and writes the page."""
  out = _OUT.value
  ownership.check(out, FOLDER)
  report.check_out(out, _OVERWRITE.value)
  with ownership.hold(out, FOLDER, 'running the demo'):
    played = _play(out / 'music')
    curve = _train(out) if _TRAIN.value else ()
    cli.report('how far the committed clips are from held-out music:')
    distances = clips.distances(progress=cli.progress(), report=cli.report)
    report.Report(**played, curve=curve, distances=distances).write(out)
  cli.report(f'open {out / report.HTML}')


def _play(folder: Path) -> dict:
  """Makes pieces of all prompts, and looks for one of them by a sentence."""
  from musiclm_jax.cascade.musiclm import MusicLM
  from musiclm_jax.launch import devices

  model = MusicLM.load(_BUNDLE.value, cli.report)
  devices.check()
  shared = {'seed': _SEED.value, 'progress': cli.progress(), 'overwrite': True}
  began = time.monotonic()
  four = model.generate(
    PROMPTS, seconds=SECONDS, out=folder / 'piece.wav', **shared
  )
  half = time.monotonic()
  long = model.generate(
    LONG_PROMPT, seconds=LONG_SECONDS, out=folder / 'long.wav', **shared
  )
  ended = time.monotonic()
  found = model.search(folder, QUESTION, progress=cli.progress())
  pieces = [
    report.Piece.of(four, model.bundle.contract.coarse_levels, row)
    for row in range(len(PROMPTS))
  ]
  pieces.append(report.Piece.of(long, model.bundle.contract.coarse_levels))
  return {
    'pieces': pieces,
    'seconds': {
      f'{len(PROMPTS)} pieces of {SECONDS:g} s': half - began,
      f'one of {LONG_SECONDS:g} s': ended - half,
    },
    'question': QUESTION,
    'found': found,
    'bundle_sha256': model.bundle.sha256,
  }


def _train(out: Path) -> list[tuple[float, float]]:
  """Trains a codec from nothing; (step, loss) of each logged step."""
  corpus, folder = out / 'corpus', out / 'training'
  _run(
    'prepare',
    '--source=rendered_music',
    f'--pieces={_PIECES}',
    f'--out={corpus}',
  )
  ownership.clear(folder, workdir.FOLDER)
  _run(
    'train',
    f'--config={_TRAINING}:tiny',
    f'--workdir={folder}',
    f'--config.data.source=prepared:{corpus}',
    f'--config.schedule.total_steps={_STEPS}',
    '--config.schedule.log_every=5',
    f'--config.schedule.eval_every={_STEPS}',
    '--config.loss.adversarial_start=1.0',
  )
  lines = (folder / 'metrics.jsonl').read_text().splitlines()
  records = map(json.loads, lines)
  return [(r['step'], r['loss']) for r in records if 'loss' in r]


def _run(command: str, *arguments: str) -> None:
  """Runs a command as a user does; one that fails has said why."""
  program = [sys.executable, '-m', f'musiclm_jax.{command}', *arguments]
  if code := subprocess.run(program, check=False).returncode:
    raise SystemExit(code)


if __name__ == '__main__':
  cli.run(main)
