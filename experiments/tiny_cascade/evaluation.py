"""The evaluation: everything a run has left -> report.

Artifacts -> codec, semantic tokens, MuLan, token LMs, cascade, negative
controls -> gates, figures and clips -> report.html, report.json, picture.png.
"""

import functools
import hashlib
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.tiny_cascade import cascade_checks as cascade
from experiments.tiny_cascade import (
  classifiers,
  copy_checks,
  feature_cache,
  gates,
  lm_checks,
  prompt_checks,
  semantic_checks,
  token_checks,
)
from experiments.tiny_cascade.artifacts import (
  Artifacts,
  open_split,
  trained_codec,
)
from experiments.tiny_cascade.plan import PROMPTS, CascadePlan
from experiments.tiny_cascade.process import Stamp, hash_of
from experiments.tiny_cascade.report import Clip, EvaluationReport
from musiclm_jax.cascade import source_code
from musiclm_jax.contracts.kept_parts import Keep, KeptParts
from musiclm_jax.contracts.progress import Meter, ProgressCallback, ignore
from musiclm_jax.data.token_store import TokenStore

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
  'semantic_probe': 75,
  'mulan_recall': 5,
  'mulan_handover': 1,
  'nll': 20,
  'lm': 30,
  'generate': 220,
  'classifiers': 1,
  'prompts': 25,
  'music': 10,
  'copies': 10,
}


class _Parts:
  """Runs the parts of the evaluation and says how far it is."""

  def __init__(self, progress: ProgressCallback):
    total = sum(_EXPECTED.values())
    self._meter = Meter('evaluate', total, 'expected seconds', progress)
    self.seconds: dict[str, float] = {}

  def __call__(self, name: str, function: Callable, *arguments: Any) -> Any:
    begun = time.monotonic()
    result = function(*arguments)
    self._meter.advance(_EXPECTED[name])
    self.seconds[name] = time.monotonic() - begun
    print(f'{name}: {self.seconds[name]:.1f} s', flush=True)
    return result


def _evaluate(
  artifacts: Artifacts, seed: int, part: _Parts, keep: Keep
) -> tuple[list, dict, dict]:
  """All gates, all figures, and clips by heading."""
  found, figures = [], {}

  def measure(name: str, function: Callable, *arguments: Any) -> tuple:
    """Calls a check, such as `token_checks.codec`, or finds what it made."""
    call = functools.partial(function, *arguments)
    more_gates, more, clips = part(name, gates.measured, keep, name, call)
    found.extend(more_gates)
    return more, clips

  figures['codec_distance'], coded = measure(
    'codec', token_checks.codec, artifacts
  )
  for name, *call in (
    ('semantic_usage', token_checks.semantic_usage, artifacts),
    ('semantic_probe', semantic_checks.semantic_probe, artifacts, seed),
    ('mulan_recall', token_checks.mulan_recall, artifacts, seed),
    ('mulan_handover', token_checks.mulan_handover, artifacts),
  ):
    figures[name], _ = measure(name, *call)
  held_out = {
    stage: lm_checks.HeldOutCrops(artifacts, stage)
    for stage in lm_checks.STAGES
  }
  figures |= measure('nll', lm_checks.nll_gates, artifacts, held_out)[0]
  levels = artifacts.bundle.settings.mulan_levels
  figures['lm_conditioning'], _ = measure(
    'lm', lm_checks.conditioning, held_out, seed, levels
  )
  gate, figures['lm_perturb'] = lm_checks.perturbation(held_out)
  found.append(gate)
  prompts = cascade.choose_prompts(
    artifacts.test, seed, cascade.PROMPTS_PER_FAMILY
  )
  made = part('generate', cascade.generate, artifacts, prompts, seed, keep)
  trained = part('classifiers', _classifiers, artifacts)
  figures['classifiers'] = trained.qualifications
  for name, *call in (
    ('prompts', prompt_checks.prompt_gates, artifacts, made, trained),
    ('music', cascade.music_gates, made),
    ('copies', copy_checks.copy_gates, artifacts, made),
  ):
    figures |= measure(name, *call)[0]
  figures['mulan_recall'] |= _contrastive_loss(artifacts)
  figures['evaluation_seconds'] = part.seconds
  hashes = token_hashes(artifacts.demo) | {
    f'generated_{name}': _sha256([getattr(made, name)])
    for name in ('semantic', 'acoustic')
  }
  return (
    found,
    {'figures': figures, 'hashes': hashes},
    _clips(artifacts.demo, made, coded),
  )


def compute_features(folder: Path, progress: ProgressCallback) -> None:
  """Prepares the features for the classifiers, before there is a bundle.

  Args:
    folder: Of a run with corpus, tokens and a trained codec.
    progress: Takes the events.

  Raises:
    UsageError: If one of them is missing or damaged.
  """
  codec = trained_codec(folder / 'workdirs' / 'soundstream')
  total = sum(feature_cache.CLIPS.values())
  meter = Meter('features', total, 'crops', progress)
  for name in feature_cache.CLIPS:
    split = open_split(folder, name)
    feature_cache.of_split(folder, name, split, codec, meter.advance)


def _classifiers(artifacts: Artifacts) -> classifiers.Classifiers:
  """The classifiers, by features that are cached or computed now."""
  name = 'test'
  held_out = feature_cache.of_split(
    artifacts.demo, name, artifacts.test, artifacts.codec
  )
  return classifiers.examined(held_out)


def _contrastive_loss(artifacts: Artifacts) -> dict[str, float]:
  """MuLan's last loss against ln(batch), which chance would give."""
  records = read_metrics(artifacts.demo / 'workdirs' / 'mulan')
  batch_size = artifacts.networks['mulan'].config['data']['batch_size']
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
      made.prompts.texts, made.prompts.families, made.waveforms, strict=True
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
    'Held-out prompts of the gates': prompted[:: cascade.PROMPTS_PER_FAMILY],
    'The codec': pairs,
  }


def _stages(folder: Path, begun: float) -> list[dict[str, Any]]:
  """Cost of the finished stages, and of this one so far."""
  import psutil

  out = []
  for stage in CascadePlan(folder, 0, 'tiny', 1).stages():
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


def write_report(
  folder: Path, seed: int, progress: ProgressCallback = ignore
) -> EvaluationReport:
  """Evaluates a run and writes report.html, report.json and picture.png.

  An interrupted evaluation goes on with the measures that it has.

  Args:
    folder: Of the run.
    seed: Of classifiers, prompts and samples.
    progress: Takes the events.

  Returns:
    The report.
  """
  begun, part = time.monotonic(), _Parts(progress)
  artifacts = part('open', Artifacts, folder)
  with KeptParts(folder / 'evaluation.kept', _key(artifacts, seed)) as kept:
    found, measured, clips = _evaluate(artifacts, seed, part, kept)
    report = EvaluationReport(
      gates=gates.in_order(found),
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


def _key(artifacts: Artifacts, seed: int) -> str:
  """A hash of all that the measures depend on."""
  files = [
    (path.name, path.stat().st_size, path.stat().st_mtime_ns)
    for part in ('corpus', 'tokens')
    for path in sorted((artifacts.demo / part).rglob('*'))
    if path.is_file()
  ]
  code = source_code.digest(__name__, artifacts.bundle.stages)
  return hash_of(f'{artifacts.bundle.sha256} {seed} {code} {files}')
