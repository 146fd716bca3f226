"""What `darkroom keys`, `audit` and `migrate` do, on the database. Names are printed as they are, not as markup."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.access.new_key import KeyLimitsRequest, KeyRequest, make_key
from app.embedded.operator_database import operator_database
from app.embedded.process import EmbeddedError
from app.terminal import print_error
from store import key_repository
from store.audit_repository import COMMAND_LINE, list_audit_events
from store.key_repository import KeyNotFound, change_limits, find_key, list_keys
from store.tables import ApiKey, AuditEvent

T = TypeVar("T")


def migrate(state: Path) -> int:
    """Bring the tables up to date; returns the exit code."""
    console = Console(stderr=True)
    return _in_database(state, console, lambda _: None, lambda _: _say(console, "The database is up to date"))


def create_key(state: Path, fields: Mapping[str, Any]) -> int:
    """Create a key as `fields` say and print its token; returns the exit code."""
    console = Console(stderr=True)
    try:
        wanted = KeyRequest.model_validate({name: value for name, value in fields.items() if value is not None})
    except ValidationError as error:
        return _faults(console, error)

    def say(made: tuple[ApiKey, str]) -> None:
        row, token = made
        _say(console, f"Key {row.id} ({row.name}) may: {', '.join(row.scopes)}. Its token is shown this once:")
        print(token)

    return _in_database(state, console, lambda session: make_key(session, COMMAND_LINE, wanted), say)


def print_keys(state: Path, limit: int) -> int:
    """Print the newest keys; returns the exit code."""
    return _in_database(
        state,
        Console(stderr=True),
        lambda session: list_keys(session, limit=limit),
        lambda rows: Console().print(_keys_table(rows) if rows else "No keys."),
    )


def change_key(state: Path, key: str, limits: Mapping[str, str]) -> int:
    """Set a key's limits, each a number or "default"; the key as in `revoke_key`. Returns the exit code."""
    console = Console(stderr=True)
    try:
        wanted = KeyLimitsRequest.model_validate({name: _limit(text) for name, text in limits.items()})
    except ValidationError as error:
        return _faults(console, error)
    if not wanted.changes():
        print_error(console, "name at least one limit to change")
        return 1
    return _in_database(
        state,
        console,
        lambda session: change_limits(session, COMMAND_LINE, _key_id(session, key), wanted.changes()),
        lambda row: _say(console, f"Key {row.id} ({row.name}) has other limits now: {_limits(row)}"),
    )


def _limit(text: str) -> int | str | None:
    """A limit as it was written; what is no number is left to the validation, which names it."""
    if text == "default":
        return None
    return int(text) if text.isascii() and text.removeprefix("-").isdigit() and len(text) < 19 else text


def _limits(row: ApiKey) -> str:
    limits = (
        f"{name.replace('_', ' ')} {'default' if (limit := getattr(row, name)) is None else limit}"
        for name in KeyLimitsRequest.model_fields
    )
    return ", ".join(limits)


def _faults(console: Console, error: ValidationError) -> int:
    """Say what is wrong with which field; returns the exit code."""
    for fault in error.errors():
        print_error(console, f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}")
    return 1


def revoke_key(state: Path, key: str) -> int:
    """End a key, named by its number or its prefix; returns the exit code."""
    console = Console(stderr=True)
    return _in_database(
        state,
        console,
        lambda session: key_repository.revoke_key(session, COMMAND_LINE, _key_id(session, key)),
        lambda row: _say(console, f"Key {row.id} ({row.name}) is revoked"),
    )


def _key_id(session: Session, key: str) -> int:
    """The number of a key that is named by it or by its prefix. Raises KeyNotFound."""
    if key.isascii() and key.isdigit() and len(key) < 19:
        return int(key)
    found = find_key(session, key)
    if found is None:
        raise KeyNotFound(key)
    return found.id


def print_audit(state: Path, limit: int, action: str | None, target: str | None) -> int:
    """Print the newest changes, the last one last; returns the exit code."""
    return _in_database(
        state,
        Console(stderr=True),
        lambda session: list_audit_events(session, limit=limit, action=action, target=target),
        _print_audit,
    )


def _in_database(state: Path, console: Console, run: Callable[[Session], T], say: Callable[[T], object]) -> int:
    """Run in a transaction and then say what came of it; returns the exit code."""
    try:
        with operator_database(state) as database:
            with database.session() as session:
                result = run(session)
            say(result)
    except (EmbeddedError, KeyNotFound) as error:
        print_error(console, str(error))
        return 1
    except DBAPIError as error:
        print_error(console, f"the database refused: {error.orig}")
        return 1
    return 0


def _keys_table(rows: Sequence[ApiKey]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("key", "name", "prefix", "scopes", "created", "last used", "state"):
        table.add_column(name, overflow="fold", no_wrap=name in ("key", "prefix"))
    for row in rows:
        cells = (str(row.id), row.name, row.prefix, ", ".join(row.scopes))
        table.add_row(*map(Text, (*cells, _time(row.created_at), _time(row.last_used_at), _state(row))))
    return table


def _state(row: ApiKey) -> str:
    if row.revoked_at is not None:
        return f"revoked {_time(row.revoked_at)}"
    if row.expires_at is None:
        return "good"
    return f"{'expired' if row.expires_at <= datetime.now(UTC) else 'good until'} {_time(row.expires_at)}"


def _print_audit(rows: Sequence[AuditEvent]) -> None:
    """A line an event and no table: facts are of any length, and lines are what other programs take."""
    console = Console()
    for row in reversed(rows):
        who = row.actor if row.api_key_id is None else f"{row.actor} (key {row.api_key_id})"
        where = f" from {row.client_address}" if row.client_address else ""
        facts = json.dumps(row.data, ensure_ascii=False)
        line = f"{_time(row.created_at)}  {row.action}  {row.target}  by {who}{where}  {facts}"
        console.print(Text(line), soft_wrap=True)
    if not rows:
        console.print("No changes.")


def _time(time: datetime | None) -> str:
    return "" if time is None else f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def _say(console: Console, line: str) -> None:
    console.print(Text(line), soft_wrap=True)
