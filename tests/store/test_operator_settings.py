"""Laws of password files: they complete an address, a password in the address wins, and no error shows a password."""

from pathlib import Path

import pytest
from pydantic import ValidationError
from redis import Redis

from darkroom.app.settings import Settings
from darkroom.store.database import parse_url
from darkroom.store.operator_settings import OperatorSettings, SettingsError, read_settings
from darkroom.worker.settings import WorkerSettings

PASSWORD = "p@ss:w/ör?d%"  # every character with a meaning in a URL


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n", encoding="utf-8")
    return file


@pytest.mark.parametrize("settings", [OperatorSettings, Settings, WorkerSettings])
def test_api_worker_and_commands_read_the_same(
    settings: type[OperatorSettings], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://ada@db:5432/darkroom?sslmode=require")
    monkeypatch.setenv("REDIS_URL", "redis://broker:6379/0")
    for name in ("DATABASE_PASSWORD_FILE", "REDIS_PASSWORD_FILE"):
        monkeypatch.setenv(name, str(file))
    found = settings()
    url = parse_url(str(found.database_url))
    assert (url.username, url.password, url.host, url.port) == ("ada", PASSWORD, "db", 5432)
    assert (url.database, url.query["sslmode"]) == ("darkroom", "require")
    broker = Redis.from_url(str(found.redis_url)).connection_pool.connection_kwargs
    assert (broker["password"], broker["host"], broker["port"]) == (PASSWORD, "broker", 6379)


def test_a_socket_takes_a_password_too(file: Path) -> None:
    found = OperatorSettings(database_url="postgresql://ada@/darkroom?host=%2Frun", database_password_file=file)
    url = parse_url(str(found.database_url))
    assert (url.username, url.password, url.query["host"]) == ("ada", PASSWORD, "/run")


@pytest.mark.parametrize("url", ["redis://:own@broker:6379/0", "redis://ada:own@broker:6379/0"])
def test_a_password_in_the_address_goes_before_the_file(url: str, file: Path) -> None:
    assert OperatorSettings(redis_url=url, redis_password_file=file).redis_url == url


def test_without_an_address_a_file_means_nothing(tmp_path: Path) -> None:
    assert OperatorSettings(database_url=None, database_password_file=tmp_path / "none").database_url is None


def test_a_file_that_is_missing_or_empty_is_said_without_the_address(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_text("\n")
    for file in (tmp_path / "missing", empty):
        with pytest.raises(ValidationError, match=file.name) as refusal:
            OperatorSettings(database_url="postgresql://ada@s3cret/x", database_password_file=file)
        assert "s3cret" not in str(refusal.value)


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({}, "DATABASE_URL is not set: name the service's PostgreSQL in it"),
        ({"DATABASE_URL": ""}, "DATABASE_URL is not set"),
        ({"DATABASE_URL": "postgresql://db/darkroom"}, "REDIS_URL is not set: name the service's Redis in it"),
        ({"DATABASE_URL": "secret"}, "DATABASE_URL is not a valid URL"),
        ({"DATABASE_URL": "mysql://db/darkroom"}, "DATABASE_URL must begin with postgresql://"),
        ({"REDIS_URL": "secret"}, "REDIS_URL is not a valid URL"),
        ({"REDIS_URL": "http://secret"}, "REDIS_URL is not a valid URL"),
        ({"REDIS_URL": "redis://secret:port"}, "REDIS_URL is not a valid URL"),
        ({"DARKROOM_BEAT_SECONDS": "secret"}, "the environment variable DARKROOM_BEAT_SECONDS cannot be used: input"),
        ({"DATABASE_POOLER": "maybe"}, "the environment variable DATABASE_POOLER cannot be used: input"),
        ({"DARKROOM_WORKER_DEVICE": "tpu"}, "DARKROOM_WORKER_DEVICE cannot be used: input should be 'cpu' or 'cuda'"),
        ({"DATABASE_PASSWORD_FILE": "/nonexistent"}, "/nonexistent: No such file"),
    ],
)
def test_settings_that_cannot_be_used_are_a_sentence_without_what_they_hold(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], says: str
) -> None:
    good = {"DATABASE_URL": "postgresql://db/darkroom", "REDIS_URL": "redis://broker"} if environment else {}
    if environment == {"DATABASE_URL": "postgresql://db/darkroom"}:
        del good["REDIS_URL"]
    for name in ("DATABASE_URL", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {**good, **environment}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as refused:
        read_settings(WorkerSettings)
    assert says in str(refused.value)
    assert "secret" not in str(refused.value)
