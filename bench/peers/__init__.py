"""Training quality side by side: Darkroom and two peers, the same data, minutes and machine. See README.md here."""
