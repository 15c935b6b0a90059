"""Music that is heard while it is made, and may be changed meanwhile."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from musiclm_jax.cascade import continuation, request
from musiclm_jax.cascade.music import Music
from musiclm_jax.cascade.piece import Piece
from musiclm_jax.cascade.prompts import Prompt, to_json
from musiclm_jax.cascade.request import Request
from musiclm_jax.cascade.sampling import SamplingConfig
from musiclm_jax.cascade.tokenizer import Tokenizer
from musiclm_jax.contracts.errors import UsageError


class MusicStream:
  """Yields float32 [n] at `sample_rate`, about a second at a time.

  Joined they are what `MusicLM.generate` makes of the same arguments, bit for
  bit, as long as nothing is changed.

  Attributes:
    sample_rate: In Hz.
    samples: In all.
    changes: What was changed while it was made: `second`, and `prompt` or
      `settings`.
  """

  def __init__(
    self,
    asked: Request,
    tokenizer: Tokenizer,
    piece: Piece,
    mulan: np.ndarray,
    sampling: SamplingConfig,
    metadata: dict[str, Any],
    recording: np.ndarray | None,
    sample_rate: int,
  ):
    """Takes a piece that has begun; `MusicLM.stream` makes one.

    Args:
      asked: What was asked for, one piece.
      tokenizer: Of prompts.
      piece: In the making.
      mulan: MuLan tokens of the prompt [1, 12].
      sampling: With as many MuLan levels as the prompt uses.
      metadata: Of the music.
      recording: That it begins with, float [R].
      sample_rate: In Hz.
    """
    self.sample_rate, self.samples = sample_rate, piece.samples
    self.changes: list[dict[str, Any]] = []
    self._asked, self._tokenizer, self._piece = asked, tokenizer, piece
    self._mulan, self._levels = mulan, sampling.mulan_levels
    self._metadata = metadata
    self._splice = None
    if recording is not None:
      self._splice = continuation.Splice(recording)
    self._heard: list[np.ndarray] = []
    self._chunks = self._play()

  def __iter__(self) -> Iterator[np.ndarray]:
    """Goes on where it is."""
    return self._chunks

  def _play(self) -> Iterator[np.ndarray]:
    for chunk in self._piece:
      if self._splice:
        chunk = self._splice(chunk)
      self._heard.append(chunk[0])
      yield chunk[0]

  def change(self, text: Prompt | None = None, **changes: Any) -> float:
    """Plays something else, or otherwise, from what is not made yet.

    Args:
      text: A text, a `SoundPrompt` or a `Mixture`; None stays.
      **changes: Fields of `SamplingConfig`.

    Returns:
      The second from which the music is another.

    Raises:
      UsageError: If something is out of bounds.
    """
    old = self._asked
    asked = request.read(
      old.prompts[0] if text is None else text,
      seconds=old.seconds,
      seed=old.seed,
      recording=None,
      sampling=None,
      proposed=old.sampling,
      changes=changes,
      all_levels=old.all_levels,
      negative=old.negative,
    )
    check_one(asked)
    encoder = asked.encoder(self._tokenizer)
    _, conditioning, sampling = asked.conditioning(encoder, None)
    if conditioning.later and text is not None:
      raise UsageError('a story cannot begin in the middle: give a text')
    # Of what is played already no level may be lost.
    self._levels = max(self._levels, sampling.mulan_levels)
    second = self._piece.change(
      None if text is None else conditioning.mulan,
      dataclasses.replace(sampling, mulan_levels=self._levels),
    )
    self._asked = asked
    fact: dict[str, Any] = {'second': second}
    if text is not None:
      fact['prompt'] = to_json(asked.prompts[0])
    if changes:
      fact['settings'] = dataclasses.asdict(asked.sampling)
    self.changes.append(fact)
    return second

  def tokens(self) -> dict[str, np.ndarray]:
    """Stream -> tokens, as far as they are made; see `Music`."""
    made = {name: codes[0] for name, codes in self._piece.tokens().items()}
    return {'mulan': self._mulan[0], **made}

  def music(self) -> Music:
    """What was heard until now, to be saved."""
    heard = self._heard or [np.zeros(0, np.float32)]
    metadata = dict(self._metadata)
    if self.changes:
      metadata['changes'] = self.changes
    return Music(
      np.concatenate(heard), self.tokens(), metadata, self.sample_rate
    )


def check_one(asked: Request) -> None:
  """Refuses what cannot be heard while it is made.

  Raises:
    UsageError: If it is a list of prompts, or several takes.
  """
  if not asked.is_one:
    raise UsageError(
      f'{len(asked.prompts)} prompts: a stream plays one, a batch is made '
      'without'
    )
  if asked.takes > 1:
    raise UsageError(
      f'--best_of={asked.takes}: takes are compared when they are whole, leave '
      'it out of a stream'
    )
