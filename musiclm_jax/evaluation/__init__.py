"""Evaluation: folders of music -> the measures of `metrics/`, with reasons."""
