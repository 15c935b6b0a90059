"""Layers that own parameters and know no task."""
