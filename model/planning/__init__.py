"""Makes a recipe from a data set, the device's measured speed and the time that a user has."""
