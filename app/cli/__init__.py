"""The commands of `darkroom`, a module each; `main.py` puts them together."""
