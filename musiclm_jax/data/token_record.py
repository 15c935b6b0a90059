"""One record of a token store: the tokens of one crop of one piece."""

import dataclasses

import numpy as np

from musiclm_jax.contracts import file_names

_TOKENS = (
  'mulan',
  'piece_mulan',
  'semantic',
  'acoustic',
  'mulan_text',
  'melody',
)


@dataclasses.dataclass(frozen=True)
class TokenRecord:
  """Tokens of one crop.

  Attributes:
    piece_id: Of the piece that was cropped.
    start_seconds: Where in the piece the crop begins.
    crop_seconds: Its length.
    mulan: Audio tokens of the whole crop [12].
    piece_mulan: The same of all N crops of the piece [N, 12].
    piece_starts: Their starts in seconds [N].
    semantic: [Ts].
    acoustic: [Ta, Q].
    melody: [N, Q] of its windows; None where no network has heard them.
    mulan_text: Text tokens of n captions of the crop [n, 12]; None in the
      train split, where captions do not enter.
  """

  piece_id: str
  start_seconds: float
  crop_seconds: float
  mulan: np.ndarray
  piece_mulan: np.ndarray
  piece_starts: np.ndarray
  semantic: np.ndarray
  acoustic: np.ndarray
  mulan_text: np.ndarray | None = None
  melody: np.ndarray | None = None

  def to_bytes(self) -> bytes:
    """Packs the record: 16 bits a token, no pickles."""
    from safetensors.numpy import save

    arrays = {
      'piece_id': np.frombuffer(file_names.to_bytes(self.piece_id), np.uint8),
      'start_seconds': np.asarray([self.start_seconds], np.float64),
      'crop_seconds': np.asarray([self.crop_seconds], np.float64),
      'piece_starts': np.asarray(self.piece_starts, np.float64),
    }
    for name in _TOKENS:
      tokens = getattr(self, name)
      if tokens is not None:
        arrays[name] = np.ascontiguousarray(tokens).astype(np.uint16)
    return save(arrays)

  @classmethod
  def from_bytes(cls, data: bytes) -> 'TokenRecord':
    """Unpacks what `to_bytes` packed, tokens as int32."""
    from safetensors.numpy import load

    arrays = load(data)
    tokens = {
      name: arrays[name].astype(np.int32) for name in _TOKENS if name in arrays
    }
    return cls(
      piece_id=file_names.from_bytes(arrays['piece_id'].tobytes()),
      start_seconds=float(arrays['start_seconds'][0]),
      crop_seconds=float(arrays['crop_seconds'][0]),
      piece_starts=arrays['piece_starts'],
      **tokens,
    )
