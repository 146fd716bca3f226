"""Data sets on which nobody has tuned a recipe: they measure how well Darkroom plans trainings."""
