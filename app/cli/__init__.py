"""The commands of `darkroom`, one module each; `main.py` puts them together."""
