"""Listening tests: a static page from folders of audio, and its analysis."""
