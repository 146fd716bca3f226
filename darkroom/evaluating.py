"""`darkroom.evaluate`: a model's figures, as `darkroom evaluate` finds them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from darkroom.data import CACHE, open_data
from darkroom.model.config import Recipe, SettingsError
from darkroom.model.figure import Figure, figures_table
from darkroom.model.metrics.evaluation import evaluate as measure
from darkroom.model.metrics.references import FolderReferences
from darkroom.model.metrics.settings import evaluation_settings
from darkroom.progress import progress
from darkroom.trained_model import TrainedModel, load
from darkroom.training import find_recipe


class Figures(tuple[Figure, ...]):
    """A model's figures; a notebook shows them as a table, with the protocol that each was measured by."""

    def __repr__(self) -> str:
        return "\n".join(f"{one.metric}: {one.value:g}" for one in self)

    def _repr_markdown_(self) -> str:
        return figures_table(self)


def evaluate(
    model: TrainedModel | str | Path,
    data: Any = None,
    *,
    class_names: Sequence[str] | None = None,
    recipe: str | Path | Mapping[str, Any] | Recipe | None = None,
    cache: str | Path = CACHE,
    **settings: Any,
) -> Figures:
    """Measure how near the model's images come to the data: the figures that `darkroom evaluate` prints.

    model: as `darkroom.load` returns or takes it.
    data, class_names: as `darkroom.train` takes them; default: what the model was trained on.
    recipe: names data and settings in place of the one that the model carries.
    settings: fields of a recipe's evaluation or sampling section, such as metrics=("fid", "kid") or images=1000.
    What takes more than two seconds says on stderr how far it is. Raises UserError for whatever the caller can mend.
    """
    judged = model if isinstance(model, TrainedModel) else load(model)
    chosen = judged.header.recipe if recipe is None else find_recipe(recipe)
    if chosen is None:
        raise SettingsError(f"the weights of {judged.name} do not say their recipe; name one with recipe=")
    config, sampling = evaluation_settings(settings, chosen, judged.header)
    cache = Path(cache)
    references = FolderReferences(cache / "references")
    with progress() as meter:
        source, dataset = open_data(data, chosen, class_names, cache, judged.header.dataset_digest, meter)
        found = measure(
            judged.denoiser,
            judged.digest,
            dataset,
            config,
            sampling,
            references,
            split=source.split,
            on_progress=meter,
        )
    return Figures(found)
