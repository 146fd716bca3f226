"""Packages that only some installations have: the optional extras of pyproject.toml."""

from importlib import import_module
from types import ModuleType

from darkroom.model.user_error import UserError


def installing(extra: str) -> str:
    """Return the command that installs an extra, for messages.

    It installs from Darkroom's folder: in the public registry the name belongs to another project.
    """
    return f"run `.venv/bin/python -m pip install -c constraints.txt -e '.[{extra}]'` in Darkroom's folder"


def import_extra(module: str, extra: str, error: type[UserError]) -> ModuleType:
    """Import a module of an extra. Raises `error` when it is missing or broken, as a torchvision for another torch."""
    package = module.partition(".")[0]
    try:
        return import_module(module)
    except ModuleNotFoundError as missing:
        if missing.name and missing.name.partition(".")[0] == package:
            raise error(f"{package} is not installed: {installing(extra)}") from missing
        raise error(f"{package} needs {missing.name}, which is not installed: {installing(extra)}") from missing
    except (ImportError, OSError, RuntimeError, AttributeError) as broken:
        reason = (str(broken).splitlines() or [type(broken).__name__])[0]
        raise error(f"{package} is installed but broken ({reason}): {installing(extra)}") from broken
