"""Compares the training quality of Darkroom and two peers on the same data, time and machine. See README.md here."""
