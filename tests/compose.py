"""docker-compose.yml as Compose reads it: merged, and with its variables put in."""

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
FILE = ROOT / "docker-compose.yml"
DOCKERFILE = ROOT / "Dockerfile.gpu"

_VARIABLE = re.compile(r"\$(?:(\$)|\{(\w+)(?::([-?])([^}]*))?\})")
_UNITS = {"s": 1, "m": 60}


def compose(**variables: str) -> dict[str, Any]:
    """The whole file. Raises KeyError for a variable that must be set and is not."""

    def value(match: re.Match[str]) -> str:
        dollar, name, kind, word = match.groups()
        if dollar:
            return "$"
        if variables.get(name):
            return variables[name]
        if kind == "-":
            return str(word)
        raise KeyError(name)

    def put_in(part: Any) -> Any:
        if isinstance(part, str):
            return _VARIABLE.sub(value, part)
        if isinstance(part, list):
            return [put_in(one) for one in part]
        if isinstance(part, dict):
            return {name: put_in(one) for name, one in part.items()}
        return part

    found: dict[str, Any] = put_in(yaml.safe_load(FILE.read_text(encoding="utf-8")))
    return found


def services() -> dict[str, dict[str, Any]]:
    """All services by name, those of both profiles."""
    found: dict[str, dict[str, Any]] = compose(COMPOSE_PROFILES="cpu")["services"]
    return found


def seconds(duration: str) -> int:
    """Of Compose's notation for times: 30s, 2m."""
    return int(duration[:-1]) * _UNITS[duration[-1]]


def image_environment() -> dict[str, str]:
    """What Darkroom's image sets for every process in it."""
    text = DOCKERFILE.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = re.findall(r"^ENV (.+)$", text, re.MULTILINE)
    return {name: value for line in lines for name, value in re.findall(r"(\w+)=(\S+)", line)}
