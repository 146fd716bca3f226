"""The route /plan: the recipe that a data set and a time would get, and why."""
