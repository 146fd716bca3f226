"""Compares Darkroom with other servers of models under the same open-loop load."""
