"""Search by sentence: text, songs -> cosine of their MuLan embeddings.

Both are centred by the mean of their modality, as where MuLan's tokens are
made: otherwise the offset between the modalities is most of the cosine.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from musiclm_jax.cascade import song_index
from musiclm_jax.cascade.networks import Network
from musiclm_jax.cascade.tokenizer import SAMPLE_RATE
from musiclm_jax.data.audio_folder import AudioFolder
from musiclm_jax.stages import makers

NETWORKS = makers('mulan')


class SongSearch:
  """Ranks the songs of a folder by how well a sentence fits them."""

  def __init__(self, networks: Mapping[str, Network], vocabulary: Any):
    """Takes the networks.

    Args:
      networks: `NETWORKS` -> network.
      vocabulary: The `data.text.Tokenizer` that MuLan was trained with.
    """
    self._mulan, self._rvq = (networks[stage] for stage in NETWORKS)
    self._vocabulary = vocabulary
    self._text_length = int(self._mulan.config['data']['text_length'])
    self._hear = jax.jit(self._mulan.model.embed_audio)

  def hearing(self) -> song_index.Hearing:
    """Tells how songs become embeddings: by windows without overlap."""
    mulan = self._mulan
    made_by = [mulan.sha256, mulan.config['model'], mulan.config['loss']]
    text = json.dumps(made_by, sort_keys=True)
    return song_index.Hearing(
      network=hashlib.sha256(text.encode()).hexdigest(),
      embed=lambda windows: jax.device_get(
        self._hear(mulan.params, mulan.collections, windows)
      ),
      window_samples=round(mulan.model.window_seconds * SAMPLE_RATE),
    )

  def remarks(self, text: str) -> list[str]:
    """Says in lines which part of a sentence is not understood or read."""
    return self._vocabulary.remarks(text, self._text_length)

  def rank(
    self,
    text: str,
    folder: AudioFolder,
    path: Path,
    report: song_index.Report,
  ) -> list[tuple[str, float]]:
    """Ranks all songs, the best first.

    Args:
      text: The sentence.
      folder: All songs of `path`.
      path: The folder; its index is brought up to date.
      report: Takes lines for the user.

    Returns:
      (name, cosine in [-1, 1]).
    """
    songs = song_index.update(folder, path, self.hearing(), report)
    names = list(songs)
    heard = np.stack([songs[name].embedding for name in names])
    cosines = self._centre(heard, 'audio') @ self._read(text)
    order = np.argsort(-cosines, kind='stable')
    return [(names[k], float(cosines[k])) for k in order]

  def _read(self, text: str) -> np.ndarray:
    """The centred unit embedding [D] of a sentence."""
    ids = self._vocabulary.encode(text, self._text_length)[None]
    mulan = self._mulan
    embed = jax.jit(mulan.model.embed_text)
    found = embed(mulan.params, mulan.collections, ids)
    return self._centre(found, 'text')[0]

  def _centre(self, embedding: np.ndarray, modality: str) -> np.ndarray:
    rvq = self._rvq
    return jax.device_get(
      rvq.model.centre(rvq.collections, embedding, modality)
    )
