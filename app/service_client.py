"""What the commands that talk to a running service share: its refusals, its events, its absence."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
from rich.console import Console

from app.terminal import print_error

NO_TIMEOUT_BETWEEN_EVENTS = httpx.Timeout(10.0, read=60.0)
"""The service sends a keepalive every 15 seconds."""


class ServiceError(Exception):
    """What the service said instead of what was asked for. status: of its answer, 0 in the middle of a stream."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class ServerEvent:
    """A server-sent event. number: its id, None where it has none."""

    kind: str
    data: Any
    number: int | None


def connect(url: str) -> httpx.Client:
    """A client of the service at `url`, with the key in DARKROOM_API_KEY where it is set; raises httpx.InvalidURL, and
    ServiceError for a key that cannot be sent.

    There is no option for the key: everybody on the machine can read the arguments of a process.
    """
    key = os.environ.get("DARKROOM_API_KEY", "").strip()
    if not (key.isascii() and key.isprintable()):
        raise ServiceError("DARKROOM_API_KEY holds something that is no key")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx.Client(base_url=url.rstrip("/"), timeout=NO_TIMEOUT_BETWEEN_EVENTS, headers=headers)


def require_success(response: httpx.Response) -> None:
    """Raise ServiceError with the service's own words unless the answer is what was asked for."""
    if response.is_success:
        return
    response.read()
    try:
        message = str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        message = f"HTTP {response.status_code} from something that is not Darkroom"
    raise ServiceError(message, response.status_code)


def ask(client: httpx.Client, method: str, path: str, **options: Any) -> Any:
    """The JSON of an answer; raises ServiceError and httpx's errors."""
    response = client.request(method, path, **options)
    require_success(response)
    try:
        return response.json()
    except ValueError as error:
        raise ServiceError("an answer from something that is not Darkroom", response.status_code) from error


def events(response: httpx.Response) -> Iterator[ServerEvent]:
    """The events of a stream."""
    kind, number = "", None
    for line in response.iter_lines():
        name, _, value = line.partition(": ")
        if name == "event":
            kind = value
        elif name == "id":
            number = int(value)
        elif name == "data":
            yield ServerEvent(kind, json.loads(value), number)
        elif not line:
            kind, number = "", None


def exit_code_of(action: Callable[[], int], url: str, console: Console) -> int:
    """The action's exit code; 1 after one clear line when the service refused or is not there."""
    try:
        return action()
    except ServiceError as error:
        print_error(console, str(error))
    except httpx.TransportError as error:
        print_error(console, f"no answer from {url} ({error}); is the service running? `make up` starts it")
    except httpx.InvalidURL as error:
        print_error(console, f"{url} is not a URL: {error}")
    return 1
