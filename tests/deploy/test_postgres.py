"""Laws of PostgreSQL's settings in production: the server takes them, and they fit its limit of memory."""

import re

import psycopg
import yaml

from darkroom.app.embedded.postgres import PrivatePostgres
from tests.compose import ROOT, services

POSTGRES = services()["postgres"]


def _settings() -> dict[str, str]:
    program, *options = POSTGRES["command"]
    assert program == "postgres"
    return dict(option.removeprefix("--").split("=", 1) for option in options)


def test_the_server_takes_each_setting(postgres_server: PrivatePostgres) -> None:
    with psycopg.connect(postgres_server.url, autocommit=True) as connection:
        for name, value in _settings().items():
            try:
                connection.execute(f"ALTER SYSTEM SET {name} = '{value}'".encode())  # checks name and value
            finally:
                connection.execute(f"ALTER SYSTEM RESET {name}".encode())


def test_buffers_leave_memory_for_connections() -> None:
    megabytes = re.fullmatch(r"(\d+)MB", _settings()["shared_buffers"])
    limit = re.fullmatch(r"(\d+)g", POSTGRES["deploy"]["resources"]["limits"]["memory"])
    assert megabytes is not None
    assert limit is not None
    assert int(megabytes[1]) <= int(limit[1]) * 1024 / 4


def test_a_pod_has_the_settings_of_compose() -> None:
    manifest = (ROOT / "deploy" / "kubernetes" / "base" / "postgres.yaml").read_text(encoding="utf-8")
    pod = next(part for part in yaml.safe_load_all(manifest) if part["kind"] == "StatefulSet")["spec"]["template"]
    assert pod["spec"]["containers"][0]["args"] == POSTGRES["command"]
