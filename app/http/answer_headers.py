"""Headers that a middleware adds to every answer."""

from collections.abc import Callable

from starlette.datastructures import MutableHeaders
from starlette.types import Message, Send


def with_headers(send: Send, add: Callable[[MutableHeaders], None]) -> Send:
    """Return an ASGI `send` that calls `add` with the answer's headers before it sends them."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            add(MutableHeaders(scope=message))
        await send(message)

    return sending
