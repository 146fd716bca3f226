"""The route /recipes: the recipes that come with the service."""
