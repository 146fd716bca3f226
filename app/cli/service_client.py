"""The HTTP client of the commands: finds the running service, asks it, reads its events, and explains its errors."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.request import getproxies

import httpx

from darkroom.app.cli.keys import DEFAULT_STATE
from darkroom.app.settings import is_loopback
from darkroom.model.machine.folder_lock import service_address
from darkroom.model.progress import OnProgress
from darkroom.model.user_error import UserError

DEFAULT_URL = "http://127.0.0.1:8000"

NO_TIMEOUT_BETWEEN_EVENTS = httpx.Timeout(10.0, read=60.0)
"""The service sends a keepalive every 15 seconds."""

_UNREACHED = (httpx.codes.BAD_GATEWAY, httpx.codes.SERVICE_UNAVAILABLE, httpx.codes.GATEWAY_TIMEOUT)

_PROXY_ADVICE = (
    "correct the proxy in the environment (http_proxy, https_proxy, all_proxy), or name the service's host in no_proxy"
)


class ServiceError(UserError):
    """The service refused a request, or cannot be reached; the message says why.

    status: the answer's HTTP status, 0 without an answer. unreached: a proxy answered, and does not reach the service.
    kind: the problem's, such as "queue-full". retry_after: seconds, None if the answer does not ask for another try.
    """

    def __init__(
        self,
        message: str,
        status: int = 0,
        *,
        unreached: bool = False,
        kind: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.unreached = unreached
        self.kind = kind
        self.retry_after = retry_after


@dataclass(frozen=True)
class ServerEvent:
    """A server-sent event. number: its id, None without one."""

    kind: str
    data: Any
    number: int | None


@dataclass(frozen=True)
class Address:
    """Where a service is. source: where the URL comes from, for messages. is_local: it is certainly on this machine."""

    url: str
    source: str
    is_local: bool


def find_service(url: str | None) -> Address:
    """Find the service: `url`, else DARKROOM_URL, else the one that runs on the state folder, else DEFAULT_URL.

    Raises ServiceError when the URL cannot be the URL of a service.
    """
    environment, running = os.environ.get("DARKROOM_URL"), service_address(DEFAULT_STATE)
    if url:
        found, source = url, "--url"
    elif environment:
        found, source = environment, "DARKROOM_URL"
    elif running:
        return Address(running, f"where the service of {DEFAULT_STATE} is", is_local=True)
    else:
        found, source = DEFAULT_URL, f"the default, as no service runs on {DEFAULT_STATE}"
    try:
        parts = httpx.URL(found)
    except httpx.InvalidURL as error:
        raise ServiceError(f"{found} ({source}) is not a URL: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.host:
        raise ServiceError(f"{found} ({source}) is not the URL of a service; write http://HOST:PORT")
    return Address(found.rstrip("/"), source, is_local=is_loopback(parts.host))


@contextmanager
def connect(url: str | None) -> Iterator[httpx.Client]:
    """Yield a client of the service that `find_service` finds. It sends the key in DARKROOM_API_KEY, if that is set.

    In the block, httpx.TransportError becomes ServiceError. There is no option for the key, because every user of the
    machine can read the arguments of a process.
    """
    key = os.environ.get("DARKROOM_API_KEY", "").strip()
    if not (key.isascii() and key.isprintable()):
        raise ServiceError("DARKROOM_API_KEY does not hold an API key: set it to one, or unset it")
    address = find_service(url)
    try:
        with _client(address, {"Authorization": f"Bearer {key}"} if key else {}) as client:
            yield client
    except httpx.ProxyError as error:
        raise ServiceError(f"the proxy did not connect to {address.url} ({error}); {_PROXY_ADVICE}") from error
    except httpx.TransportError as error:
        advice = "is the service running? `make up` starts it"
        if proxies := _proxies(address):
            advice = f"the request went through the proxy in {' or '.join(proxies)}: {_PROXY_ADVICE}"
        raise ServiceError(f"no answer from {address.url} ({address.source}): {error}; {advice}") from error


def _client(address: Address, headers: Mapping[str, str]) -> httpx.Client:
    """Return a client that uses the environment's proxies, but none for this machine: a proxy would see the key."""
    try:
        return httpx.Client(
            base_url=address.url,
            timeout=NO_TIMEOUT_BETWEEN_EVENTS,
            headers=headers,
            trust_env=not address.is_local,
            verify=httpx.create_ssl_context(),  # uses SSL_CERT_FILE even without `trust_env`
        )
    except ImportError as error:  # socksio is missing
        raise ServiceError(
            "a SOCKS proxy needs the package socksio: run `.venv/bin/python -m pip install 'httpx[socks]'` in "
            f"Darkroom's folder, or {_PROXY_ADVICE}"
        ) from error
    except OSError as error:
        raise ServiceError(f"the certificates of SSL_CERT_FILE or SSL_CERT_DIR cannot be read: {error}") from error
    except (ValueError, httpx.InvalidURL) as error:  # the proxy's URL or its scheme is wrong
        named = " or ".join(_proxies(address)) or "the environment"
        raise ServiceError(f"the proxy in {named} cannot be used ({error}); {_PROXY_ADVICE}") from error


def _proxies(address: Address) -> list[str]:
    """Return the environment variables from which httpx takes a proxy for this service."""
    if address.is_local:
        return []
    given = getproxies()
    return [f"{kind}_proxy" for kind in (httpx.URL(address.url).scheme, "all") if given.get(kind)]


def require_success(response: httpx.Response) -> None:
    """Raise ServiceError, with the service's message, unless the answer's status is a success."""
    if response.is_success:
        return
    response.read()
    unreached, kind = False, None
    try:
        problem = response.json()
        message = _explained(problem)
        kind = str(problem.get("type")).rpartition("#")[2]
    except (ValueError, KeyError, TypeError):
        unreached = response.status_code in _UNREACHED
        if response.status_code == httpx.codes.PROXY_AUTHENTICATION_REQUIRED:
            raise ServiceError(f"the proxy asks for a name and a password; {_PROXY_ADVICE}") from None
        message = f"HTTP {response.status_code} from something that is not Darkroom"
    if response.status_code == httpx.codes.UNAUTHORIZED:
        message = (
            "the key in DARKROOM_API_KEY is unknown, was revoked or has expired; set it to a valid key"
            if "Authorization" in response.request.headers
            else "the service needs an API key: set DARKROOM_API_KEY to one"
        )
    seconds = response.headers.get("Retry-After", "")
    retry_after = float(seconds) if seconds.isdecimal() else None
    raise ServiceError(message, response.status_code, unreached=unreached, kind=kind, retry_after=retry_after)


def _explained(problem: Mapping[str, Any]) -> str:
    message = str(problem["detail"])
    unnamed = [one for one in problem.get("damaged_pictures") or () if one not in message]
    return f"{message}. Also: {'; '.join(unnamed)}" if unnamed else message


def json_body(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return httpx's arguments for a JSON body. Raises ServiceError when a number is not finite."""
    try:
        content = json.dumps(fields, allow_nan=False)
    except ValueError as error:
        raise ServiceError("a number in the request is not finite; JSON holds finite numbers only") from error
    return {"content": content, "headers": {"Content-Type": "application/json"}}


def ask(client: httpx.Client, method: str, path: str, **options: Any) -> Any:
    """Send a request and return the answer's JSON, None for an empty answer. Raises ServiceError and httpx's errors."""
    response = client.request(method, path, **options)
    require_success(response)
    if response.status_code == httpx.codes.NO_CONTENT:
        return None
    try:
        return response.json()
    except ValueError as error:
        raise ServiceError("the answer is not from Darkroom: it is not JSON", response.status_code) from error


def ask_with_events(
    client: httpx.Client, method: str, path: str, on_progress: OnProgress, headers: Mapping[str, str], **options: Any
) -> Any:
    """Like `ask`, for work that takes long: the service sends events, and on_progress gets what they say."""
    headers = {"Accept": "text/event-stream", **headers}
    with client.stream(method, path, headers=headers, **options) as response:
        require_success(response)
        for event in events(response):
            if event.kind == "progress":
                on_progress(event.data["what"], event.data["done"], event.data["total"])
            elif event.kind == "done":
                return event.data
            elif event.kind == "error":
                raise ServiceError(_explained(event.data), event.data["status"])
    raise ServiceError("the service closed the connection before the answer was complete; try again")


def events(response: httpx.Response) -> Iterator[ServerEvent]:
    """Yield the events of an event stream."""
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
