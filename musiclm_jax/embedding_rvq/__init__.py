"""Embeddings become tokens: MuLan's, the melody's (MusicLM §3.1, App. C)."""
