"""With which settings a weights file is judged, where somebody names some of them."""

from collections.abc import Mapping
from typing import Any

from darkroom.model.checkpoint import CheckpointHeader
from darkroom.model.config import EvaluationConfig, Recipe, SamplingConfig, changed, require_known, require_numbers
from darkroom.model.sampling_fit import fitted_for_user


def evaluation_settings(
    settings: Mapping[str, Any], recipe: Recipe, header: CheckpointHeader
) -> tuple[EvaluationConfig, SamplingConfig]:
    """The recipe's evaluation and the model's own sampling settings, changed by `settings`: fields of either by name.

    Steps and guidance are the evaluation's own where it has them, as in training. The model's own sampling settings
    give way where they do not go with the named ones, as in the service. Raises SettingsError.
    """
    of_evaluation = EvaluationConfig.model_fields.keys()
    require_known(settings, of_evaluation | SamplingConfig.model_fields.keys())
    own = recipe.evaluation or EvaluationConfig(every_images=recipe.training.total_images)
    for_config = {name: value for name, value in settings.items() if name in of_evaluation}
    config = changed(own, for_config)
    require_numbers(for_config, config)
    shared = {name: getattr(config, name) for name in ("steps", "guidance") if getattr(config, name) is not None}
    card = header.model_copy(update={"sampling": changed(header.sampling, shared)})
    named = {name: value for name, value in settings.items() if name in SamplingConfig.model_fields}
    return config.model_copy(update={"steps": None, "guidance": None}), fitted_for_user(card, named)
