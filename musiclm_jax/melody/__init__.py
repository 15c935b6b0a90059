"""Melody: what two performances of one share (MusicLM App. C)."""
