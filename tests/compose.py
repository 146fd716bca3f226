"""Reads docker-compose.yml as Compose does: merges YAML anchors and replaces variables."""

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
FILE = ROOT / "docker-compose.yml"
WORKERS = ROOT / "docker-compose.workers.yml"
SERVERS = ROOT / "deploy" / "compose" / "servers.yml"
DOCKERFILE = ROOT / "Dockerfile.gpu"

_VARIABLE = re.compile(r"\$(?:(\$)|\{(\w+)(?::([-?])([^}]*))?\})")
_UNITS = {"s": 1, "m": 60}


class _Tagged(yaml.SafeLoader):
    """Reads what Compose's tags `!override` and `!reset` stand before, like the same text without them."""


def _untagged(loader: _Tagged, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    return loader.construct_sequence(node, deep=True) if isinstance(node, yaml.SequenceNode) else None


for _tag in ("!override", "!reset"):
    _Tagged.add_constructor(_tag, _untagged)


def compose(file: Path | str = FILE, **variables: str) -> dict[str, Any]:
    """Return a whole file, or text of one. Raises KeyError for a missing variable that must be set."""

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

    text = file if isinstance(file, str) else file.read_text(encoding="utf-8")
    found: dict[str, Any] = put_in(yaml.load(text, _Tagged))
    return found


def services() -> dict[str, dict[str, Any]]:
    """Return the services of both profiles by name."""
    found: dict[str, dict[str, Any]] = compose(COMPOSE_PROFILES="cpu")["services"]
    return found


def seconds(duration: str) -> int:
    """Parse a duration in Compose's notation, such as 30s or 2m."""
    return int(duration[:-1]) * _UNITS[duration[-1]]


def image_environment() -> dict[str, str]:
    """Return the environment variables that Darkroom's image sets."""
    text = DOCKERFILE.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = re.findall(r"^ENV (.+)$", text, re.MULTILINE)
    return {name: value for line in lines for name, value in re.findall(r"(\w+)=(\S+)", line)}
