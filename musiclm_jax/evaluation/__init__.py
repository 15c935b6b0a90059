"""Judges, statistics, baselines, gates and the report."""
