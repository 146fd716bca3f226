"""Darkroom: trains class-conditional image diffusion models and serves them.

The packages of this namespace are links to the folders of the same names beside it, so that no name of Darkroom's
stands at the top level, where a user's own `model.py` would take its place.
"""
