"""Weights of other projects: their names and layouts -> ours."""
