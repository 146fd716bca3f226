"""The model versions that this process can serve, and their way from the store into the engine."""
