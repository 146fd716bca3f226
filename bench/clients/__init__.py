"""Generates clients from the OpenAPI document with other people's generators, and uses them against a real service."""
