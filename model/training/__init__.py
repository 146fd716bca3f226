"""Training: the loop, its steps, its record and state, and how processes share it."""
