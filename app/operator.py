"""What `darkroom keys`, `audit` and `migrate` do, on the database. Names are printed as they are, not as markup."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from rich.table import Table
from rich.text import Text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.access.new_key import KeyLimitsRequest, KeyRequest, make_key
from app.embedded.operator_database import operator_database
from app.terminal import open_console, say
from model.user_error import UserError
from store import key_repository
from store.audit_repository import COMMAND_LINE, list_audit_events
from store.key_repository import KeyNotFound, change_limits, find_key, list_keys
from store.tables import ApiKey, AuditEvent

T = TypeVar("T")


def migrate(state: Path) -> int:
    """Bring the tables up to date; returns the exit code."""
    return _in_database(state, lambda _: None, lambda _: _say("The database is up to date"), new=True)


def create_key(state: Path, fields: Mapping[str, Any]) -> int:
    """Create a key as `fields` say and print its token; returns the exit code."""
    try:
        wanted = KeyRequest.model_validate({name: value for name, value in fields.items() if value is not None})
    except ValidationError as error:
        raise _refusal(error) from error

    def tell(made: tuple[ApiKey, str]) -> None:
        row, token = made
        _say(f"Key {row.id} ({row.name}) may: {', '.join(row.scopes)}. Its token is shown this once:")
        print(token)

    return _in_database(state, lambda session: make_key(session, COMMAND_LINE, wanted), tell, new=True)


def print_keys(state: Path, limit: int) -> int:
    """Print the newest keys; returns the exit code."""
    return _in_database(
        state,
        lambda session: list_keys(session, limit=limit),
        lambda rows: open_console().print(_keys_table(rows) if rows else "No keys."),
    )


def change_key(state: Path, key: str, limits: Mapping[str, str]) -> int:
    """Set a key's limits, each a number or "default"; the key as in `revoke_key`. Returns the exit code."""
    try:
        wanted = KeyLimitsRequest.model_validate({name: _limit(text) for name, text in limits.items()})
    except ValidationError as error:
        raise _refusal(error) from error
    if not wanted.changes():
        raise UserError("name at least one limit to change")
    return _in_database(
        state,
        lambda session: change_limits(session, COMMAND_LINE, _key_id(session, key), wanted.changes()),
        lambda row: _say(f"Key {row.id} ({row.name}) has other limits now: {_limits(row)}"),
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


def _refusal(error: ValidationError) -> UserError:
    """The error that names each faulty field."""
    faults = (f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}" for fault in error.errors())
    return UserError("; ".join(faults))


def revoke_key(state: Path, key: str) -> int:
    """End a key, named by its number or its prefix; returns the exit code."""
    return _in_database(
        state,
        lambda session: key_repository.revoke_key(session, COMMAND_LINE, _key_id(session, key)),
        lambda row: _say(f"Key {row.id} ({row.name}) is revoked"),
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
        lambda session: list_audit_events(session, limit=limit, action=action, target=target),
        _print_audit,
    )


def _in_database(state: Path, run: Callable[[Session], T], tell: Callable[[T], object], *, new: bool = False) -> int:
    """Run in a transaction and then say what came of it; returns the exit code. new: the state folder may be new."""
    try:
        with operator_database(state, new=new) as database:
            with database.session() as session:
                result = run(session)
            tell(result)
    except KeyNotFound as error:
        raise UserError(str(error)) from error
    except DBAPIError as error:
        raise UserError(f"the database refused: {error.orig}") from error
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
