"""Writes the tables of docs/settings.md, docs/recipe.md and docs/commands.md from the code: `make docs`.

It replaces the tables between the lines `<!-- table NAME -->` and `<!-- end -->`, and nothing else. It also writes the
alert rules as Kubernetes needs them.
"""

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, get_args

import typer.main
import yaml
from pydantic import BaseModel
from typer.core import TyperGroup

from darkroom.app.cli.main import cli
from darkroom.app.settings import REPOSITORY, Settings
from darkroom.model.config import Config, Recipe
from darkroom.model.machine.determinism import ComputeSettings
from darkroom.store.operator_settings import MigrationSettings, OperatorSettings
from darkroom.telemetry.logs import LogSettings
from darkroom.worker.settings import JobSettings, ReconcilerSettings, WorkerSettings

DOCS = REPOSITORY / "docs"
OPERATOR_RULES = REPOSITORY / "deploy" / "kubernetes" / "monitoring" / "rules.yaml"
PAGES = ("settings.md", "recipe.md", "commands.md")
_PLACE = re.compile(r"(<!-- table (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)

Row = tuple[str, ...]

_SETTING = ("variable", "default", "value", "read by", "what it does")
_TYPES = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false"}
_LIMITS = {
    "minimum": "≥ {:,}",
    "exclusiveMinimum": "> {:,}",
    "maximum": "≤ {:,}",
    "exclusiveMaximum": "< {:,}",
    "multipleOf": "a multiple of {}",
    "minItems": "≥ {} of them",
    "maxItems": "≤ {} of them",
    "pattern": "`{}`",
}


def rewritten(page: str) -> str:
    """Return the page with its tables made anew from the code."""
    tables = all_tables()
    return _PLACE.sub(lambda place: f"{place[1]}{tables[place[2]]}{place[3]}", page)


def all_tables() -> dict[str, str]:
    """Return every table by its name."""
    servers = OperatorSettings.model_fields.keys()
    workers = {**WorkerSettings.model_fields, **ReconcilerSettings.model_fields}.keys() - servers
    return {
        "servers": _table(
            _SETTING,
            [
                *_settings(OperatorSettings, "all", servers),
                *_settings(MigrationSettings, "`darkroom migrate`", MigrationSettings.model_fields.keys() - servers),
            ],
        ),
        "compute": _table(
            _SETTING,
            _settings(ComputeSettings, "API, worker, `train`, `evaluate`, Python", ComputeSettings.model_fields.keys()),
        ),
        "logs": _table(_SETTING, _settings(LogSettings, "API, worker, reconciler", LogSettings.model_fields.keys())),
        "api": _table(_SETTING, _settings(Settings, "API", Settings.model_fields.keys() - servers)),
        "workers": _table(
            _SETTING,
            [
                *_settings(JobSettings, "worker, reconciler", workers),
                *_settings(WorkerSettings, "worker", workers - JobSettings.model_fields.keys()),
                *_settings(ReconcilerSettings, "reconciler", workers - JobSettings.model_fields.keys()),
            ],
        ),
        "recipe": "\n".join(_sections(Recipe)),
        "commands": _table(("command", "what it does"), _commands(typer.main.get_command(cli), "darkroom")),
    }


def _settings(kind: type[BaseModel], readers: str, names: Collection[str]) -> Iterator[Row]:
    """A table with one line for each field in `names`."""
    prefix = str(kind.model_config.get("env_prefix", ""))
    for name, schema in _schemas(kind).items():
        if name in names:
            alias = kind.model_fields[name].validation_alias
            variable = alias if isinstance(alias, str) else f"{prefix}{name.upper()}"
            default = schema.get("default")
            written = ":".join(default) if isinstance(default, list) else default
            shown = "not set" if written is None else _shown(written)
            yield f"`{variable}`", shown, _value(schema), readers, schema["description"]


def _sections(kind: type[Config], name: str = "") -> Iterator[str]:
    """A table for a recipe's section, followed by one for each section within it."""
    rows, below = [], {}
    for field, schema in _schemas(kind).items():
        annotation = kind.model_fields[field].annotation
        section = next((one for one in (annotation, *get_args(annotation)) if _is_section(one)), None)
        if section is None:
            shown = _shown(schema["default"]) if "default" in schema else "must be set"
            rows.append((f"`{field}`", shown, _value(schema), schema["description"]))
        else:
            below[f"{name}.{field}".lstrip(".")] = section
    yield f"## {f'`{name}`' if name else 'At the top'}\n"
    yield _table(("field", "default", "value", "meaning"), rows)
    for path, section in below.items():
        yield from _sections(section, path)


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Config)


def _schemas(kind: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON schema of each field by the field's name."""
    properties: dict[str, Any] = kind.model_json_schema(by_alias=False)["properties"]
    return properties


def _shown(default: Any) -> str:
    text = default if isinstance(default, str) else json.dumps(default)
    return f"`{text.replace(f'{REPOSITORY}/', '')}`" if text else "empty"


def _value(schema: Mapping[str, Any]) -> str:
    """Describe a value's type and bounds."""
    one, *others = [other for other in schema.get("anyOf", [schema]) if other.get("type") != "null"]
    if others:
        return ", or ".join(_value(other) for other in (one, *others))
    if "enum" in one:
        kind = ", ".join(f"`{value}`" for value in one["enum"])
    elif "prefixItems" in one:
        return f"two of: {_value(one['prefixItems'][0])}"
    elif one["type"] == "array":
        kind = f"list of: {_value(one['items'])}"
    else:
        kind = "path" if one.get("format") == "path" else _TYPES[one["type"]]
    return ", ".join([kind, *(words.format(one[limit]) for limit, words in _LIMITS.items() if limit in one)])


def _commands(command: Any, name: str) -> Iterator[tuple[str, str]]:
    if not isinstance(command, TyperGroup) or command.invoke_without_command:
        yield f"`{name}`", (command.help or "").split("\n\n")[0].replace("\n", " ")
    if isinstance(command, TyperGroup):
        for part, below in command.commands.items():
            yield from _commands(below, f"{name} {part}")


def _table(head: Row, rows: Iterable[Row]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def operator_rules() -> str:
    """Return the alert rules as an object of the Prometheus operator. kustomize cannot put a file into one."""
    rules = (REPOSITORY / "deploy/prometheus/alerts.yml").read_text(encoding="utf-8")
    head = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "darkroom"},
        "spec": yaml.safe_load(rules),
    }
    written = yaml.safe_dump(head, sort_keys=False, width=120)
    return f"# Written by `make docs` from deploy/prometheus/alerts.yml.\n{written}"


def main() -> None:
    """Write the pages, and the rules for Kubernetes."""
    OPERATOR_RULES.write_text(operator_rules(), encoding="utf-8")
    for name in PAGES:
        page = DOCS / name
        page.write_text(rewritten(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
