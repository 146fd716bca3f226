"""All ASGI middleware, in the order of `app/main.py`."""
