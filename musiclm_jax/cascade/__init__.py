"""The stages in a row: waveform to tokens, text to waveform."""
