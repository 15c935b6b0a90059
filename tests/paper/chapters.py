"""All chapters of the page, in its order."""

from paper import (
  evaluation,
  language_models,
  melody,
  mulan,
  sampling,
  semantic_tokens,
  soundstream,
  soundstream_denoising,
  soundstream_training,
  w2v_bert,
)

CHAPTERS = (
  *soundstream.CHAPTERS,
  *soundstream_training.CHAPTERS,
  *soundstream_denoising.CHAPTERS,
  *w2v_bert.CHAPTERS,
  *semantic_tokens.CHAPTERS,
  *mulan.CHAPTERS,
  *language_models.CHAPTERS,
  *sampling.CHAPTERS,
  *melody.CHAPTERS,
  *evaluation.CHAPTERS,
)
