"""Training: state, step, loop, optimizer, checkpoint, report; no model."""
