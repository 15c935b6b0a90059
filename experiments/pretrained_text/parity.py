"""Compares the text tower with sentence-transformers' all-MiniLM-L6-v2.

  python experiments/pretrained_text/parity.py FOLDER GOLDEN.npz TEXTS.json

FOLDER holds model.safetensors, vocab.txt and config.json; GOLDEN.npz `ids`,
`mask` [N, L] and `emb` [N, D] that sentence-transformers made of the
texts. Prints the largest error, writes results.json, fails above 1e-5.
"""

import importlib.metadata
import json
import platform
import sys
import time
from pathlib import Path

import jax
import numpy as np

from musiclm_jax.data.text import WordPiece
from musiclm_jax.interop import bert
from musiclm_jax.mulan.towers import TextTower

TOLERANCE = 1e-5
PACKAGES = ('jax', 'flax', 'numpy', 'safetensors', 'tokenizers')


def main() -> None:
  """Checks ids, then embeddings: mean over the mask, length 1."""
  folder, golden_path, texts_path = map(Path, sys.argv[1:])
  with np.load(golden_path) as file:
    golden = {name: file[name] for name in file.files}
  texts = json.loads(texts_path.read_text(encoding='utf-8'))
  ids, mask = golden['ids'], golden['mask'].astype(bool)
  words = WordPiece.load(folder / 'vocab.txt')
  ours = np.stack([words.encode(text, ids.shape[1]) for text in texts])
  differs = (ours != ids * mask).any(axis=1)
  wrong = [text for text, other in zip(texts, differs, strict=True) if other]
  begun = time.monotonic()
  params, settings = bert.read(folder)
  seconds = time.monotonic() - begun
  tower = TextTower(**settings, pooling='mean')
  features = np.asarray(jax.jit(tower.apply)({'params': params}, ours))
  found = features / np.linalg.norm(features, axis=1, keepdims=True)
  error = float(np.abs(found - golden['emb']).max())
  results = {
    'date': time.strftime('%Y-%m-%d'),
    'texts': len(texts),
    'texts_with_other_ids': len(wrong),
    'max_abs_error': error,
    'settings': settings,
    'seconds_to_read': round(seconds, 2),
    'first_embedding_starts': [round(float(x), 8) for x in found[0, :3]],
    'versions': {
      'python': platform.python_version(),
      **{name: importlib.metadata.version(name) for name in PACKAGES},
    },
  }
  Path(__file__).with_name('results.json').write_text(
    json.dumps(results, indent=1) + '\n'
  )
  print(f'{len(texts)} texts, {len(wrong)} with other ids: {wrong[:3]}')
  print(f'largest error {error:.2e}')
  sys.exit(bool(wrong) or not error <= TOLERANCE)


if __name__ == '__main__':
  main()
