"""Makes the twenty clips of the page, and the statistics beside them.

`python -m experiments.clips.make` in the root of the repository, for the model
inside the package; `--bundle=DIR` for another. `--out` gets index.html, a
folder of each group (`clips.GROUPS`) and held_out.npz.
"""

import html
from pathlib import Path

import numpy as np
import soundfile
from absl import flags

from experiments.clips import clips
from musiclm_jax import cli, path_flags
from musiclm_jax.cascade.musiclm import MusicLM
from musiclm_jax.contracts import atomic_file, bounds
from musiclm_jax.contracts.audio import SAMPLE_RATE
from musiclm_jax.evaluation import codec, held_out, inputs, page, run
from musiclm_jax.evaluation.clips import ClipFolder

CLIPS, STATISTICS_CLIPS, SECONDS = 5, 96, 10.0
_BUNDLE = path_flags.DEFINE_path('bundle', None, cli.BUNDLE)
_OUT = path_flags.DEFINE_path('out', str(clips.FOLDER), 'Folder of the page.')
_WORK = path_flags.DEFINE_path(
  'work', 'runs/clips', 'Folder for held-out music.'
)
_SEED = flags.DEFINE_integer('seed', 0, 'Of music and model.', *bounds.SEED)
_STYLE = 'td { text-align: left; } audio { width: 14rem; }'


def main() -> None:
  """Renders, codes, generates, and writes the page last."""
  out, work, seed = _OUT.value, _WORK.value, _SEED.value
  model = MusicLM.load(_BUNDLE.value, cli.report)
  statistics(work / 'held_out', out / clips.STATISTICS.name, seed + 1)
  held_out.write_reference(
    work / 'real',
    clips=CLIPS,
    seconds=SECONDS,
    seed=seed,
    progress=cli.progress(),
  )
  real = ClipFolder(work / 'real')
  asked = held_out.prompted_clips(real)
  texts = [clip.prompt for clip in asked]
  source = real.source(SAMPLE_RATE)
  waveforms = np.stack([source.read(i) for i in range(len(texts))])
  made = {
    'real': waveforms,
    'coded': coded(model, waveforms),
    'shipped': generated(model, texts, seed),
    'unconditional': generated(model, texts, seed, mulan_levels=0),
  }
  for group, rows in made.items():
    for number, row in enumerate(rows):
      write(out / group / f'{number}.opus', row)
  text = document(texts, model.bundle.sha256)
  atomic_file.write_text(out / 'index.html', text)
  for group, found in clips.distances(out).items():
    figures = ', '.join(f'{name} {value:.3f}' for name, value in found.items())
    print(f'{group}: {figures}')


def statistics(folder: Path, file: Path, seed: int) -> None:
  """Keeps what FAD and KAD need of other held-out pieces."""
  held_out.write_reference(
    folder,
    clips=STATISTICS_CLIPS,
    seconds=SECONDS,
    seed=seed,
    progress=cli.progress(),
  )
  opened = inputs.open_inputs(
    reference=folder,
    generated=None,
    training=None,
    measures=clips.MEASURES,
    embedder_names=[clips.EMBEDDER],
    windowing='vggish',
    bundle=None,
    vggish=None,
    report=cli.report,
  )
  file.parent.mkdir(parents=True, exist_ok=True)
  run.evaluate(opened, clips.MEASURES, file)


def coded(model: MusicLM, waveforms: np.ndarray) -> np.ndarray:
  """Sends clips [N, S] through the model's codec."""
  network = model.networks['soundstream']
  hop = network.model.hop_length
  whole = waveforms[:, : waveforms.shape[1] // hop * hop]
  return codec.open_coder(network)(whole)[1]


def generated(
  model: MusicLM, texts: list[str], seed: int, **changes: int
) -> np.ndarray:
  """Makes a clip of each text."""
  return model.generate(
    texts, seconds=SECONDS, seed=seed, progress=cli.progress(), **changes
  ).waveform


def write(path: Path, waveform: np.ndarray) -> None:
  """Writes Opus, whole or not at all."""
  path.parent.mkdir(parents=True, exist_ok=True)
  with atomic_file.atomic_open(path, 'wb') as file:
    soundfile.write(
      file,
      np.clip(waveform, -1.0, 1.0),
      SAMPLE_RATE,
      format='OGG',
      subtype='OPUS',
    )


def document(texts: list[str], sha256: str) -> str:
  """The page: a row a caption, a column a group."""
  head = ''.join(f'<th>{group}' for group in clips.GROUPS)
  words = ''.join(f'<td>{words}' for words in clips.GROUPS.values())
  rows = [
    f'<tr><td>{html.escape(text)}'
    + ''.join(
      f'<td><audio controls preload="none" src="{group}/{number}.opus"></audio>'
      for group in clips.GROUPS
    )
    for number, text in enumerate(texts)
  ]
  return page.document(
    'musiclm_jax: twenty clips',
    f'<h1>Twenty clips</h1><p>Model {sha256[:16]}. The first that were made: '
    'none was chosen.</p>'
    f'<table><tr><th>caption{head}<tr><td>{words}{"".join(rows)}</table>\n',
    _STYLE,
  )


if __name__ == '__main__':
  cli.run(main)
