"""The routes /sweeps: many train jobs over a grid of settings."""
