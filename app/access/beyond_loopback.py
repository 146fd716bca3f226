"""A service that others can reach does not start without keys."""

import logging

from sqlalchemy.exc import OperationalError

from darkroom.app.settings import is_loopback
from darkroom.model.user_error import UserError
from darkroom.store.database import Database
from darkroom.store.key_repository import keys_exist

log = logging.getLogger(__name__)


class KeysNeeded(UserError):
    """The service would be open to others; the message says what to do."""

    def __init__(self, host: str) -> None:
        super().__init__(
            f"{host} can be reached from other machines, and there are no API keys. Create one first: "
            "`darkroom keys create --name NAME --scopes admin`"
        )


def require_keys_beyond_loopback(host: str, database: Database | None) -> None:
    """Raise KeysNeeded when `host` is no loopback address and there is no key.

    While the database is away nothing can be said, and the service may start: it then asks everybody for a key.
    """
    if is_loopback(host):
        return
    if database is None:
        raise KeysNeeded(host)
    try:
        with database.session() as session:
            if keys_exist(session):
                return
    except OperationalError as error:
        log.warning("the database is away, so that every request will be asked for a key: %s", error)
        return
    raise KeysNeeded(host)
