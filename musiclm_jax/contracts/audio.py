"""The waveform that all packages agree on: mono float32 [B, S] in [-1, 1]."""

SAMPLE_RATE = 24_000  # Hz: of corpora, tokens and the codec (MusicLM §4.1)
