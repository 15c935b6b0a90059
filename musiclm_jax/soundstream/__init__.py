"""SoundStream: waveform to residual codes and back (2107.03312)."""
