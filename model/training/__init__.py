"""Training: the loop, a step of it, its record and state, and how processes share it."""
