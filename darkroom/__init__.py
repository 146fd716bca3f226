"""Darkroom: trains class-conditional image diffusion models and serves them.

In Python, `darkroom.load`, `darkroom.train` and `darkroom.evaluate` need no service:

    darkroom.load("fashion-mnist").generate("Sneaker", n=4, seed=7)

The packages `app`, `model`, `store`, `telemetry` and `worker` in here are links to the folders of the same names
beside this one. At the top level, a user's own `model.py` would take the place of one of them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from darkroom.evaluating import evaluate
    from darkroom.image_list import ImageList
    from darkroom.trained_model import TrainedModel, load
    from darkroom.training import train

__version__ = "0.1.0"
"""Equal to the version in pyproject.toml."""

__all__ = ["ImageList", "TrainedModel", "__version__", "evaluate", "load", "train"]

_MODULES = {
    "ImageList": "image_list",
    "TrainedModel": "trained_model",
    "evaluate": "evaluating",
    "load": "trained_model",
    "train": "training",
}


def __getattr__(name: str) -> Any:
    """Import the code of a public name when it is first used: PyTorch takes seconds, and most commands do without."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
