"""A service that asks for keys, and keys for it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from darkroom.app.access.new_key import KeyRequest, make_key
from darkroom.store.audit_repository import COMMAND_LINE
from darkroom.store.database import Database
from darkroom.store.tables import ApiKey, Scope
from tests.app.served import Service, serving
from tests.processes import PATIENCE_SECONDS


def add_key(database: Database, *scopes: Scope, name: str = "lab", **limits: Any) -> tuple[ApiKey, str]:
    """Make a key; return its record and its token."""
    wanted = KeyRequest.model_validate({"name": name, "scopes": list(scopes)} | limits)
    with database.session() as session:
        return make_key(session, COMMAND_LINE, wanted)


class Keyed:
    """Clients of a service, each with a token; `bare` has none. redis_url: where the service counts limits."""

    def __init__(self, service: Service, tokens: Sequence[str], redis_url: str | None) -> None:
        self.service = service
        self.redis_url = redis_url
        self.bare = service.client
        self.clients = [self.client(token) for token in tokens]

    def client(self, token: str) -> httpx.Client:
        """A client that sends the token."""
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.Client(base_url=self.service.url, timeout=PATIENCE_SECONDS, trust_env=False, headers=headers)


@contextmanager
def serving_keyed(weights: Path, tokens: Sequence[str], **settings: Any) -> Iterator[Keyed]:
    """Run the service on a database that already has keys, with one client for each token."""
    with serving(weights, default_model="tiny", **settings) as service:
        keyed = Keyed(service, tokens, settings.get("redis_url"))
        try:
            yield keyed
        finally:
            for client in keyed.clients:
                client.close()
