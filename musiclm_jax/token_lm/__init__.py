"""One decoder-only LM with three layouts (MusicLM section 3.2)."""
