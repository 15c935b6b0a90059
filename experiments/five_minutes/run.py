"""Five minutes of music from one text: memory, seams, and what comes back.

python -m experiments.five_minutes.run --out=runs/five_minutes
"""

import dataclasses
import datetime
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from experiments.five_minutes import seams, structure
from experiments.mode_effects import pieces
from experiments.tiny_cascade import music
from musiclm_jax import cli, path_flags
from musiclm_jax.cascade import provenance
from musiclm_jax.cascade.musiclm import MusicLM
from musiclm_jax.contracts import atomic_file, bounds
from musiclm_jax.contracts.audio import SAMPLE_RATE
from musiclm_jax.stages import LANGUAGE_MODELS

SECONDS = 300.0
TEXTS = (
  'a slow waltz on a music box',
  'a folk tune on a guitar',
)
_FIRST = 60  # seconds, in which all programs are compiled and windows filled
_BUNDLE = path_flags.DEFINE_path('bundle', None, cli.BUNDLE)
_OUT = path_flags.DEFINE_path('out', 'runs/five_minutes', 'Folder of pieces.')
_RESULTS = path_flags.DEFINE_path(
  'results',
  str(Path(__file__).with_name('results.json')),
  'File of the figures.',
)
_REAL = flags.DEFINE_integer('real', 16, 'Held-out pieces.', *bounds.COUNT)
_SEED = flags.DEFINE_integer('seed', 0, 'Of music and model.', *bounds.SEED)


def main() -> None:
  """Streams a piece of each text, renders real ones, writes the figures."""
  out, seed = _OUT.value, _SEED.value
  out.mkdir(parents=True, exist_ok=True)
  model = MusicLM.load(_BUNDLE.value, cli.report)
  found: dict[str, Any] = {'generated': [], 'real': []}
  for number, text in enumerate(TEXTS):
    waveform, memory, codes = stream(model, text, seed)
    provenance.write_sound(
      out / f'{number}.wav', waveform, SAMPLE_RATE, {'prompt': text}
    )
    row = {
      'text': text,
      'memory': memory,
      'seams': seams_of(model, waveform),
      'whole': whole(model, waveform, codes) if number == 0 else None,
      'returns': returns_of(waveform),
    }
    found['generated'].append(row)
    print(json.dumps(row), flush=True)
  split = pieces.HeldOutPieces(_REAL.value, seed)
  for index in range(len(split)):
    row = {
      'seconds': round(split.num_samples(index) / SAMPLE_RATE, 1),
      'returns': returns_of(split.read(index)),
    }
    found['real'].append(row)
    print(json.dumps(row), flush=True)
  record = {
    'date': datetime.date.today().isoformat(),
    'bundle_sha256': model.bundle.sha256,
    **found,
  }
  atomic_file.write_text(_RESULTS.value, json.dumps(record, indent=1) + '\n')


def stream(
  model: MusicLM, text: str, seed: int
) -> tuple[np.ndarray, dict[str, float], np.ndarray]:
  """Makes a piece second by second.

  Returns:
    float32 [S], what its memory did, and its acoustic codes [T, Q].
  """
  begun, chunks, resident = time.monotonic(), [], []
  music_stream = model.stream(text, seconds=SECONDS, seed=seed)
  for chunk in music_stream:
    chunks.append(chunk)
    resident.append(_resident())
  waveform = np.concatenate(chunks)
  seconds = np.arange(len(resident))[_FIRST:]
  slope = np.polyfit(seconds, resident[_FIRST:], 1)[0]
  memory = {
    'after_first_mb': round(resident[_FIRST] / 1e6),
    'at_end_mb': round(resident[-1] / 1e6),
    'most_mb': round(max(resident) / 1e6),
    # The caller's samples and those that the stream keeps are part of it.
    'kb_a_second': round(slope / 1e3, 1),
    'samples_kb_a_second': round(waveform.nbytes / SECONDS / 1e3, 1),
    'took_seconds': round(time.monotonic() - begun, 1),
  }
  return waveform, memory, music_stream.music().tokens['acoustic']


def _resident() -> int:
  """Bytes of this process in memory."""
  pages = int(Path('/proc/self/statm').read_text().split()[1])
  return pages * os.sysconf('SC_PAGE_SIZE')


def seams_of(model: MusicLM, waveform: np.ndarray) -> dict[str, Any]:
  """Stage -> `Seams` at its joints."""
  layouts = {
    name: model.networks[name].model.layout for name in LANGUAGE_MODELS
  }
  hop = model.networks['soundstream'].model.hop_length
  places = seams.joints(layouts, SECONDS, hop)
  return {
    name: dataclasses.asdict(seams.measure(waveform, at, hop))
    for name, at in places.items()
  }


def whole(
  model: MusicLM, waveform: np.ndarray, codes: np.ndarray
) -> dict[str, float]:
  """Largest difference from a decode of all codes at once."""
  import jax

  from musiclm_jax.cascade import decoder

  codec = model.networks['soundstream']
  step = jax.jit(codec.model.decode_step)
  once, _ = step(codec.params, codec.collections, codes[None])
  once = decoder.limit(np.asarray(once)[0, : len(waveform)])
  return {'largest_difference': float(np.abs(once - waveform).max())}


def returns_of(waveform: np.ndarray) -> dict[str, float]:
  """`structure.returns` of the chroma."""
  found = structure.returns(music.chroma(waveform, structure.FRAME))
  return {**dataclasses.asdict(found), 'sigmas': found.sigmas}


if __name__ == '__main__':
  cli.run(main)
