"""`darkroom keys`, `audit` and `migrate`: commands of the operator, which work directly on the service's database.

They need no key: anyone who can read the database may run them, and they create the first key. They print names as
plain text, never as markup.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from darkroom.app.cli.terminal import open_console, plain_table, say
from darkroom.model.user_error import UserError

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.table import Table
    from sqlalchemy.orm import Session

    from darkroom.store.database import Database
    from darkroom.store.tables import ApiKey, AuditEvent

    Fields = TypeVar("Fields", bound=BaseModel)

DEFAULT_STATE = Path(".darkroom")
NEW_LIMIT = "a number, or `default` for the service's default"

keys_cli = typer.Typer(help="API keys, in the service's database.", no_args_is_help=True)

State = Annotated[Path, typer.Option(help="the service's state folder; not used when DATABASE_URL is set")]
Key = Annotated[str, typer.Argument(help="the key's number or prefix, as `list` shows them")]


@keys_cli.command()
def create(
    name: Annotated[str, typer.Option(help="the key's owner or purpose")],
    scopes: Annotated[str, typer.Option(help="one or more of generate, train, metrics, admin, separated by commas")],
    expires_in_days: Annotated[float | None, typer.Option(help="default: never")] = None,
    requests_per_minute: Annotated[int | None, typer.Option(help="default: the service's")] = None,
    images_per_day: Annotated[int | None, typer.Option(help="default: the service's")] = None,
    network_rows_per_day: Annotated[int | None, typer.Option(help="default: the service's")] = None,
    unfinished_jobs: Annotated[int | None, typer.Option(help="at the same time; default: the service's")] = None,
    stored_bytes: Annotated[int | None, typer.Option(help="default: the service's")] = None,
    priority: Annotated[int | None, typer.Option(help="the highest of its jobs; default: the service's")] = None,
    devices: Annotated[int | None, typer.Option(help="the most of one job; default: the service's")] = None,
    group: Annotated[str | None, typer.Option(help="whose keys own models and data sets together")] = None,
    state: State = DEFAULT_STATE,
) -> None:
    """Create a key and print its token, which is shown only once."""
    from darkroom.app.access.new_key import KeyRequest, closing_notice, make_key
    from darkroom.store.audit_repository import COMMAND_LINE
    from darkroom.store.key_repository import keys_existed

    fields = {
        "name": name,
        "scopes": [scope.strip() for scope in scopes.split(",")],
        "expires_in_days": expires_in_days,
        "requests_per_minute": requests_per_minute,
        "images_per_day": images_per_day,
        "network_rows_per_day": network_rows_per_day,
        "unfinished_jobs": unfinished_jobs,
        "stored_bytes": stored_bytes,
        "priority": priority,
        "devices": devices,
        "group": group,
    }
    wanted = _validated(KeyRequest, {name: value for name, value in fields.items() if value is not None})
    with _database(state, new=True) as database:
        with database.session() as session:
            closes = not keys_existed(session)
            row, token = make_key(session, COMMAND_LINE, wanted)
        if closes:
            _say(closing_notice(row.scopes))
        _say(f"Key {row.id} ({row.name}) may: {', '.join(row.scopes)}. Its token is shown only once:")
        print(token)


@keys_cli.command(name="list")
def list_(
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 100,
    state: State = DEFAULT_STATE,
) -> None:
    """Print a table of the newest keys."""
    from darkroom.store.key_repository import list_keys

    with _database(state) as database, database.session() as session:
        rows = list_keys(session, limit=limit)
        open_console().print(_keys_table(rows) if rows else "No keys.")


@keys_cli.command()
def change(
    key: Key,
    requests_per_minute: Annotated[str | None, typer.Option(help=NEW_LIMIT)] = None,
    images_per_day: Annotated[str | None, typer.Option(help=NEW_LIMIT)] = None,
    network_rows_per_day: Annotated[str | None, typer.Option(help=NEW_LIMIT)] = None,
    unfinished_jobs: Annotated[str | None, typer.Option(help=NEW_LIMIT)] = None,
    stored_bytes: Annotated[str | None, typer.Option(help=NEW_LIMIT)] = None,
    priority: Annotated[str | None, typer.Option(help=NEW_LIMIT)] = None,
    devices: Annotated[str | None, typer.Option(help=NEW_LIMIT)] = None,
    group: Annotated[str | None, typer.Option(help="a name, or an empty text for no group")] = None,
    state: State = DEFAULT_STATE,
) -> None:
    """Change a key's limits or group; running services apply them within seconds."""
    from darkroom.app.access.new_key import KeyLimitsRequest
    from darkroom.store.audit_repository import COMMAND_LINE
    from darkroom.store.key_repository import change_key

    limits = {
        "requests_per_minute": requests_per_minute,
        "images_per_day": images_per_day,
        "network_rows_per_day": network_rows_per_day,
        "unfinished_jobs": unfinished_jobs,
        "stored_bytes": stored_bytes,
        "priority": priority,
        "devices": devices,
    }
    asked = {name: _limit(text) for name, text in limits.items() if text is not None}
    if group is not None:
        asked["group"] = group or None
    changes = _validated(KeyLimitsRequest, asked).changes()
    if not changes:
        raise UserError("name at least one limit to change, or the group")
    with _database(state) as database:
        with database.session() as session:
            row = change_key(session, COMMAND_LINE, _key_id(session, key), changes)
        limits = {name: getattr(row, name) for name in limits}
        texts = (f"{name.replace('_', ' ')} {'default' if limit is None else limit}" for name, limit in limits.items())
        of = "" if row.group_name is None else f" of the group {row.group_name}"
        _say(f"Key {row.id} ({row.name}){of} now has these limits: {', '.join(texts)}")


@keys_cli.command()
def revoke(key: Key, state: State = DEFAULT_STATE) -> None:
    """Revoke a key for good; running services refuse it within seconds."""
    from darkroom.store.audit_repository import COMMAND_LINE
    from darkroom.store.key_repository import revoke_key

    with _database(state) as database:
        with database.session() as session:
            row = revoke_key(session, COMMAND_LINE, _key_id(session, key))
        _say(f"Key {row.id} ({row.name}) is revoked")


def audit(
    action: Annotated[str | None, typer.Option(help="such as key.created or train-job.submitted")] = None,
    target: Annotated[str | None, typer.Option(help="such as train-jobs/3 or models/digits/alias/production")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 50,
    state: State = DEFAULT_STATE,
) -> None:
    """Print the newest changes and who made them, the newest last."""
    from darkroom.store.audit_repository import list_audit_events

    with _database(state) as database, database.session() as session:
        _print_audit(list_audit_events(session, limit=limit, action=action, target=target))


def migrate(
    check: Annotated[bool, typer.Option("--check", help="change nothing; fail if they are not up to date")] = False,
    state: State = DEFAULT_STATE,
) -> None:
    """Bring the database's tables up to date; the API and the workers need this."""
    import psycopg

    from darkroom.store.migrations import NewerSchema
    from darkroom.store.operator_settings import MigrationSettings, read_settings
    from darkroom.store.roles import grant_roles

    passwords = read_settings(MigrationSettings).passwords()
    try:
        with _database(state, new=not check, migrate=not check) as database:
            if not check:
                grant_roles(database.engine.url.render_as_string(hide_password=False), passwords)
    except NewerSchema as notice:  # the image was rolled back: the next version's tables stay, and so do its rights
        _say(f"Nothing was migrated: {notice.found}")
        _say("The version before that one runs on its tables; to go back further, restore a dump")
        return
    except psycopg.Error as error:
        raise UserError(
            f"the tables are up to date, but the roles are not: {error}; migrate with the account that owns the "
            "tables and may create roles"
        ) from error
    _say("The database is up to date")


@contextmanager
def _database(state: Path, *, new: bool = False, migrate: bool = False) -> Iterator[Database]:
    """Yield the database. Its errors in the block become UserError. new, migrate: as for `operator_database`."""
    from sqlalchemy.exc import DBAPIError

    from darkroom.app.embedded.operator_database import operator_database
    from darkroom.store.database import DatabaseAway
    from darkroom.store.key_repository import KeyNotFound

    try:
        with operator_database(state, new=new, migrate=migrate) as database:
            yield database
    except KeyNotFound as error:
        raise UserError(str(error)) from error
    except DatabaseAway as error:
        raise UserError(f"the database cannot be used now: {error}; try again when it is back") from error
    except DBAPIError as error:
        raise UserError(f"the database refused the command: {error.orig}") from error


def _validated(request: type[Fields], fields: Mapping[str, Any]) -> Fields:
    """Return the validated request. Raises UserError, which names each faulty field."""
    from pydantic import ValidationError

    from darkroom.model.config import faults_of

    try:
        return request.model_validate(fields)
    except ValidationError as error:
        raise UserError(faults_of(error)) from error


def _limit(text: str) -> int | str | None:
    """Parse a limit. Text that is not a number is returned unchanged, so that validation names the field."""
    if text == "default":
        return None
    return int(text) if text.isascii() and text.removeprefix("-").isdigit() and len(text) < 19 else text


def _key_id(session: Session, key: str) -> int:
    """Return the id of the key with this number or prefix. Raises KeyNotFound."""
    from darkroom.store.key_repository import KeyNotFound, find_key

    if key.isascii() and key.isdigit() and len(key) < 19:
        return int(key)
    found = find_key(session, key)
    if found is None:
        raise KeyNotFound(key)
    return found.id


def _keys_table(rows: Sequence[ApiKey]) -> Table:
    names = ("key", "name", "prefix", "scopes", "created", "last used", "state")
    return plain_table(names, map(_key_cells, rows), unfolded=("key", "prefix"))


def _key_cells(row: ApiKey) -> tuple[str, ...]:
    cells = (str(row.id), row.name, row.prefix, ", ".join(row.scopes))
    return (*cells, _time(row.created_at), _time(row.last_used_at), _state(row))


def _state(row: ApiKey) -> str:
    if row.revoked_at is not None:
        return f"revoked {_time(row.revoked_at)}"
    if row.expires_at is None:
        return "valid"
    return f"{'expired' if row.expires_at <= datetime.now(UTC) else 'valid until'} {_time(row.expires_at)}"


def _print_audit(rows: Sequence[AuditEvent]) -> None:
    """Print one line for each event. Not a table, because facts can be long and other programs read lines."""
    console = open_console()
    for row in reversed(rows):
        who = row.actor if row.api_key_id is None else f"{row.actor} (key {row.api_key_id})"
        where = f" from {row.client_address}" if row.client_address else ""
        facts = json.dumps(row.data, ensure_ascii=False)
        line = f"{_time(row.created_at)}  {row.action}  {row.target}  by {who}{where}  {facts}"
        say(console, line)
    if not rows:
        console.print("No changes.")


def _time(time: datetime | None) -> str:
    return "" if time is None else f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def _say(line: str) -> None:
    say(open_console(stderr=True), line)
