"""Folders of short tones for listening tests, one a system."""

from pathlib import Path

import numpy as np
import soundfile

SYSTEMS = ('our_secret', 'their_secret', 'real_secret')
NAMES = ('piece1', 'piece2', 'sub/piece3')
RATE = 16_000


def write(folder: Path) -> dict[str, Path]:
  """Writes three clips of 1.2 s of each system; the last has captions.

  Returns:
    System -> its folder.
  """
  rng = np.random.default_rng(0)
  time = np.arange(round(1.2 * RATE)) / RATE
  for level, system in enumerate(SYSTEMS, 1):
    for name in NAMES:
      path = folder / system / f'{name}.wav'
      path.parent.mkdir(parents=True, exist_ok=True)
      tone = np.sin(2 * np.pi * rng.uniform(200, 5000) * time)
      tone += 0.1 * rng.normal(size=tone.shape)
      soundfile.write(path, 0.1 * level * tone, RATE)
  rows = [f'{name}.wav,A sound of {name[-1]}' for name in NAMES]
  (folder / SYSTEMS[-1] / 'captions.csv').write_text(
    '\n'.join(['path,caption', *rows]) + '\n'
  )
  return {system: folder / system for system in SYSTEMS}
