"""What routes ask of the running service (FastAPI dependencies): its parts, the caller, idempotency keys, pages."""
