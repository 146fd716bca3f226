"""Laws of install commands in Darkroom's texts: they work in this checkout, and never install another's package."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PLACES = ("README.md", "Makefile", "Dockerfile.gpu", "docker-compose.yml", "pyproject.toml", "constraints.txt", ".ci")
FOLDERS = (
    "darkroom",
    "model",
    "store",
    "app",
    "worker",
    "telemetry",
    "bench",
    "alembic",
    "docs",
    "deploy",
    "recipes",
    "weights",
)
TEXTS = {".py", ".md", ".yaml", ".yml", ".js", ".html", ".toml", ".txt", ".conf", ".json", ".sh", ".gpu", ""}

# The bare name in an install command, or with an extra: on the public registry this name is another project's.
WRONG = re.compile(r"\bpip3? install\b[^\n`]*[\s'\"]darkroom(?![\w/-])|\bdarkroom\[[a-z]|(?<!-)\binstall darkroom\b")
EXTRAS = re.compile(r"-e '\.\[([a-z,]+)\]'|installing\(['\"]([a-z]+)['\"]\)|import_extra\([^,()]+, \"([a-z]+)\"")


def _texts() -> list[Path]:
    below = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*"))
    found = [path for path in (*(ROOT / place for place in PLACES), *below) if path.suffix in TEXTS and path.is_file()]
    return found + list((ROOT / ".ci").iterdir())


@pytest.mark.parametrize(
    "text",
    [
        "pip install darkroom",
        "pip install 'darkroom[metrics]'",
        'python -m pip install --force-reinstall "darkroom[metrics]"',
        "uv pip install darkroom==1.0",
        "install darkroom[embedded] or set REDIS_URL",
        "needs `pip install darkroom`",
    ],
)
def test_the_wrong_form_is_recognised(text: str) -> None:
    assert WRONG.search(text)


def test_no_text_sends_users_to_another_persons_package() -> None:
    texts = _texts()
    assert {ROOT / "README.md", ROOT / "docs" / "monitoring.md", ROOT / "model" / "extras.py"} <= set(texts)
    wrong = [
        f"{path.relative_to(ROOT)}: {found[0]}"
        for path in texts
        for found in WRONG.finditer(path.read_text(encoding="utf-8"))
    ]
    assert wrong == []


def test_every_extra_that_a_text_names_is_there() -> None:
    named = {
        extra
        for path in _texts()
        for found in EXTRAS.finditer(path.read_text(encoding="utf-8"))
        for extra in next(filter(None, found.groups())).split(",")
    }
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {"inception", "lpips", "metrics", "digits", "embedded", "tracing", "nvidia"} <= named <= set(extras)
