"""The report of a fine-tuning: two bundles, measured on the same songs.

songs that were held out -> losses and distances of both bundles -> their
differences, clips to listen to -> `ReportCard`
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from musiclm_jax.cascade import source_code
from musiclm_jax.cascade.musiclm import MusicLM
from musiclm_jax.contracts.kept_parts import KeptParts
from musiclm_jax.contracts.progress import Meter
from musiclm_jax.contracts.terminal import printable
from musiclm_jax.data.sources import Source
from musiclm_jax.data.token_store import TokenRecord
from musiclm_jax.evaluation import embedders, pictures
from musiclm_jax.evaluation.comparison import Difference
from musiclm_jax.evaluation.page import Clip
from musiclm_jax.evaluation.report_card import ClipRow, ReportCard
from musiclm_jax.evaluation.reporting import Steps, bundle_facts
from musiclm_jax.evaluation.results import Results, Side
from musiclm_jax.finetuning import measures
from musiclm_jax.finetuning.measures import SongClip
from musiclm_jax.metrics import bootstrap

SIDES = ('before', 'after')
_SHOWN_CLIPS = 4  # on the page
_FEW_SONGS = 'a bound over {} songs says little: hold out more'


@dataclasses.dataclass(frozen=True)
class BeforeAfter:
  """Two bundles and what they are measured on.

  Attributes:
    models: Before and after.
    stages: The language models that have learned.
    songs: Of `measures.read_songs`; none was trained on.
    chose: Of these, how many have also chosen the checkpoints.
    sources: Splits that hold the songs.
    folder: That keeps what is finished.
    count: Clips that each bundle makes, at most.
    seconds: Of each clip.
    seed: Of what is drawn.
  """

  models: tuple[MusicLM, MusicLM]
  stages: Sequence[str]
  songs: Mapping[str, Sequence[TokenRecord]]
  chose: int
  sources: Sequence[Source]
  folder: Path
  count: int
  seconds: float
  seed: int

  def card(
    self,
    conditions: Mapping[str, Any],
    losses: Mapping[str, Mapping[int, float]],
    steps: Steps,
  ) -> ReportCard:
    """Measures, and puts the report together.

    Args:
      conditions: How it came about, by name.
      losses: Stage -> step of its training -> held-out loss.
      steps: Of the whole work; two are left.
    """
    results = tuple(Results() for _ in SIDES)
    differences = self._add_losses(results, steps)
    clips = measures.read_clips(
      self.songs, self.sources, count=self.count, seconds=self.seconds
    )
    music = self._make_music(clips, steps)
    differences |= self._add_distances(results, clips, music)
    names = [printable(clip.song) for clip in clips]
    spread = np.linspace(0, len(clips) - 1, min(len(clips), _SHOWN_CLIPS))
    rows = [
      ClipRow(
        names[place],
        [
          Clip('held-out song', clips[place].waveform),
          *(Clip(s, m[place]) for s, m in zip(SIDES, music, strict=True)),
        ],
      )
      for place in map(round, spread)
    ]
    return ReportCard(
      [
        Side(name, found, bundle_facts(model))
        for name, found, model in zip(SIDES, results, self.models, strict=True)
      ],
      {**conditions, 'clips': len(clips), 'seconds of a clip': self.seconds},
      rows=rows,
      differences=differences,
      curves=_curves(losses),
    )

  def _add_losses(
    self, results: Sequence[Results], steps: Steps
  ) -> dict[str, Difference]:
    """Nats a token of each song, by both bundles."""
    found = {}
    remarks = [f'{self.chose} of the songs have also chosen the checkpoint']
    if len(self.songs) < measures.MIN_SONGS:
      remarks.append(_FEW_SONGS.format(len(self.songs)))
    progress = steps.begin('')
    meter = Meter('losses', 2 * len(self.stages), 'models', progress)
    for stage in self.stages:
      both = []
      for model, side in zip(self.models, results, strict=True):
        songs = measures.song_losses(model.networks[stage], self.songs)
        interval = bootstrap.mean([*songs.values()], seed=self.seed)
        side.add(
          f'nll_{stage}',
          interval.value,
          interval=interval,
          remarks=remarks,
          n={'songs': len(songs)},
          seed=self.seed,
          per_song=songs,
        )
        both.append([*songs.values()])
        meter.advance()
      change = bootstrap.difference(both[1], both[0], seed=self.seed)
      found[f'nll_{stage}'] = Difference(change.value, change, len(both[0]))
    return found

  def _make_music(
    self, clips: Sequence[SongClip], steps: Steps
  ) -> list[np.ndarray]:
    """Music of both bundles, [B, S] each, drawn with the same keys."""
    mulan = np.stack([clip.mulan for clip in clips])
    facts = [
      *(model.bundle.sha256 for model in self.models),
      *(mulan.tolist(), self.seconds, self.seed),
      source_code.digest(__name__, self.models[0].bundle.stages),
    ]
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    kept = self.folder / f'.musiclm_jax-{key[:16]}.kept'
    with KeptParts(kept, key) as keep:
      return [
        measures.make_music(
          model,
          mulan,
          seconds=self.seconds,
          seed=self.seed,
          keep=keep,
          name=side,
          progress=steps.begin(f'music {side}'),
        )
        for side, model in zip(SIDES, self.models, strict=True)
      ]

  def _add_distances(
    self,
    results: Sequence[Results],
    clips: Sequence[SongClip],
    music: Sequence[np.ndarray],
  ) -> dict[str, Difference]:
    """KAD of both bundles' music to the songs."""
    how = embedders.WINDOWINGS['vggish']
    embedder = embedders.open_tagger(how)
    key = f'kad_{embedder.name}'
    facts = {
      'embedder': embedder.name,
      'sha256': embedder.sha256,
      'windowing': embedder.windowing.name,
      'label': embedder.label,
      'seed': self.seed,
    }
    try:
      found = measures.distances(embedder, clips, *music, self.seed)
    except ValueError as error:
      for side in results:
        side.add(key, None, remarks=[f'no distance: {error}'], **facts)
      return {key: Difference(None, remark='neither has it')}
    remarks = [f'bounds over {found.num_units} {found.unit}']
    if found.unit == 'clips':
      remarks[0] += (
        f' of {len(self.songs)} songs: they hold for just these songs'
      )
    for side, interval in zip(
      results, (found.before, found.after), strict=True
    ):
      side.add(
        key,
        interval.value,
        interval=interval,
        remarks=remarks,
        n={'clips': len(clips), 'songs': len(self.songs)},
        **facts,
      )
    change = found.difference
    return {key: Difference(change.value, change, found.num_units)}


def _curves(losses: Mapping[str, Mapping[int, float]]) -> list[str]:
  """Held-out loss over the steps of each training."""
  return [
    pictures.line_chart(
      {stage: sorted(known.items())},
      title=f'Held-out loss, {stage}',
      x_label='step',
      y_label='nats a token',
    )
    for stage, known in losses.items()
    if known
  ]
