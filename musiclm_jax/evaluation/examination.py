"""The examination: everything the demo has left -> report.

Material -> codec, semantic tokens, MuLan, token LMs, cascade, cheats -> gates,
figures and clips -> report.html, report.json, picture.png.
"""

import functools
import hashlib
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from musiclm_jax.cascade import networks, source_code
from musiclm_jax.contracts.kept_parts import Keep, KeptParts
from musiclm_jax.data.token_store import TokenStore
from musiclm_jax.evaluation import cascade_measures as cascade
from musiclm_jax.evaluation import (
  hearing,
  judge_panel,
  kept_measures,
  lm_measures,
  token_measures,
)
from musiclm_jax.evaluation.demo_plan import PROMPTS, Plan
from musiclm_jax.evaluation.gates import in_order
from musiclm_jax.evaluation.material import Codec, Material, open_split
from musiclm_jax.evaluation.report import Clip, Report
from musiclm_jax.evaluation.stage_process import Stamp, hash_of

_SPLITS = ('train', 'validation', 'test')
_STREAMS = ('mulan', 'semantic', 'acoustic')
_TRAININGS = (
  'soundstream',
  'w2v_bert',
  'kmeans',
  'mulan',
  'mulan_rvq',
  'semantic',
  'coarse',
  'fine',
)


# Seconds of each part on two cores, for the progress of the whole.
_EXPECTED = {
  'open': 2,
  'codec': 44,
  'semantic_usage': 1,
  'semantic_probe': 55,
  'mulan_recall': 5,
  'mulan_handover': 1,
  'nll': 20,
  'lm': 30,
  'generate': 110,
  'judges': 60,
  'prompts': 20,
  'music': 10,
  'copies': 10,
}


class _Parts:
  """Runs the parts of the evaluation and says how far it is."""

  def __init__(self):
    self._done = 0
    self.seconds: dict[str, float] = {}

  def __call__(self, name: str, function: Callable, *arguments: Any) -> Any:
    begun = time.monotonic()
    total = sum(_EXPECTED.values())
    print(f'{name}: begun at {self._done}/{total}', flush=True)
    result = function(*arguments)
    self._done += _EXPECTED[name]
    self.seconds[name] = time.monotonic() - begun
    print(
      f'{name}: {self.seconds[name]:.1f} s, {self._done}/{total}', flush=True
    )
    return result


def _examine(
  material: Material, seed: int, part: _Parts, keep: Keep
) -> tuple[list, dict, dict]:
  """All gates, all figures, and clips by heading."""
  gates, figures = [], {}

  def measure(name: str, function: Callable, *arguments: Any) -> tuple:
    call = functools.partial(function, *arguments)
    found, more, clips = part(name, kept_measures.measured, keep, name, call)
    gates.extend(found)
    return more, clips

  figures['codec_distance'], coded = measure(
    'codec', token_measures.codec, material
  )
  for name, *call in (
    ('semantic_usage', token_measures.semantic_usage, material),
    ('semantic_probe', token_measures.semantic_probe_gate, material, seed),
    ('mulan_recall', token_measures.mulan_recall, material, seed),
    ('mulan_handover', token_measures.mulan_handover, material),
  ):
    figures[name], _ = measure(name, *call)
  held_out = {
    stage: lm_measures.HeldOut(material, stage) for stage in lm_measures.STAGES
  }
  figures |= measure('nll', lm_measures.nll_gates, material, held_out)[0]
  levels = material.bundle.settings.mulan_levels
  figures['lm_conditioning'], _ = measure(
    'lm', lm_measures.conditioning, held_out, seed, levels
  )
  gate, figures['lm_perturb'] = lm_measures.perturbation(held_out)
  gates.append(gate)
  prompts = cascade.choose_prompts(material.test, seed)
  made = part('generate', cascade.generate, material, *prompts, seed, keep)
  panel = part('judges', _panel, material, seed)
  figures['judges'] = panel.qualifications
  for name, *call in (
    ('prompts', cascade.prompt_gates, material, made, panel),
    ('music', cascade.music_gates, material, made),
    ('copies', cascade.copy_gates, material, made),
  ):
    figures |= measure(name, *call)[0]
  figures['mulan_recall'] |= _contrastive_loss(material)
  figures['evaluation_seconds'] = part.seconds
  hashes = token_hashes(material.demo) | {
    f'generated_{name}': _sha256([getattr(made, name)])
    for name in ('semantic', 'acoustic')
  }
  return (
    gates,
    {'figures': figures, 'hashes': hashes},
    _clips(material.demo, made, coded),
  )


def listen(folder: Path) -> None:
  """Prepares what the judges hear, before there is a bundle.

  Args:
    folder: Of a demo with corpus, tokens and a trained codec.

  Raises:
    UsageError: If one of them is missing or damaged.
  """
  workdir = folder / 'workdirs' / 'soundstream'
  codec = Codec(networks.load(workdir, 'soundstream'))
  before, total = 0, sum(hearing.CLIPS.values())
  for name, clips in hearing.CLIPS.items():

    def report(heard: int, before: int = before) -> None:
      print(f'crops {before + heard}/{total}', flush=True)

    hearing.of_split(folder, name, open_split(folder, name), codec, report)
    before += clips


def _panel(material: Material, seed: int) -> judge_panel.Panel:
  """The judges, from what was heard for them or is heard now."""
  heard = [
    hearing.of_split(material.demo, name, split, material.codec)
    for name, split in (('train', material.train), ('test', material.test))
  ]
  return judge_panel.train(*heard, seed)


def _contrastive_loss(material: Material) -> dict[str, float]:
  """MuLan's last loss against ln(batch), which chance would give."""
  records = read_metrics(material.demo / 'workdirs' / 'mulan')
  batch_size = material.networks['mulan'].config['data']['batch_size']
  return {
    'loss': records[-1]['loss'] if records else None,
    'ln_batch': math.log(batch_size),
  }


def token_hashes(folder: Path) -> dict[str, str]:
  """SHA-256 of each stream of the token store, all splits in order."""

  digests = {name: hashlib.sha256() for name in _STREAMS}
  for split in _SPLITS:
    if not (folder / 'tokens' / split).is_dir():
      continue
    store = TokenStore(folder / 'tokens', split)
    for i in range(len(store)):
      record = store.read(i)
      for name, digest in digests.items():
        digest.update(record[name].astype('<i4').tobytes())
  return {name: digest.hexdigest() for name, digest in digests.items()}


def _sha256(arrays: list) -> str:
  digest = hashlib.sha256()
  for array in arrays:
    digest.update(array.astype('<i4').tobytes())
  return digest.hexdigest()


def read_metrics(workdir: Path) -> list[dict[str, float]]:
  """Records of metrics.jsonl, the last one of each step, by step."""
  records = {}
  path = workdir / 'metrics.jsonl'
  if path.exists():
    for line in path.read_text(errors='replace').splitlines():
      try:
        record = json.loads(line)
        records[record['step']] = record
      except (ValueError, KeyError, TypeError):
        continue  # a killed run may leave half a line
  return [records[step] for step in sorted(records)]


def _clips(folder: Path, made: Any, coded: tuple) -> dict[str, list]:
  """What can be listened to: samples, prompts of the gates, codec."""
  import soundfile

  samples = []
  for k, prompt in enumerate(PROMPTS):
    path = folder / 'samples' / f'sample_{k}.wav'
    if path.exists():
      waveform, rate = soundfile.read(path)
      samples.append(Clip(prompt, waveform, rate))
  prompted = [
    Clip(f'{prompt} [{family}]', clips[0])
    for prompt, family, clips in zip(
      made.prompts, made.families, made.waveforms, strict=True
    )
  ]
  plain, decoded = coded
  pairs = []
  for k in range(min(3, len(plain))):
    pairs += [
      Clip(f'held-out piece {k + 1}', plain[k]),
      Clip(f'held-out piece {k + 1} through the codec', decoded[k]),
    ]
  return {
    'Samples': samples,
    'Held-out prompts of the gates': prompted[::2],
    'The codec': pairs,
  }


def _stages(folder: Path, begun: float) -> list[dict[str, Any]]:
  """Cost of the finished stages, and of this one so far."""
  import psutil

  out = []
  for stage in Plan(folder, 0, 'tiny', 1).stages():
    stamp = Stamp.read(folder / 'stamps' / f'{stage.name}.json')
    if stamp and stamp.finished:
      out.append((stage.name, stamp.seconds, stamp.peak_bytes))
  out = [row for row in out if row[0] != 'evaluate']
  memory = psutil.Process().memory_info().rss
  out.append(('evaluate', time.monotonic() - begun, memory))
  return [
    dict(zip(('name', 'seconds', 'peak_bytes'), row, strict=True))
    for row in out
  ]


def write_report(folder: Path, seed: int) -> Any:
  """Examines a demo and writes report.html, report.json and picture.png.

  An interrupted examination goes on with the measures that it has.

  Args:
    folder: Of the demo.
    seed: Of judges, prompts and samples.

  Returns:
    The report.
  """
  begun, part = time.monotonic(), _Parts()
  material = part('open', Material, folder)
  with KeptParts(folder / 'evaluation.kept', _key(material, seed)) as kept:
    gates, measured, clips = _examine(material, seed, part, kept)
    report = Report(
      gates=in_order(gates),
      stages=_stages(folder, begun),
      token_hashes=measured['hashes'],
      baselines=measured['figures'],
      clips=clips,
      curves={
        name: read_metrics(folder / 'workdirs' / name) for name in _TRAININGS
      },
    )
    report.write(folder)
  return report


def _key(material: Material, seed: int) -> str:
  """A hash of all that the measures depend on."""
  files = [
    (path.name, path.stat().st_size, path.stat().st_mtime_ns)
    for part in ('corpus', 'tokens')
    for path in sorted((material.demo / part).rglob('*'))
    if path.is_file()
  ]
  code = source_code.digest(__name__, material.bundle.stages)
  return hash_of(f'{material.bundle.sha256} {seed} {code} {files}')
