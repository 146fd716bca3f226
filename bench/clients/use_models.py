"""Reads answers with the models that datamodel-codegen makes: URL. `darkroom_models` is the generated module."""

import sys

import darkroom_models
import httpx

models = darkroom_models.ModelsAnswer.model_validate(httpx.get(f"{sys.argv[1]}/v1/models", trust_env=False).json())
assert models.models
