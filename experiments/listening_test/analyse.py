"""Analyses the answers of a listening test.

`python -m experiments.listening_test.analyse --key=PAGE.key.json ANSWERS …`

ANSWERS are files that the page saved, or folders of them. Of comparisons: wins
as in MusicLM's Table 1, who was preferred to whom, strengths by Bradley and
Terry with one-sided 95 % bounds, Wilcoxon's signed-rank tests with Bonferroni's
correction. Of MUSHRA: means with bounds and the same tests, without raters who
do not recognize the hidden reference, who are named. Answers of another page
and two files of one rater are refused.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.listening_test import answers, mushra, preferences
from experiments.listening_test.answers import Key, RaterAnswers
from experiments.listening_test.preferences import SignedRanks
from musiclm_jax.contracts import atomic_file
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.terminal import printable


def analyse(
  key: Key,
  raters: Sequence[RaterAnswers],
  *,
  unit: str = 'prompt',
  alpha: float = preferences.ALPHA,
  tests: int | None = None,
  seed: int = 0,
) -> dict[str, Any]:
  """All figures, as JSON.

  Args:
    key: Of the page.
    raters: Their answers.
    unit: `'prompt'` or `'rater'`: what bounds resample.
    alpha: Level of all signed-rank tests together.
    tests: By how many it is divided; None: by the pairs of systems.
    seed: Of the resampling.

  Raises:
    UsageError: If no answer is left.
  """
  common = {
    'page': key.page,
    'kind': key.kind,
    'raters': len(raters),
    'unfinished': {
      one.rater: f'{len(one.answers)} of {one.trials}'
      for one in raters
      if len(one.answers) < one.trials
    },
    'unit': unit,
    'alpha': alpha,
    'seed': seed,
  }
  if key.kind == 'mushra':
    return common | _mushra(key, raters, unit, alpha, tests, seed)
  ratings = answers.ratings(raters, key)
  won = preferences.wins(ratings)
  compared = preferences.comparisons(ratings)
  units = ratings.prompts if unit == 'prompt' else ratings.raters
  strengths = preferences.bradley_terry(ratings, units, seed=seed)
  found: dict[str, Any] = {
    'ratings': len(ratings),
    'prompts': len(set(ratings.prompts)),
    'left_preferred': int((ratings.preference < 0).sum()),
    'right_preferred': int((ratings.preference > 0).sum()),
    'systems': {
      name: {
        'wins': int(won[k].sum()),
        'comparisons': int(compared[k].sum()),
        'strength': dataclasses.asdict(strengths[k]),
      }
      for k, name in enumerate(key.systems)
    },
    'pairs': [],
  }
  ranks = preferences.signed_ranks(ratings, alpha=alpha, tests=tests)
  for test in ranks:
    a, b = test.pair
    found['pairs'].append(
      _test(test, key.systems)
      | {'wins': [int(won[a, b]), int(won[b, a])]}
      | {'ties': int(compared[a, b] - won[a, b] - won[b, a])}
    )
  return common | found


def _mushra(
  key: Key,
  raters: Sequence[RaterAnswers],
  unit: str,
  alpha: float,
  tests: int | None,
  seed: int,
) -> dict[str, Any]:
  scores = answers.scores(raters, key)
  missed = mushra.missed_references(scores, key.reference)
  excluded = {r: m for r, m in missed.items() if m > mushra.MOST_MISSED}
  kept = mushra.without(scores, set(excluded))
  if not kept.raters:
    raise UsageError(
      f'no rater is left: all {len(missed)} scored the hidden reference below '
      f'{mushra.LEAST_REFERENCE:g} in more than {mushra.MOST_MISSED:.0%} of '
      'their trials'
    )
  units = kept.prompts if unit == 'prompt' else kept.raters
  means = mushra.means(kept, units, seed=seed)
  ranks = mushra.signed_ranks(kept, alpha=alpha, tests=tests)
  return {
    'ratings': len(kept.raters),
    'prompts': len(set(kept.prompts)),
    'excluded': excluded,
    'systems': {
      name: {'score': dataclasses.asdict(found)}
      for name, found in means.items()
    },
    'pairs': [_test(test, key.systems) for test in ranks],
  }


def _test(test: SignedRanks, systems: Sequence[str]) -> dict[str, Any]:
  return {
    'systems': [systems[k] for k in test.pair],
    'n': test.count,
    'p': test.p_value,
    'p_of_prompts': test.prompts_p_value,
    'threshold': test.threshold,
    'significant': test.significant,
  }


def lines(found: dict[str, Any]) -> list[str]:
  """The figures for readers."""
  text = [
    f'{found["ratings"]} ratings of {found["prompts"]} prompts by '
    f'{found["raters"]} raters; bounds are one-sided 95 %, over '
    f'{found["unit"]}s'
  ]
  for rater, share in found['unfinished'].items():
    text.append(f'{rater} has not finished: {share} trials')
  for rater, share in found.get('excluded', {}).items():
    text.append(
      f'{rater} is left out: hidden reference below '
      f'{mushra.LEAST_REFERENCE:g} in {share:.0%} of the trials'
    )
  figure = 'score' if found['kind'] == 'mushra' else 'strength'
  ranked = sorted(
    found['systems'].items(), key=lambda item: -item[1][figure]['value']
  )
  for name, facts in ranked:
    interval = facts[figure]
    line = (
      f'{name:24} {figure} {interval["value"]:6.2f} '
      f'({interval["low"]:.2f} … {interval["high"]:.2f})'
    )
    if 'wins' in facts:
      line += f', {facts["wins"]} wins in {facts["comparisons"]} comparisons'
    text.append(line)
  for pair in found['pairs']:
    line = f'{pair["systems"][0]} against {pair["systems"][1]}: '
    if 'wins' in pair:
      line += f'{pair["wins"][0]} to {pair["wins"][1]}, {pair["ties"]} ties, '
    text.append(
      f'{line}p {pair["p"]:.2g}, of prompts {pair["p_of_prompts"]:.2g}: '
      f'{"" if pair["significant"] else "not "}significant at '
      f'{pair["threshold"]:.2g}'
    )
  return text


def main() -> None:
  """Analyses and prints."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('answers', nargs='+', type=Path, metavar='ANSWERS')
  parser.add_argument('--key', type=Path, required=True)
  parser.add_argument('--unit', choices=('prompt', 'rater'), default='prompt')
  parser.add_argument('--alpha', type=float, default=preferences.ALPHA)
  parser.add_argument('--tests', type=int, help='15 in the paper; else pairs')
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--json', type=Path)
  given = parser.parse_args()
  if not 0 < given.alpha < 1 or (given.tests is not None and given.tests < 1):
    raise UsageError('--alpha must be between 0 and 1, --tests 1 or more')
  key = answers.read_key(given.key)
  found = analyse(
    key,
    answers.read_all(given.answers, key),
    unit=given.unit,
    alpha=given.alpha,
    tests=given.tests,
    seed=given.seed,
  )
  if given.json:
    text = json.dumps(found, indent=1, allow_nan=False)
    atomic_file.write_text(given.json, text + '\n')
  for line in lines(found):
    print(printable(line))


if __name__ == '__main__':
  try:
    main()
  except (UsageError, OSError) as error:
    sys.exit(f'error: {printable(error)}')
