"""The batching engine: it draws rows of many requests together, one sampling step at a time."""
