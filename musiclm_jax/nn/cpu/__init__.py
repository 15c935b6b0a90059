"""Kernels that only CPUs need: XLA's own are slow there."""
