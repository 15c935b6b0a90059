"""The words of the captions that MuLan learned from: word -> how often.

The file has one a line, `piano 812`, the most frequent first. Words are those
of `text.split_words`: lower case, without accents.
"""

import collections
import functools
from collections.abc import Iterable, Mapping

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.data import text

NAME = 'caption_words.txt'
MAX_WORDS = 20_000
_MAX_COMMON = 1_000
_MIN_SHARE = 1e-4  # of all words; typing errors are rarer
# Words of grammar, which name nothing that music could have or lack.
_GRAMMAR = """
  a about after again all also am an and another any are as at be because been
  before being between both but by can could did do does down during each every
  few for from further had has have he her here him his how i if in into is it
  its just let like made make makes many may me might more most much must my no
  nor not of off on once one only or other our out over own perhaps please same
  she should so some something such than that the their them then there these
  they this those through to too under until up upon us very was we were what
  when where which while who whom whose why will with without would you your
"""


class CaptionWords:
  """What words captions held, and how often.

  Attributes:
    counts: Word -> how often, the most frequent first, at most `MAX_WORDS`.
  """

  def __init__(self, counts: Mapping[str, int]):
    """Takes the counts, in any order."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    self.counts: Mapping[str, int] = dict(ranked[:MAX_WORDS])

  @classmethod
  def of(cls, captions: Iterable[str]) -> 'CaptionWords':
    """Counts the words of captions; numbers and punctuation are none."""
    counts: collections.Counter[str] = collections.Counter()
    for caption in captions:
      counts.update(filter(str.isalpha, text.split_words(caption)))
    return cls(counts)

  @classmethod
  def parse(cls, written: str) -> 'CaptionWords':
    """Takes the text of a file.

    Raises:
      UsageError: If a line is not a word and a number.
    """
    counts = {}
    for number, line in enumerate(written.splitlines(), 1):
      word, _, count = line.partition(' ')
      if not (word.isalpha() and count.isdecimal() and len(count) < 16):
        raise UsageError(
          f'{NAME}, line {number}: expected a word and how often it occurs, '
          f"such as 'piano 812', got {line[:60]!r}"
        )
      counts[word] = int(count)
    return cls(counts)

  def to_text(self) -> str:
    """Writes the text of a file."""
    return ''.join(f'{word} {count}\n' for word, count in self.counts.items())

  def plus(self, other: 'CaptionWords') -> 'CaptionWords':
    """Adds what another training has counted."""
    return CaptionWords(
      collections.Counter(self.counts) + collections.Counter(other.counts)
    )

  def unknown(self, prompt: str) -> list[str]:
    """Lists the words of a prompt that no caption held, each once, in order.

    Numbers, single letters of keys and words of grammar are not listed, nor
    is what captions held in the plural where the prompt has the singular, or
    the other way round.
    """
    return [
      word
      for word in dict.fromkeys(text.split_words(prompt))
      if word.isalpha()
      and not _is_grammar(word)
      and self.counts.keys().isdisjoint(_forms(word))
    ]

  @functools.cached_property
  def common(self) -> tuple[str, ...]:
    """What unknown words are compared with, the most frequent first.

    Words of grammar are left out, and rare ones, among which typing errors
    are.
    """
    least = _MIN_SHARE * sum(self.counts.values())
    named = (
      word
      for word, count in self.counts.items()
      if count >= least and not _is_grammar(word)
    )
    return tuple(named)[:_MAX_COMMON]


@functools.cache
def _grammar() -> frozenset[str]:
  return frozenset(_GRAMMAR.split())


def _is_grammar(word: str) -> bool:
  return word in _grammar() or (len(word) == 1 and word.isascii())


def _forms(word: str) -> set[str]:
  """A word and what may be its singular or plural in English."""
  forms = {word, f'{word}s', f'{word}es'}
  if word.endswith('y'):
    forms.add(f'{word[:-1]}ies')
  for ending, instead in (('s', ''), ('es', ''), ('ies', 'y')):
    if word.endswith(ending):
      forms.add(word.removesuffix(ending) + instead)
  return forms
