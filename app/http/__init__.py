"""HTTP parts that are independent of resources: problem details, content negotiation, event streams, API pages."""
