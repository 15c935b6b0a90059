"""The demo's page: pieces, the tokens that they are made of, what was found.

Four token streams stand above each spectrogram, on one axis of time: the
cascade from the sentence to the sound.
"""

import dataclasses
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from musiclm_jax.cascade.musiclm import Music
from musiclm_jax.evaluation import page, pictures
from musiclm_jax.evaluation.page import Clip

HTML = page.HTML
_STYLE = """
figure { width: 46rem; max-width: 100%; } figure img { height: 7rem; }
.stream { display: flex; align-items: center; margin: 1px .5rem; width: 46rem;
          max-width: 100%; }
.stream span { flex: none; width: 0; white-space: nowrap; direction: rtl; }
.stream b { font-weight: 400; font-size: 12px; padding-right: .6rem; }
.stream img { width: 100%; height: calc(var(--levels) * .5rem);
              image-rendering: pixelated; }
section { margin: 2rem 0 2rem 6rem; }
"""


@dataclasses.dataclass(frozen=True)
class Piece:
  """A piece and what it was made of.

  Attributes:
    clip: To listen to; its title is the prompt.
    streams: What made it -> tokens [T, Q], in the order of the cascade.
  """

  clip: Clip
  streams: Mapping[str, np.ndarray]

  @classmethod
  def of(
    cls, music: Music, coarse_levels: int, row: int | None = None
  ) -> 'Piece':
    """Takes one text's piece from what was generated.

    Args:
      music: Of one text, or of a list.
      coarse_levels: How many acoustic levels the coarse stage has made.
      row: Of the list; None where there is one text.
    """
    pick = (lambda x: x) if row is None else (lambda x: x[row])
    acoustic = pick(music.tokens['acoustic'])
    streams = {'MuLan': pick(music.tokens['mulan'])[None]}
    if 'semantic' in music.tokens:
      streams['semantic'] = pick(music.tokens['semantic'])[:, None]
    streams['coarse'] = acoustic[:, :coarse_levels]
    streams['fine'] = acoustic[:, coarse_levels:]
    title = music.metadata['prompts'][row or 0]
    return cls(Clip(title, pick(music.waveform), music.sample_rate), streams)


@dataclasses.dataclass(frozen=True)
class Report:
  """Everything that the page shows.

  Attributes:
    pieces: In their order.
    seconds: What was made -> seconds that it took, compiling included.
    question: What was looked for among the pieces.
    found: (file, cosine), the best first.
    bundle_sha256: Of the model that played.
    curve: (step, loss) of the training; empty without one.
    distances: Group of committed clips -> measure -> distance to held-out
      music; empty where they were not measured.
  """

  pieces: Sequence[Piece]
  seconds: Mapping[str, float]
  question: str
  found: Sequence[tuple[str, float]]
  bundle_sha256: str
  curve: Sequence[tuple[float, float]] = ()
  distances: Mapping[str, Mapping[str, float]] = dataclasses.field(
    default_factory=dict
  )

  def write(self, folder: Path) -> None:
    """Writes report.html and, last, report.json."""
    page.write(folder, {page.HTML: self.to_html().encode()}, self.to_json())

  def to_json(self) -> dict[str, Any]:
    """The contents of report.json."""
    return {
      'prompts': [piece.clip.title for piece in self.pieces],
      'seconds': dict(self.seconds),
      'search': {'text': self.question, 'found': [*map(list, self.found)]},
      'bundle_sha256': self.bundle_sha256,
      'curve': [*map(list, self.curve)],
      'distances': {name: dict(row) for name, row in self.distances.items()},
    }

  def to_html(self) -> str:
    """The page: no link leads out of it."""
    rows = ''.join(
      f'<tr><td class="words">{html.escape(name)}</td><td>{cosine:.3f}</td>'
      for name, cosine in self.found
    )
    times = ', '.join(
      f'{html.escape(what)} in {took:.0f} s'
      for what, took in self.seconds.items()
    )
    training = ''
    if self.curve:
      chart = pictures.line_chart(
        {'loss': self.curve},
        title='A codec learns, from nothing',
        x_label='step',
        y_label='loss',
      )
      training = f'<h2>One minute of a training</h2>{chart}'
    return page.document(
      'musiclm_jax: the first minute',
      '<h1>Music from sentences</h1>'
      '<p>A sentence becomes MuLan tokens; these, semantic tokens; these two, '
      'coarse tokens; those, fine ones; and coarse and fine ones, sound. A '
      'colour is a token: what returns is seen before it is heard.</p>'
      f'<p>{times}, compiling included.</p>'
      f'{"".join(map(_section, self.pieces))}'
      f'<h2>Which of them is “{html.escape(self.question)}”?</h2>'
      f'<table><tr><th>file<th>cosine{rows}</table>'
      f'{_distances(self.distances)}{training}',
      _STYLE,
    )


def check_out(folder: Path, overwrite: bool = False) -> None:
  """Checks that a report can be written into a folder; see `page.check_out`."""
  page.check_out(folder, (page.HTML,), overwrite, 'the demo')


def _distances(groups: Mapping[str, Mapping[str, float]]) -> str:
  if not groups:
    return ''
  measures = list(next(iter(groups.values())))
  head = ''.join(f'<th>{name.upper()}' for name in measures)
  rows = ''.join(
    f'<tr><td class="words">{html.escape(group)}'
    + ''.join(f'<td>{found[name]:.3f}' for name in measures)
    for group, found in groups.items()
  )
  return (
    '<h2>How far are the committed clips from held-out music?</h2>'
    '<p>Five clips a group, of experiments/clips/, by the embedder of the '
    f'package; less is nearer.</p><table><tr><th>clips{head}{rows}</table>'
  )


def _section(piece: Piece) -> str:
  rows = ''.join(
    f'<div class="stream" style="--levels: {max(codes.shape[1], 2)}">'
    f'<span><b>{name}</b></span>'
    f'{page.picture(pictures.token_stream(codes), f"{name} tokens")}</div>'
    for name, codes in piece.streams.items()
  )
  return f'<section>{rows}{page.player(piece.clip)}</section>'
