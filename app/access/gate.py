"""The gate: who makes a request, whether the key has the scope that the call needs, and whether its limits allow it."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from starlette.datastructures import Headers
from starlette.types import Scope

from darkroom.app.access.caller import Caller
from darkroom.app.access.limits import ATTEMPTS, REQUESTS, Limits, Use, Window
from darkroom.app.access.loopback import is_cross_site, is_local
from darkroom.app.access.revalidated import SourceAway
from darkroom.app.access.scopes import OPEN_ON_LOOPBACK, Scopes, needed, sufficient
from darkroom.app.access.too_many_requests import attempts_limit, key_limit
from darkroom.app.access.verifier import VerifiedKey, Verifier
from darkroom.app.http.problems import STORE_RETRY_SECONDS, Problem, retry_after
from darkroom.app.settings import Settings, is_loopback
from darkroom.store.key_repository import KeyLimits

CREATE_A_KEY = "darkroom keys create --name NAME --scopes generate"


@dataclass(frozen=True)
class Gate:
    """Lets a request in as a Caller, or raises Problem (401, 403, 429, 503).

    verifier: None without a database, where there are no keys. attempts: counts bad tokens, for this process alone, so
    that a flood of them costs neither PostgreSQL nor Redis anything. refused: told the reason of every refusal.
    """

    settings: Settings
    verifier: Verifier | None
    limits: Limits
    attempts: Limits
    refused: Callable[[str], None]

    async def admit(self, scope: Scope) -> Caller:
        """Who asks. scope: ASGI's."""
        headers = Headers(scope=scope)
        client = scope.get("client")
        nobody = Caller(None, scope.get("state", {}).get("request_id"), client[0] if client else None)
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        scopes = needed(scope["method"], path)
        if scopes is None:
            return nobody
        given = headers.get("authorization")
        if given is None:
            await self._require_open(scope, path, scopes)
            return nobody
        key = await self._verified(given, nobody.client_address or "")
        caller = replace(nobody, key=key)
        await self.charge(caller, REQUESTS, 1)
        self.require(caller, scopes)
        return caller

    def require(self, caller: Caller, scopes: Scopes, reason: str = "") -> None:
        """Raise Problem (403) when the caller's key has none of the scopes; who needs no key has them all.

        reason: what they are needed for, where that is not the call itself.
        """
        if caller.key is None or not caller.key.scopes.isdisjoint(sufficient(scopes)):
            return
        detail = f"the key {caller.key.name!r} has not the scope {' or '.join(sufficient(scopes))}{reason}"
        challenge = f'Bearer realm="darkroom", error="insufficient_scope", scope="{" ".join(scopes)}"'
        raise self._refusal(403, "scope-missing", detail, challenge)

    async def charge(self, caller: Caller, window: Window, cost: int) -> None:
        """Count what a key uses; raises Problem (429) and counts nothing when that is more than it may."""
        if caller.key is None:
            return
        use = await self.limits.take(caller.key.id, window, self._limit(caller.key, window), cost)
        caller.uses[window.name] = use
        if use.allowed:
            return
        self.refused(f"{window.name}_limit")
        raise key_limit(caller.key.name, use, cost, caller.uses.values())

    async def give_back(self, caller: Caller, window: Window, cost: int) -> None:
        """Undo `charge` of what was not done after all."""
        if caller.key is not None:
            limit = self._limit(caller.key, window)
            caller.uses[window.name] = await self.limits.take(caller.key.id, window, limit, -cost)

    def forget(self) -> None:
        """Look all keys up anew: some were changed here. For the event loop's thread, on which the caches are."""
        if self.verifier is not None:
            self.verifier.forget()

    async def close(self) -> None:
        """Close what it holds open."""
        await self.limits.close()
        if self.verifier is not None:
            self.verifier.close()

    def unfinished_jobs(self, key: VerifiedKey) -> int:
        """How many jobs a key may have queued or running."""
        own = key.limits.unfinished_jobs
        return self.settings.key_unfinished_jobs if own is None else own

    def _limit(self, key: VerifiedKey, window: Window) -> int:
        own: KeyLimits = key.limits
        if window is REQUESTS:
            return own.requests_per_minute or self.settings.key_requests_per_minute
        return self.settings.key_images_per_day if own.images_per_day is None else own.images_per_day

    async def _verified(self, authorization: str, address: str) -> VerifiedKey:
        kind, _, token = authorization.partition(" ")
        key, token = None, token.strip()
        if kind.lower() == "bearer" and self.verifier is not None:
            if not self.verifier.remembers(token):  # who had a good key before is not shut out by a neighbour
                self._require_few_attempts(await self._attempt(address, 0))
            try:
                key = await self.verifier.verify(token)
            except SourceAway as error:
                raise _store_away() from error
        if key is None:
            await self._attempt(address, 1)
            detail = "the Authorization header holds no key that is good: it is unknown, was revoked or has expired"
            raise self._refusal(401, "key-refused", detail, 'Bearer realm="darkroom", error="invalid_token"')
        return key

    async def _attempt(self, address: str, cost: int) -> Use:
        return await self.attempts.take(address, ATTEMPTS, self.settings.failed_keys_per_minute, cost)

    def _require_few_attempts(self, use: Use) -> None:
        if use.remaining > 0:
            return
        self.refused("attempts_limit")
        raise attempts_limit(use)

    async def _require_open(self, scope: Scope, path: str, scopes: Scopes) -> None:
        """Raise Problem unless the call needs no key: from this machine, where there are none."""
        challenge = 'Bearer realm="darkroom"'
        if self.settings.require_keys or not is_loopback(self.settings.host) or not is_local(scope):
            detail = f"send Authorization: Bearer KEY; `{CREATE_A_KEY}` makes one. Only a service that is reached at a "
            detail += "loopback address and under such a name is open, while it has no keys"
            raise self._refusal(401, "key-needed", detail, challenge)
        if is_cross_site(scope, self.settings.cors_origins):
            raise self._refusal(403, "cross-site", "a page of another origin may not use what is open to this machine")
        if path in OPEN_ON_LOOPBACK:
            return
        there_are = await self.verifier.keys_exist() if self.verifier is not None else False
        if there_are:
            detail = f"send Authorization: Bearer KEY; this service has keys (`{CREATE_A_KEY}` makes one)"
            raise self._refusal(401, "key-needed", detail, challenge)
        if there_are is None and "generate" not in scopes:
            raise _store_away()

    def _refusal(self, status: int, kind: str, detail: str, challenge: str | None = None) -> Problem:
        self.refused(kind.replace("-", "_"))
        return Problem(status, kind, detail, headers={"WWW-Authenticate": challenge} if challenge else None)


def _store_away() -> Problem:
    detail = "the database cannot be reached, and keys are looked up in it"
    return Problem(503, "store-unavailable", detail, headers=retry_after(STORE_RETRY_SECONDS))
