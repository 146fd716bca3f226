"""FastAPI dependencies that routes share: the service's parts, the caller, idempotency keys, pages."""
