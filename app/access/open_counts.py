"""Counts what callers hold open at once, so that nobody takes all places. The counts are this process's own."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from darkroom.app.access.caller import Caller
from darkroom.app.access.limits import client_network
from darkroom.app.access.too_many_requests import held_open
from darkroom.app.settings import is_loopback


class OpenCounts:
    """Counts one kind of thing by caller: by its key or, without one, by its address. Use it on the event loop.

    kind: names the problem and, in words, what is counted. most: for each caller. Callers on this machine that need no
    key have no limit.
    """

    def __init__(self, kind: str, most: int) -> None:
        self._kind = kind
        self._most = most
        self._held: Counter[int | str] = Counter()

    @contextmanager
    def hold(self, caller: Caller) -> Iterator[None]:
        """Count one more during the block. Raises Problem (429) when the caller holds the most."""
        address = caller.client_address or ""
        if caller.key_id is None and is_loopback(address):
            yield
            return
        who = client_network(address) if caller.key_id is None else caller.key_id
        if self._held[who] >= self._most:
            raise held_open(self._kind, self._most)
        self._held[who] += 1
        try:
            yield
        finally:
            self._held[who] -= 1
            if not self._held[who]:
                del self._held[who]
