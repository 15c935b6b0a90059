"""Published figures on MusicCaps, and the table in which ours stand beside.

`Results` of MusicCaps -> lines of the paper's Table 1. Only a figure of the
same kind stands in it: same embedder, windowing and about the same clips. All
others are told apart from it, each with its reason.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from musiclm_jax.evaluation.results import Results

COLUMNS = ('FAD_Trill', 'FAD_VGG', 'KLD', 'MCC', 'wins')
# Of 5,521 clips so many can still be had, 5,300 to 5,400; FAD of far fewer is
# higher, whatever they sound like.
LEAST_CLIPS = 5000
_PAPER = 'MusicLM (Agostinelli et al. 2023), Table 1'
_MUSICGEN = 'MusicGen (Copet et al. 2023), Table 1'
_NONE = '–'


@dataclasses.dataclass(frozen=True)
class PublishedRow:
  """What was published of a model on MusicCaps.

  Attributes:
    model: Its name.
    figures: By `COLUMNS`.
    source: Paper and table.
    windowing: Of VGGish in FAD_VGG, of `embedders.WINDOWINGS`.
  """

  model: str
  figures: Mapping[str, float]
  source: str
  windowing: str


def _of_paper(model: str, *figures: float) -> PublishedRow:
  named = dict(zip(COLUMNS, figures, strict=True))
  return PublishedRow(model, named, _PAPER, 'vggish')


TABLE_1 = (
  _of_paper('Riffusion', 0.76, 13.4, 1.19, 0.34, 158),
  _of_paper('Mubert', 0.45, 9.6, 1.58, 0.32, 97),
  _of_paper('MusicLM', 0.44, 4.0, 1.01, 0.51, 312),
  PublishedRow('MusicCaps', {'wins': 472}, _PAPER, 'vggish'),
)
# FAD of the published tool; their KL is of another classifier than the paper's
# and than any that is at hand here.
OTHERS = tuple(
  PublishedRow(model, {'FAD_VGG': distance}, _MUSICGEN, 'fad_tool')
  for model, distance in (
    ('Mousai', 7.5),
    ('Riffusion', 14.8),
    ('MusicGen 300M', 3.1),
    ('MusicGen 1.5B', 3.4),
    ('MusicGen 3.3B', 3.8),
  )
)
_REASONS = {
  'fad_': 'other embedder',
  'fadinf_': 'no table has FAD∞',
  'kad_': 'no table has KAD',
  'kld_': "other classifier: the paper's LEAF was not published",
  'mcc_': "other MuLan: the paper's was not published",
  'text_score_': 'no table has it',
}


def comparable(
  results: Results, songs: int, whole: bool
) -> tuple[dict[str, float], dict[str, str]]:
  """Which of our figures are of a published kind.

  Args:
    results: Of all measures.
    songs: Clips that were measured.
    whole: Whether they are those of all of MusicCaps that are found.

  Returns:
    Figures by column of the table, and for each other figure why it is none.
  """
  same: dict[str, float] = {}
  apart: dict[str, str] = {}
  for key, value in results.figures.items():
    reason = next(
      (why for start, why in _REASONS.items() if key.startswith(start)), None
    )
    if value is None or reason is None:
      continue
    if key == 'fad_vggish':
      if not whole:
        reason = 'other clips: the published ones are of all of MusicCaps'
      elif songs < LEAST_CLIPS:
        reason = (
          f'other number of clips: {songs}, where the published ones are of '
          f'{LEAST_CLIPS} or more'
        )
      else:
        same['FAD_VGG'] = value
        continue
    apart[key] = f'not comparable: {reason}'
  return same, apart


def table(
  results: Results,
  *,
  name: str,
  windowing: str,
  counts: Mapping[str, tuple[int, int]],
  split: str,
  songs: int,
  whole: bool,
) -> list[str]:
  """Lines for people: what was measured, the table, and figures apart from it.

  Args:
    results: Of all measures.
    name: Of the model that is measured.
    windowing: Of FAD, of `embedders.WINDOWINGS`: only published rows of the
      same stand beside a figure of VGGish.
    counts: Split -> clips that are found, of so many.
    split: That was measured.
    songs: Clips of it that were measured.
    whole: As of `comparable`.
  """
  same, apart = comparable(results, songs, whole)
  found, of = counts['all']
  splits = ', '.join(
    f'{part} {have:,} of {total:,}'
    for part, (have, total) in counts.items()
    if part != 'all'
  )
  lines = [
    f'MusicCaps: {found:,} clips found of {of:,} ({splits})',
    f'measured: {songs:,} clips of split {split}',
    '',
    _line('model', COLUMNS, 'source'),
    _line('---', ['---'] * len(COLUMNS), '---'),
  ]
  rows: Sequence[PublishedRow] = TABLE_1
  if same:
    rows = [r for r in (*TABLE_1, *OTHERS) if r.windowing == windowing]
  lines += [_published(row) for row in rows]
  if same:
    cells = [f'{same[c]:.3g}' if c in same else _NONE for c in COLUMNS]
    lines.append(_line(name, cells, f'measured here, n = {songs:,}'))
  if apart:
    lines += ['', f"figures of '{name}' beside the table:"]
    width = max(map(len, apart))
    lines += [
      f'{key:{width}}  {results.figures[key]:.4g}  ({why})'
      for key, why in apart.items()
    ]
  return lines


def _published(row: PublishedRow) -> str:
  cells = [
    f'{row.figures[c]:g}' if c in row.figures else _NONE for c in COLUMNS
  ]
  return _line(row.model, cells, row.source)


def _line(first: str, cells: Sequence[str], last: str) -> str:
  return '| ' + ' | '.join([first, *cells, last]) + ' |'
