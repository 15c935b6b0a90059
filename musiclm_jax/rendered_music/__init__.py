"""A composer, a performer and their captions: rendered music."""
