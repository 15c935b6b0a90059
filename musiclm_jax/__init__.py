"""musiclm_jax: MusicLM (text to music) in JAX, trained on audio alone."""

__version__ = '0.1.0'
