"""Files that are broken in every way end no run: some here, 10,000 in soak.

`SOAK_RESULT=FILE.json` keeps what the soak found, see `experiments/soak/`.
"""

import json
import os
import time
from pathlib import Path

import mutated_files
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from musiclm_jax.contracts import atomic_file
from musiclm_jax.data import file_folder
from musiclm_jax.data.audio_folder import AudioFolder
from musiclm_jax.data.folder_listing import list_files
from musiclm_jax.data.midi_folder import MidiFolder
from musiclm_jax.data.sources import SPLITS

LIMIT = 10.0  # seconds for one file
RATE = 24_000


def read_all(folder, kind, names, monkeypatch):
  """Reads what can be read and checks that all else is named; a summary."""
  opened = MidiFolder if kind == 'mid' else AudioFolder
  start = time.monotonic()
  good, broken = file_folder.probe_all(
    folder, opened.kind, list_files(folder, opened.kind.suffixes)
  )
  scanned, slowest = time.monotonic() - start, 0.0
  assert all(reason for _, reason in broken)
  # A parser that reads past its buffer might find otherwise another time.
  monkeypatch.setattr(file_folder, 'probe_all', lambda *_: (good, broken))
  kept = []
  # Fewer files than splits make no source.
  for split in SPLITS if len(good) >= len(SPLITS) else ():
    source = opened(str(folder), split, RATE)
    kept += [source.piece_id(i) for i in range(len(source))]
    for i in range(len(source)):
      start = time.monotonic()
      waveform = source.read(i)
      slowest = max(slowest, time.monotonic() - start)
      assert np.isfinite(waveform).all(), source.piece_id(i)
      assert np.abs(waveform).max(initial=0.0) <= 1.0, source.piece_id(i)
  named = {name for name, _ in broken}
  assert not kept or sorted([*kept, *named]) == sorted(names)
  assert slowest < LIMIT
  return {
    'kind': kind,
    'files': len(names),
    'read': len(kept),
    'named': len(broken),
    'parser_died': sum('died' in reason for _, reason in broken),
    'scan_seconds': round(scanned, 1),
    'slowest_read_seconds': round(slowest, 2),
  }


@settings(
  max_examples=2,
  deadline=None,
  derandomize=True,
  suppress_health_check=list(HealthCheck),
)
@pytest.mark.parametrize('kind', mutated_files.KINDS)
@given(seed=st.integers(0, 2**32 - 1))
def test_whatever_happened_to_a_file_it_is_read_or_named(
  kind, seed, tmp_path_factory
):
  folder = tmp_path_factory.mktemp('mutated')
  names = mutated_files.write(folder, kind, 12, seed)
  with pytest.MonkeyPatch.context() as monkeypatch:
    read_all(folder, kind, names, monkeypatch)


@pytest.mark.soak
@pytest.mark.parametrize('kind', mutated_files.KINDS)
def test_of_ten_thousand_files_none_ends_or_holds_up_a_run(
  kind, tmp_path, monkeypatch
):
  names = mutated_files.write(tmp_path, kind, 2000, 0)
  row = read_all(tmp_path, kind, names, monkeypatch)
  if path := os.environ.get('SOAK_RESULT'):
    path = Path(path)
    rows = json.loads(path.read_text()) if path.exists() else []
    atomic_file.write_text(path, json.dumps([*rows, row], indent=1) + '\n')
