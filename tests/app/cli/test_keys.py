"""Laws of `darkroom keys` and `darkroom audit`: a token is printed once, on stdout only; commands say what they did."""

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import inspect, text
from typer.testing import CliRunner, Result

from darkroom.app.access.token import prefix_of, token_digest
from darkroom.app.cli.main import cli
from darkroom.store.database import Database
from darkroom.store.key_repository import list_keys
from darkroom.store.migrations import downgrade
from darkroom.store.tables import ApiKey

Run = Callable[..., Result]


@pytest.fixture
def run(database_url: str) -> Run:
    def run(*arguments: object) -> Result:
        return CliRunner().invoke(cli, list(map(str, arguments)), env={"COLUMNS": "40", "DATABASE_URL": database_url})

    return run


def rows(database: Database) -> list[ApiKey]:
    with database.session() as session:
        return list(list_keys(session))


def test_a_key_is_created_listed_and_revoked_by_number_or_prefix(run: Run, database: Database) -> None:
    assert run("keys", "list").output == "No keys.\n"
    made = run("keys", "create", "--name", "[bold]Größe[/bold]", "--scopes", "train, generate", "--images-per-day", 5)
    assert made.exit_code == 0, made.output
    token = made.stdout.strip()
    (key,) = rows(database)
    assert (key.name, key.scopes, key.images_per_day) == ("[bold]Größe[/bold]", ["generate", "train"], 5)
    assert (key.prefix, key.digest) == (prefix_of(token), token_digest(token))
    assert token not in made.stderr
    assert "[bold]Größe[/bold]" in made.stderr

    run("keys", "create", "--name", "short", "--scopes", "admin", "--expires-in-days", 1)
    listed = run("keys", "list").output
    assert listed.count("\n") == 3  # in a pipe each key has one line, however narrow the window is
    assert token not in listed
    for word in (key.prefix, "[bold]Größe[/bold]", "generate, train", "valid", "valid until"):
        assert word in listed
    changed = run("keys", "change", key.prefix, "--images-per-day", "default", "--unfinished-jobs", 3)
    assert changed.exit_code == 0, changed.output
    assert "images per day default, network rows per day default, unfinished jobs 3" in changed.output
    assert next((row.images_per_day, row.unfinished_jobs) for row in rows(database) if row.id == key.id) == (None, 3)
    for arguments in ((key.id,), (key.id, "--images-per-day", "many"), (key.id, "--images-per-day=-1"), (99,)):
        wrong = run("keys", "change", *arguments, *(["--unfinished-jobs", 1] if arguments == (99,) else []))
        assert wrong.exit_code == 2, wrong.output
    assert run("keys", "revoke", key.prefix).exit_code == 0
    assert "(short) is revoked" in run("keys", "revoke", 2).output
    assert run("keys", "list").output.count("revoked") == 2
    assert all(row.revoked_at is not None for row in rows(database))

    trail = run("audit").output.splitlines()
    assert all("command line" in line for line in trail)
    assert [next(word for word in line.split() if word.startswith("key.")) for line in trail] == [
        "key.created",
        "key.created",
        "key.changed",
        "key.revoked",
        "key.revoked",
    ]
    assert len(run("audit", "--action", "key.revoked").output.splitlines()) == 2
    assert len(run("audit", "--target", "keys/1").output.splitlines()) == 3
    assert run("audit", "--action", "none").output == "No changes.\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("create", "--name", "a", "--scopes", "root"), "scopes.0"),
        (("create", "--name", "", "--scopes", "train"), "name"),
        (("create", "--name", "a", "--scopes", ""), "scopes.0"),
        (("create", "--name", "a", "--scopes", "train", "--requests-per-minute", "0"), "requests_per_minute"),
        (("revoke", "99"), "99"),
        (("revoke", "drk_nobody"), "drk_nobody"),
        (("revoke", "9" * 30), "9" * 30),
    ],
)
def test_a_refusal_is_one_line_that_names_the_cause(
    run: Run, database: Database, arguments: tuple[str, ...], says: str
) -> None:
    result = run("keys", *arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert says in result.stderr
    assert result.stdout == ""
    assert rows(database) == []


def test_an_unused_state_folder_is_refused_unless_a_key_is_created(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    state = tmp_path / "nobody"
    for command in (("keys", "list"), ("keys", "revoke", "1"), ("audit",)):
        result = CliRunner().invoke(cli, [*command, "--state", str(state)])
        assert result.exit_code == 2
        assert f"no service has run on the state folder {state}" in result.stderr
    assert not state.exists()
    made = CliRunner().invoke(cli, ["keys", "create", "--name", "a", "--scopes", "admin", "--state", str(state)])
    assert made.exit_code == 0, made.output
    assert "creating it now" in made.stderr
    assert "a (" not in CliRunner().invoke(cli, ["keys", "list", "--state", str(state)]).stderr


def test_no_database_is_one_clear_line(tmp_path: Path) -> None:
    for url in ("postgresql://nobody@/nothing?host=/nonexistent", "mysql://x"):
        result = CliRunner().invoke(cli, ["keys", "list", "--state", str(tmp_path)], env={"DATABASE_URL": url})
        assert result.exit_code == 2
        assert result.output.startswith("error: ")


def _columns(database: Database) -> set[str]:
    with database.session() as session:
        return {column["name"] for column in inspect(session.connection()).get_columns("sweeps")}


def test_an_older_version_runs_on_the_tables_of_the_next(run: Run, database: Database) -> None:
    """A rollback: the next version has added a column and has stamped its revision."""
    with database.session() as session:
        session.execute(text("ALTER TABLE sweeps ADD COLUMN of_the_next_version INTEGER"))
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    migrated = run("migrate")
    assert migrated.exit_code == 0
    assert "Nothing was migrated" in migrated.stderr
    assert "9999" in migrated.stderr
    assert "update Darkroom" not in migrated.stderr  # this is a rollback
    assert "The version before that one runs on its tables" in migrated.stderr
    assert "of_the_next_version" in _columns(database)
    assert run("migrate", "--check").exit_code == 0
    assert run("keys", "create", "--name", "a", "--scopes", "train").exit_code == 0
    assert [key.name for key in rows(database)] == ["a"]


def test_only_migrate_migrates(run: Run, database_url: str, database: Database) -> None:
    downgrade(database_url, "0014")
    before = _columns(database)
    for command in (("keys", "list"), ("keys", "create", "--name", "a", "--scopes", "train"), ("migrate", "--check")):
        refused = run(*command)
        assert refused.exit_code == 2
        assert "darkroom migrate" in refused.output
    assert _columns(database) == before
    assert run("migrate").exit_code == 0
    assert _columns(database) > before
    assert run("migrate", "--check").exit_code == 0
