"""The web console: static files that use the public API. They need no build step."""
