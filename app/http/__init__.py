"""HTTP plumbing that knows no resource: problem details, content negotiation, event streams, the API pages."""
