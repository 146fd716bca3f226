"""Pixels, pictures and archives: images as bytes and files."""
