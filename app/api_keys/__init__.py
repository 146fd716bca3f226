"""The routes /keys: make, change and revoke API keys."""
