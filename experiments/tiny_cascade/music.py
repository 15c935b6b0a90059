"""Is it music at all: pitches, onsets, level, noise of a clip.

waveform [S] at 24 kHz -> one `ClipStatistics`. Thresholds of what counts as
a pitch or an onset are absolute (decibels, milliseconds), because measures
that scale themselves to the clip find onsets in a constant tone's hiss.
"""

import dataclasses

import numpy as np

from musiclm_jax.contracts.audio import SAMPLE_RATE
from musiclm_jax.dsp.level import rms_dbfs

_PITCH_HOP = 960  # 40 ms
_PITCH_WINDOW = 4096
_LOWEST_PITCH, _NUM_PITCHES = 36, 60  # MIDI C2 ... B6
_HARMONICS = 8
_SHORTEST_NOTE_FRAMES = 3
_SMALLEST_SHARE = 0.5
_PITCH_BAND_HZ = (60, 5_000)
_ONSET_HOP = 480
_ONSET_MELS = 40
_ONSET_DB = 1.2  # mean rise over the mel bands
_ONSET_GAP_FRAMES = 4
_ONSET_LAG_FRAMES = 2
_ONSET_PAST_FRAMES = 15
_DEAD_FRAME = 2400  # 100 ms
_DEAD_DBFS = -60.0
_FLOOR = 1e-10


@dataclasses.dataclass(frozen=True)
class ClipStatistics:
  """What can be said of a clip without knowing what it should be.

  Attributes:
    finite: Whether no sample is NaN or infinite.
    peak: Largest absolute sample.
    rms_dbfs: Level in dB below full scale.
    flatness: Mean spectral flatness of the sounding frames: 1 is white noise.
    distinct_pitches: Pitch classes that were held for >= 120 ms.
    onsets_per_second: Note and drum beginnings.
    dead_share: Share of 100 ms frames below -60 dBFS, in [0, 1].
  """

  finite: bool
  peak: float
  rms_dbfs: float
  flatness: float
  distinct_pitches: int
  onsets_per_second: float
  dead_share: float


def measure(waveform: np.ndarray) -> ClipStatistics:
  """Measures one clip [S] at 24 kHz."""
  waveform = np.asarray(waveform, np.float64)
  finite = bool(np.isfinite(waveform).all())
  clean = np.nan_to_num(waveform, posinf=0.0, neginf=0.0)
  return ClipStatistics(
    finite=finite,
    peak=float(np.abs(clean).max(initial=0.0)),
    rms_dbfs=float(rms_dbfs(clean)),
    flatness=flatness(clean),
    distinct_pitches=distinct_pitches(clean),
    onsets_per_second=onsets_per_second(clean),
    dead_share=dead_share(clean),
  )


def dead_share(waveform: np.ndarray) -> float:
  """Share of whole 100 ms frames of a clip [S] whose RMS is below -60 dBFS."""
  count = len(waveform) // _DEAD_FRAME
  if not count:
    return 0.0
  frames = np.asarray(waveform)[: count * _DEAD_FRAME].reshape(count, -1)
  return float((rms_dbfs(frames) < _DEAD_DBFS).mean())


def flatness(waveform: np.ndarray) -> float:
  """Spectral flatness averaged over the frames above -60 dBFS, in [0, 1].

  Geometric over arithmetic mean of the power spectrum between 50 Hz and
  10 kHz; silence has none and counts as 1.
  """
  power = np.square(_magnitudes(waveform, 2048, 1024))
  low, high = (round(hz * 2048 / SAMPLE_RATE) for hz in (50, 10_000))
  power = power[:, low:high] + _FLOOR
  loud = power.mean(axis=1) > 1e-6
  if not loud.any():
    return 1.0
  power = power[loud]
  ratio = np.exp(np.log(power).mean(axis=1)) / power.mean(axis=1)
  return float(ratio.mean())


def distinct_pitches(waveform: np.ndarray) -> int:
  """Counts the pitch classes that lead the clip for >= 120 ms at a stretch.

  Per 40 ms frame, the pitch whose harmonics hold most energy leads. Octaves
  count once, since an octave error would make two pitches of one tone.
  """
  salience, share = pitch_salience(waveform)
  leader = np.where(share >= _SMALLEST_SHARE, salience.argmax(axis=1), -1)
  found, run = set(), 0
  for frame, pitch in enumerate(leader):
    run = run + 1 if frame and pitch == leader[frame - 1] else 1
    if pitch >= 0 and run >= _SHORTEST_NOTE_FRAMES:
      found.add(int(pitch) % 12)
  return len(found)


def pitch_salience(waveform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Harmonic sums per semitone, and the leader's share of the sound.

  The sums are of square roots of magnitudes, so that one strong partial makes
  no pitch. Shares are of energy between 60 Hz and 5 kHz: of magnitudes, noise
  that hides no melody would outweigh it. The median frame of real music has
  0.70, 0.68 through a codec, 0.47 with as much pink noise added; a codec's
  codes in random order 0.28, pink noise 0.18. Half lies between the two.

  Returns:
    Salience [T, 60] of MIDI pitches 36 to 95, and per frame [T] the share of
    the energy that lies on the leading pitch's harmonics (0 when silent).
  """
  magnitudes = _magnitudes(waveform, _PITCH_WINDOW, _PITCH_HOP)
  hz = 440 * 2 ** ((np.arange(_NUM_PITCHES) + _LOWEST_PITCH - 69) / 12)
  bin_hz = SAMPLE_RATE / _PITCH_WINDOW
  low, high = (round(edge / bin_hz) for edge in _PITCH_BAND_HZ)
  salience = np.zeros((len(magnitudes), _NUM_PITCHES))
  held = np.zeros_like(salience)
  energy = np.square(magnitudes)
  for harmonic in range(1, _HARMONICS + 1):
    centres = np.rint(hz * harmonic / bin_hz).astype(int)
    inside = centres < high
    centres = np.minimum(centres, high)
    around = [energy[:, centres + offset] for offset in (-1, 0, 1)]
    peak = np.maximum.reduce(around) ** 0.25
    salience += 0.8 ** (harmonic - 1) * peak * inside
    held += sum(around) * inside
  total = energy[:, low:high].sum(axis=1)
  leader = salience.argmax(axis=1)
  share = held[np.arange(len(held)), leader] / np.maximum(total, _FLOOR)
  loud = magnitudes.mean(axis=1) > 1e-3
  return salience, np.where(loud, share, 0.0)


def chroma(waveform: np.ndarray, seconds: float) -> np.ndarray:
  """Share of each pitch class in frames of so many seconds, [S] -> [T, 12]."""
  salience, _ = pitch_salience(waveform)
  count = round(seconds * SAMPLE_RATE / _PITCH_HOP)
  whole = len(salience) // count * count
  # What stands out of a frame, so that noise is of no class.
  floor = np.median(salience[:whole], axis=1, keepdims=True)
  classes = np.maximum(salience[:whole] - floor, 0.0)
  classes = classes.reshape(-1, count, salience.shape[1] // 12, 12)
  classes = classes.sum(axis=(1, 2))
  return classes / np.maximum(classes.sum(axis=1, keepdims=True), 1e-9)


def onset_strength(waveform: np.ndarray) -> np.ndarray:
  """Mean rise in dB of 40 mel bands above their last 300 ms, per 20 ms [T].

  A rise counts only above the loudest of the last 300 ms, so that tremolo
  and the beating of an ensemble begin no notes.
  """
  import librosa
  from scipy import ndimage

  power = np.square(_magnitudes(waveform, 1024, _ONSET_HOP))
  filters = librosa.filters.mel(
    sr=SAMPLE_RATE, n_fft=1024, n_mels=_ONSET_MELS, fmin=40
  )
  mel = power @ filters.T
  # 50 dB below the loudest frame: faint hiss must not jump.
  floor = max(mel.sum(axis=1).max(initial=0.0) * 1e-5 / _ONSET_MELS, 1e-7)
  decibels = 10 * np.log10(mel + floor)
  if len(decibels) <= _ONSET_LAG_FRAMES:
    return np.zeros(len(decibels))
  past = ndimage.maximum_filter1d(
    decibels,
    _ONSET_PAST_FRAMES,
    axis=0,
    mode='nearest',
    origin=_ONSET_PAST_FRAMES // 2,
  )
  rise = decibels[_ONSET_LAG_FRAMES:] - past[:-_ONSET_LAG_FRAMES]
  strength = np.maximum(rise, 0.0).mean(axis=1)
  return np.concatenate([np.zeros(_ONSET_LAG_FRAMES), strength])


def onsets_per_second(waveform: np.ndarray) -> float:
  """Peaks of `onset_strength` above 1.2 dB, 80 ms apart, per second."""
  strength = onset_strength(waveform)
  last, count = -_ONSET_GAP_FRAMES, 0
  for frame in range(len(strength)):
    near = strength[max(0, frame - 2) : frame + 3]
    is_peak = strength[frame] >= _ONSET_DB and strength[frame] == near.max()
    if is_peak and frame - last >= _ONSET_GAP_FRAMES:
      last, count = frame, count + 1
  return count * SAMPLE_RATE / max(len(waveform), 1)


def _magnitudes(waveform: np.ndarray, window: int, hop: int) -> np.ndarray:
  """Hann STFT magnitudes [T, window // 2 + 1], a full-scale sine ~ 0.5 w/2."""
  import librosa

  spectrum = librosa.stft(
    np.pad(waveform, (0, max(0, window - len(waveform)))),
    n_fft=window,
    hop_length=hop,
    window=np.hanning(window),
    center=False,
  )
  return np.abs(spectrum.T)
