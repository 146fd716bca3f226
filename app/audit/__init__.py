"""The route /audit-events: who changed what, and when."""
