"""All ASGI middleware. `app/main.py` sets their order."""
