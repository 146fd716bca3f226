"""Who may do what: keys, scopes, limits, and the gate that every request passes."""
