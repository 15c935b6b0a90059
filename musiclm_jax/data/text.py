"""Text to word pieces: caption -> int32 ids [L], 0 is padding.

The vocabulary file is BERT's: one piece a line, `##` before a piece that
continues a word, `[PAD]` first; so a published vocab.txt can be used as well.
"""

import collections
import functools
import heapq
import itertools
import os
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from musiclm_jax.contracts import atomic_file
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.terminal import first_few, printable

SPECIALS = ('[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]')
_CONTINUES = '##'
_SHOWN = 60  # characters of what is quoted from a text


class WordPiece:
  """WordPiece as in BERT uncased: lower case, no accents, greedy longest match.

  Safe to use from threads.
  """

  def __init__(self, pieces: Iterable[str]):
    """Takes the vocabulary, ids in order.

    Raises:
      UsageError: If a special piece is missing or `[PAD]` is not the first.
    """
    import tokenizers

    self.pieces = tuple(pieces)
    self._ids = {piece: i for i, piece in enumerate(self.pieces)}
    missing = [piece for piece in SPECIALS if piece not in self._ids]
    if missing or self._ids['[PAD]'] or len(self._ids) < len(self.pieces):
      raise UsageError(
        'a vocabulary lists each piece once, [PAD] first, with '
        f'{", ".join(SPECIALS)}; this one of {len(self.pieces)} lines does '
        f'not (missing: {", ".join(missing) or "none"})'
      )
    normalizer, splitter = _word_splitter()
    self._model = tokenizers.Tokenizer(
      tokenizers.models.WordPiece(self._ids, unk_token='[UNK]')
    )
    self._model.normalizer = normalizer
    self._model.pre_tokenizer = splitter

  @classmethod
  def train(cls, texts: Iterable[str], vocab_size: int) -> 'WordPiece':
    """Learns word pieces: the most frequent neighbours are merged, in turn.

    The same texts give the same ids, on any machine: ties are broken by
    spelling. (The trainers of `tokenizers` break them by chance.) Words come
    out whole as far as the size allows.

    Args:
      texts: Captions.
      vocab_size: Most pieces, specials included; fewer if no pair is left.

    Raises:
      UsageError: If there is no text, or not even its letters fit.
    """
    words = collections.Counter(
      itertools.chain.from_iterable(map(split_words, texts))
    )
    if not words:
      raise UsageError('no captions to learn word pieces from: add some text')
    split = {word: _letters(word) for word in sorted(words)}
    alphabet = sorted(
      {letter for letters in split.values() for letter in letters}
    )
    room = vocab_size - len(SPECIALS) - len(alphabet)
    if room < 0:
      raise UsageError(
        f'vocabulary_size={vocab_size} does not hold the {len(alphabet)} '
        'letters of the captions: choose a larger one'
      )
    return cls((*SPECIALS, *alphabet, *_merge(words, split, room)))

  @classmethod
  def load(cls, path: str | os.PathLike) -> 'WordPiece':
    """Reads a vocab.txt.

    Raises:
      UsageError: If the file is missing or no vocabulary.
    """
    try:
      text = Path(path).read_text(encoding='utf-8')
    except (FileNotFoundError, UnicodeDecodeError) as error:
      raise UsageError(
        f"'{path}' is no vocabulary ({type(error).__name__}): expected a "
        'vocab.txt, which the mulan stage leaves in its workdir'
      ) from error
    return cls.parse(text)

  @classmethod
  def parse(cls, text: str) -> 'WordPiece':
    """Takes the text of a vocab.txt."""
    return cls(text.removesuffix('\n').split('\n'))

  def save(self, path: str | os.PathLike) -> None:
    """Writes a vocab.txt, whole or not at all."""
    atomic_file.write_text(path, '\n'.join(self.pieces) + '\n')

  def __len__(self) -> int:
    """Counts the pieces; ids are below it."""
    return len(self.pieces)

  def encode(self, text: str, length: int) -> np.ndarray:
    """Encodes as `[CLS] pieces [SEP]`, cut to `length` and padded with 0.

    Args:
      text: Any; what has no pieces becomes `[UNK]`.
      length: Ids, L, at least 2.

    Returns:
      int32 [L].
    """
    if length < 2:
      raise ValueError(f'expected length >= 2 for [CLS] and [SEP]: {length}')
    found = self._model.encode(text).ids[: length - 2]
    ids = np.zeros(length, np.int32)
    ids[: len(found) + 2] = self._ids['[CLS]'], *found, self._ids['[SEP]']
    return ids

  def unread_part(self, text: str, length: int) -> str:
    """Returns the end of a text that `encode` cuts off; mostly nothing."""
    encoding = self._model.encode(text)
    if len(encoding.ids) <= length - 2:
      return ''
    return text[encoding.offsets[length - 2][0] :]

  def read_words(self, text: str, length: int) -> list[str]:
    """Lists the words of which `encode` leaves nothing out, each once."""
    rest = self.unread_part(text, length)
    read = split_words(text[: len(text) - len(rest)])
    whole = split_words(text)[: len(read)]
    return list(dict.fromkeys(read if read == whole else read[:-1]))

  def unknown_words(self, text: str) -> list[str]:
    """Lists words that no piece spells as a whole, each once, in order.

    The network has never seen such a word as one, so it can hardly know it.
    Numbers and punctuation are not words.
    """
    return [
      word
      for word in dict.fromkeys(split_words(text))
      if word.isalpha() and word not in self._ids
    ]

  def unread_words(self, text: str) -> list[str]:
    """Lists what becomes `[UNK]`, such as emoji, each once, as normalised."""
    return [
      word
      for word in dict.fromkeys(split_words(text))
      if not _is_punctuation(word)
      and '[UNK]' in self._model.encode(word).tokens
    ]

  def remarks(
    self,
    text: str,
    length: int,
    unknown: Mapping[str, Sequence[str]] | None = None,
  ) -> list[str]:
    """Says in a line each what of a text is not known, or not read.

    Args:
      text: A caption or prompt, of which the beginning is quoted.
      length: Ids that the network reads.
      unknown: Words that no caption of the training held -> the known words
        that the network takes for most alike; None where the captions' words
        are not known, and `unknown_words` have to do.
    """
    lines = []
    begin = f"in '{_quoted(text)}' the model does not know: "
    unread = self.unread_words(text)
    if unread:
      lines.append(
        f'{begin}{_listed(unread)}, nor the letters: nothing of it is read'
      )
    if unknown is None:
      guessed = [w for w in self.unknown_words(text) if w not in unread]
      if guessed:
        lines.append(
          f'{begin}{_listed(guessed)}; they are guessed from their parts'
        )
    elif taken := {w: near for w, near in unknown.items() if w not in unread}:
      lines.append(
        f'{begin}{_listed(taken, taken)}; no caption that it learned from has '
        'such words'
      )
    if rest := self.unread_part(text, length):
      lines.append(f"the text is too long: '{_quoted(rest)}' is not read")
    return lines


def split_words(text: str) -> list[str]:
  """Splits a text into words as BERT does: lower case, without accents.

  Each mark of punctuation and each Chinese character is a word by itself.
  """
  normalizer, splitter = _word_splitter()
  pairs = splitter.pre_tokenize_str(normalizer.normalize_str(text))
  return [word for word, _ in pairs]


@functools.cache
def _word_splitter() -> tuple[Any, Any]:
  """BERT's normalizer and splitter, uncased."""
  from tokenizers import normalizers, pre_tokenizers

  normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=True)
  return normalizer, pre_tokenizers.BertPreTokenizer()


def _quoted(text: str) -> str:
  """The beginning of a text, safe in a line."""
  shown = printable(text[:_SHOWN])[:_SHOWN]
  return shown + ('…' if len(text) > _SHOWN else '')


def _listed(
  words: Iterable[str], nearest: Mapping[str, Sequence[str]] | None = None
) -> str:
  """Lists words, the first of many, each with those nearest to it."""
  items = []
  for word in words:
    near = ', '.join(map(_quoted, (nearest or {}).get(word, ())))
    items.append(_quoted(word) + (f' (nearest: {near})' if near else ''))
  return first_few(items)


def _is_punctuation(word: str) -> bool:
  return all(unicodedata.category(letter)[0] == 'P' for letter in word)


def _letters(word: str) -> list[str]:
  return [word[0], *(_CONTINUES + letter for letter in word[1:])]


def _merge(
  words: collections.Counter, split: dict[str, list[str]], room: int
) -> list[str]:
  """Merges the most frequent pair until `room` pieces are made.

  Args:
    words: Word -> how often it occurs.
    split: Word -> its pieces now; is changed.
    room: Most pieces to make.

  Returns:
    New pieces in the order of merging.
  """
  counts, holders = collections.Counter(), collections.defaultdict(set)
  for word, pieces in split.items():
    for pair in itertools.pairwise(pieces):
      counts[pair] += words[word]
      holders[pair].add(word)
  queue = [(-count, pair) for pair, count in counts.items()]
  heapq.heapify(queue)
  made: dict[str, None] = {}
  while queue and len(made) < room:
    count, pair = heapq.heappop(queue)
    if -count != counts[pair]:  # the pair has changed since it was queued
      continue
    piece = pair[0] + pair[1].removeprefix(_CONTINUES)
    made[piece] = None
    changed = set()
    for word in holders.pop(pair):
      for old in itertools.pairwise(split[word]):
        counts[old] -= words[word]
        changed.add(old)
      split[word] = _joined(split[word], pair, piece)
      for new in itertools.pairwise(split[word]):
        counts[new] += words[word]
        holders[new].add(word)
        changed.add(new)
    for other in changed:
      if counts[other] > 0:
        heapq.heappush(queue, (-counts[other], other))
  return list(made)


def _joined(pieces: list[str], pair: tuple[str, str], piece: str) -> list[str]:
  """Replaces each occurrence of the pair by the piece, from left to right."""
  result, i = [], 0
  while i < len(pieces):
    if tuple(pieces[i : i + 2]) == pair:
      result.append(piece)
      i += 2
    else:
      result.append(pieces[i])
      i += 1
  return result
