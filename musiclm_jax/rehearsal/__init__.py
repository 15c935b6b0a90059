"""Predicts, on a CPU, what a training does on a TPU that is not there."""
