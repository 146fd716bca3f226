"""The routes /models: models, their versions, measured figures and aliases."""
