"""What the rooms agreed on: array types, tasks, token specs, errors."""
