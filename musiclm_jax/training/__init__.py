"""State, step, loop, optimizer, checkpoint, report: knows no model."""
