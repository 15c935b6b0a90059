"""What all packages agree on: array types, tasks, token specs, errors."""
