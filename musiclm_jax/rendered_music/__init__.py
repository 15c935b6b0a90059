"""A composer, a performer and their captions, as a TFDS builder."""
