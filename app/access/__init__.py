"""Access control: keys, scopes, limits, and the gate that every request passes."""
