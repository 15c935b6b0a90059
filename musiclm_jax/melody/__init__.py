"""Melody: what is the same in two performances of one tune (MusicLM App. C)."""
