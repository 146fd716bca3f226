"""Refuses to start a service without keys when other machines can reach it."""

import logging

from darkroom.app.settings import is_loopback
from darkroom.model.user_error import UserError
from darkroom.store.database import Database, DatabaseAway
from darkroom.store.key_repository import keys_exist

log = logging.getLogger(__name__)


class KeysNeeded(UserError):
    """The service would be open to other machines; the message says what to do."""

    def __init__(self, host: str) -> None:
        super().__init__(
            f"{host} can be reached from other machines, and there are no API keys. Create one first: "
            "`darkroom keys create --name NAME --scopes admin`"
        )


def require_keys_beyond_loopback(host: str, database: Database | None) -> None:
    """Raise KeysNeeded when `host` is not a loopback address and there is no key.

    The service may start while the database cannot be reached, because every request then needs a key.
    """
    if is_loopback(host):
        return
    if database is None:
        raise KeysNeeded(host)
    try:
        with database.session() as session:
            if keys_exist(session):
                return
    except DatabaseAway as error:
        log.warning("cannot reach the database to look for keys; every request will need a key: %s", error)
        return
    raise KeysNeeded(host)
