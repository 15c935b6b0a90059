"""Measures: waveforms, embeddings, codes and tokens in, figures out.

No thresholds, no files, no networks: who runs them decides what is enough.
"""
