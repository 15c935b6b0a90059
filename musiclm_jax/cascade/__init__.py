"""The cascade of stages: waveform to tokens, text to waveform."""
