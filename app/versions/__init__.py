"""Finds the model versions that requests name, and loads them into the engine."""
