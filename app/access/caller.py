"""The caller of a request."""

from dataclasses import dataclass, field, replace

from darkroom.app.access.limits import Use
from darkroom.app.access.verifier import VerifiedKey
from darkroom.store.audit_repository import Actor
from darkroom.store.job_repository import Origin
from darkroom.store.owners import Owner
from darkroom.telemetry.tracing import current_traceparent


@dataclass(frozen=True)
class Caller:
    """A client that the gate admitted. key: None if the request needs none. uses: the key's use, by window name."""

    key: VerifiedKey | None = None
    request_id: str | None = None
    client_address: str | None = None
    uses: dict[str, Use] = field(default_factory=dict)

    @property
    def key_id(self) -> int | None:
        """The key's id, None without a key."""
        return self.key.id if self.key else None

    @property
    def owner(self) -> Owner | None:
        """The owner whose models and data sets the caller may use, besides nobody's; None for all of them."""
        if self.key is None or "admin" in self.key.scopes:
            return None
        return Owner(self.key.id, self.key.group)

    @property
    def actor(self) -> Actor:
        """The caller as the audit trail records it."""
        return Actor(
            name=self.key.name if self.key else "loopback",
            api_key_id=self.key_id,
            request_id=self.request_id,
            client_address=self.client_address,
        )

    @property
    def origin(self) -> Origin:
        """The origin that jobs of this request store."""
        return Origin(self.key_id, self.request_id, current_traceparent())

    @property
    def origin_again(self) -> Origin:
        """The origin that jobs store which this request queues again. An admin's request leaves them to their owner."""
        return self.origin if self.owner is not None else replace(self.origin, api_key_id=None)
