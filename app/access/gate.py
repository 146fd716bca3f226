"""The gate: verifies the key of each request, its scopes and its limits."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from starlette.datastructures import Headers
from starlette.types import Scope

from darkroom.app.access.caller import Caller
from darkroom.app.access.limits import ATTEMPTS, NETWORK_ROWS, REQUESTS, Limits, Use, Window, client_network
from darkroom.app.access.loopback import is_cross_site, is_local
from darkroom.app.access.scopes import OPEN_ON_LOOPBACK, Scopes, needed, sufficient
from darkroom.app.access.stale_if_error_cache import SourceAway
from darkroom.app.access.too_many_requests import attempts_limit, key_limit
from darkroom.app.access.verifier import VerifiedKey, Verifier
from darkroom.app.http.problems import STORE_RETRY_SECONDS, Problem, retry_after
from darkroom.app.settings import Settings, is_loopback
from darkroom.store.key_repository import KeyLimits

CREATE_A_KEY = "darkroom keys create --name NAME --scopes generate"


@dataclass(frozen=True)
class Gate:
    """Admits a request and returns its Caller, or raises Problem (401, 403, 429, 503).

    verifier: None without a database, and then there are no keys. attempts: counts invalid tokens.
    It counts in this process alone, so that a flood of them puts no load on PostgreSQL and Redis.
    count_refusal: called with the reason of every refusal.
    """

    settings: Settings
    verifier: Verifier | None
    limits: Limits
    attempts: Limits
    count_refusal: Callable[[str], None]

    async def admit(self, scope: Scope) -> Caller:
        """Return the request's caller. scope: the request's ASGI scope."""
        headers = Headers(scope=scope)
        client = scope.get("client")
        anonymous = Caller(None, scope.get("state", {}).get("request_id"), client[0] if client else None)
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        scopes = needed(scope["method"], path)
        if scopes is None:
            return anonymous
        given = headers.get("authorization")
        if given is None:
            await self._require_open(scope, path, scopes)
            return anonymous
        key = await self._verified(given, anonymous.client_address or "")
        caller = replace(anonymous, key=key)
        await self.charge(caller, {REQUESTS: 1})
        self.require(caller, scopes)
        return caller

    def require(self, caller: Caller, scopes: Scopes, reason: str = "") -> None:
        """Raise Problem (403) when the caller's key has none of the scopes. A caller without a key has all scopes.

        reason: for the message, when something else than the call itself needs the scope.
        """
        if caller.key is None or not caller.key.scopes.isdisjoint(sufficient(scopes)):
            return
        detail = f"the key {caller.key.name!r} does not have the scope {' or '.join(sufficient(scopes))}{reason}"
        challenge = f'Bearer realm="darkroom", error="insufficient_scope", scope="{" ".join(scopes)}"'
        raise self._refusal(403, "scope-missing", detail, challenge)

    async def charge(self, caller: Caller, costs: Mapping[Window, int]) -> None:
        """Count the cost of each window for the caller's key.

        Raises Problem (429, or 403 if the cost alone is above a limit), and counts nothing, above a limit.
        """
        if caller.key is None:
            return
        counted: dict[Window, int] = {}
        for window, cost in costs.items():
            use = await self.limits.take(caller.key.id, window, self._limit(caller.key, window), cost)
            caller.uses[window.name] = use
            if not use.allowed:
                await self.give_back(caller, counted)
                self.count_refusal(f"{window.name.replace('-', '_')}_limit")
                raise key_limit(caller.key.name, use, cost, caller.uses.values())
            counted[window] = cost

    async def give_back(self, caller: Caller, costs: Mapping[Window, int]) -> None:
        """Undo `charge`, when the work was not done."""
        if caller.key is None:
            return
        for window, cost in costs.items():
            limit = self._limit(caller.key, window)
            caller.uses[window.name] = await self.limits.take(caller.key.id, window, limit, -cost)

    def require_right(self, caller: Caller, *, priority: int, devices: int = 1) -> None:
        """Raise Problem (403) when the caller's key may not give a job this priority, or so many devices."""
        if caller.key is None or "admin" in caller.key.scopes:
            return
        own = caller.key.limits
        asked = {
            "priority": (priority, self.settings.key_priority if own.priority is None else own.priority),
            "devices": (devices, self.settings.key_devices if own.devices is None else own.devices),
        }
        for name, (wanted, most) in asked.items():
            if wanted > most:
                detail = (
                    f"the key {caller.key.name!r} may use {name} up to {most}, not {wanted}: ask for less, or for a "
                )
                detail += f"key with a higher limit (`darkroom keys change KEY --{name} {wanted}`) or the scope admin"
                raise self._refusal(403, f"{name}-limit", detail)

    def forget(self) -> None:
        """Forget all cached keys, because this process changed one. Call this in the event loop's thread."""
        if self.verifier is not None:
            self.verifier.forget()

    async def close(self) -> None:
        """Close connections and threads."""
        await self.limits.close()
        if self.verifier is not None:
            self.verifier.close()

    def unfinished_jobs(self, key: VerifiedKey) -> int:
        """Return how many jobs of the key may be queued or running at the same time."""
        own = key.limits.unfinished_jobs
        return self.settings.key_unfinished_jobs if own is None else own

    def _limit(self, key: VerifiedKey, window: Window) -> int:
        own: KeyLimits = key.limits
        if window is REQUESTS:
            return own.requests_per_minute or self.settings.key_requests_per_minute
        if window is NETWORK_ROWS:
            rows = own.network_rows_per_day
            return self.settings.key_network_rows_per_day if rows is None else rows
        return self.settings.key_images_per_day if own.images_per_day is None else own.images_per_day

    async def _verified(self, authorization: str, address: str) -> VerifiedKey:
        kind, _, token = authorization.partition(" ")
        key, token = None, token.strip()
        if kind.lower() == "bearer" and self.verifier is not None:
            # invalid tokens from the same address must not lock out a key that was valid before
            known = self.verifier.remembers(token)
            if not known:  # counted before the look-up, so that many at once do not all pass
                self._require_few_attempts(await self._attempt(address, 1))
            try:
                key = await self.verifier.verify(token)
            except SourceAway as error:
                await self._attempt(address, 0 if known else -1)
                raise _store_away() from error
            if key is not None and not known:
                await self._attempt(address, -1)
        if key is None:
            detail = "the key in the Authorization header is unknown, was revoked or has expired; use a valid key"
            raise self._refusal(401, "key-refused", detail, 'Bearer realm="darkroom", error="invalid_token"')
        return key

    async def _attempt(self, address: str, cost: int) -> Use:
        return await self.attempts.take(client_network(address), ATTEMPTS, self.settings.failed_keys_per_minute, cost)

    def _require_few_attempts(self, use: Use) -> None:
        if use.allowed:
            return
        self.count_refusal("attempts_limit")
        raise attempts_limit(use)

    async def _require_open(self, scope: Scope, path: str, scopes: Scopes) -> None:
        """Raise Problem unless the call needs no key: it comes from this machine, and the service has no keys."""
        challenge = 'Bearer realm="darkroom"'
        if self.settings.require_keys or not is_loopback(self.settings.host) or not is_local(scope):
            detail = f"send Authorization: Bearer KEY; `{CREATE_A_KEY}` creates a key. Requests need no key only when "
            detail += "the service never had one, and client, server and host name are all loopback, without a proxy"
            raise self._refusal(401, "key-needed", detail, challenge)
        if is_cross_site(scope, self.settings.cors_origins):
            detail = "a page of another origin needs a key; send one, or add the origin to DARKROOM_CORS_ORIGINS"
            raise self._refusal(403, "cross-site", detail)
        if path in OPEN_ON_LOOPBACK:
            return
        closed = await self.verifier.closed_by_keys() if self.verifier is not None else False
        if closed:
            detail = f"send Authorization: Bearer KEY; the service has keys, or had some (`{CREATE_A_KEY}` creates one)"
            raise self._refusal(401, "key-needed", detail, challenge)
        if closed is None and "generate" not in scopes:
            raise _store_away()

    def _refusal(self, status: int, kind: str, detail: str, challenge: str | None = None) -> Problem:
        self.count_refusal(kind.replace("-", "_"))
        return Problem(status, kind, detail, headers={"WWW-Authenticate": challenge} if challenge else None)


def _store_away() -> Problem:
    detail = "the key cannot be verified, because the database cannot be reached; try again later"
    return Problem(503, "store-unavailable", detail, headers=retry_after(STORE_RETRY_SECONDS))
