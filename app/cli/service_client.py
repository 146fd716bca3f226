"""What the commands that talk to a running service share: where it is, its refusals, its events, its absence."""

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
from darkroom.model.user_error import UserError

DEFAULT_URL = "http://127.0.0.1:8000"

NO_TIMEOUT_BETWEEN_EVENTS = httpx.Timeout(10.0, read=60.0)
"""The service sends a keepalive every 15 seconds."""

_PROXY_CURE = (
    "correct the proxy in the environment (http_proxy, https_proxy, all_proxy), or name the service's host in no_proxy"
)


class ServiceError(UserError):
    """What the service said instead of what was asked for, or why it cannot be asked.

    status: of its answer, 0 without one.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class ServerEvent:
    """A server-sent event. number: its id, None where it has none."""

    kind: str
    data: Any
    number: int | None


@dataclass(frozen=True)
class Address:
    """Where a service is. source: who says so, for messages. here: whether it is on this machine for certain."""

    url: str
    source: str
    here: bool


def find_service(url: str | None) -> Address:
    """The service at `url`, else at DARKROOM_URL, else the one that runs on the state folder, else at DEFAULT_URL.

    Raises ServiceError for what is not the URL of a service.
    """
    environment, running = os.environ.get("DARKROOM_URL"), service_address(DEFAULT_STATE)
    if url:
        found, source = url, "--url"
    elif environment:
        found, source = environment, "DARKROOM_URL"
    elif running:
        return Address(running, f"where the service of {DEFAULT_STATE} is", here=True)
    else:
        found, source = DEFAULT_URL, f"the default, as no service runs on {DEFAULT_STATE}"
    try:
        parts = httpx.URL(found)
    except httpx.InvalidURL as error:
        raise ServiceError(f"{found} ({source}) is not a URL: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.host:
        raise ServiceError(f"{found} ({source}) is not the URL of a service: write http://HOST:PORT")
    return Address(found.rstrip("/"), source, here=is_loopback(parts.host))


@contextmanager
def connect(url: str | None) -> Iterator[httpx.Client]:
    """A client of the service that `find_service` finds, with the key in DARKROOM_API_KEY where it is set.

    In the block, httpx.TransportError becomes ServiceError. There is no option for the key: everybody on the machine
    can read the arguments of a process.
    """
    key = os.environ.get("DARKROOM_API_KEY", "").strip()
    if not (key.isascii() and key.isprintable()):
        raise ServiceError("DARKROOM_API_KEY holds something that is no key")
    address = find_service(url)
    try:
        with _client(address, {"Authorization": f"Bearer {key}"} if key else {}) as client:
            yield client
    except httpx.ProxyError as error:
        raise ServiceError(f"the proxy does not lead to {address.url} ({error}); {_PROXY_CURE}") from error
    except httpx.TransportError as error:
        cure = "is the service running? `make up` starts it"
        if proxies := _proxies(address):
            cure = f"it was asked through the proxy in {' or '.join(proxies)}: {_PROXY_CURE}"
        raise ServiceError(f"no answer from {address.url} ({address.source}): {error}; {cure}") from error


def _client(address: Address, headers: Mapping[str, str]) -> httpx.Client:
    """Asks a service on this machine directly, since a proxy would see the key; others as the environment says."""
    try:
        return httpx.Client(
            base_url=address.url,
            timeout=NO_TIMEOUT_BETWEEN_EVENTS,
            headers=headers,
            trust_env=not address.here,
            verify=httpx.create_ssl_context(),  # which heeds SSL_CERT_FILE, whatever `trust_env` says
        )
    except ImportError as error:  # of socksio
        raise ServiceError(
            "a SOCKS proxy needs the package socksio: run `.venv/bin/python -m pip install 'httpx[socks]'` in "
            f"Darkroom's folder, or {_PROXY_CURE}"
        ) from error
    except OSError as error:
        raise ServiceError(f"the certificates of SSL_CERT_FILE or SSL_CERT_DIR cannot be read: {error}") from error
    except (ValueError, httpx.InvalidURL) as error:  # a scheme that no proxy has, a URL that is none
        named = " or ".join(_proxies(address)) or "the environment"
        raise ServiceError(f"the proxy in {named} cannot be used ({error}); {_PROXY_CURE}") from error


def _proxies(address: Address) -> list[str]:
    """The environment variables, as httpx reads them, that name a proxy for this service."""
    if address.here:
        return []
    given = getproxies()
    return [f"{kind}_proxy" for kind in (httpx.URL(address.url).scheme, "all") if given.get(kind)]


def require_success(response: httpx.Response) -> None:
    """Raise ServiceError with the service's own words unless the answer is what was asked for."""
    if response.is_success:
        return
    response.read()
    try:
        message = str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        if response.status_code == httpx.codes.PROXY_AUTHENTICATION_REQUIRED:
            raise ServiceError(f"the proxy asks for a name and a password; {_PROXY_CURE}") from None
        message = f"HTTP {response.status_code} from something that is not Darkroom"
    if response.status_code == httpx.codes.UNAUTHORIZED:
        message = (
            "the key in DARKROOM_API_KEY is not good: it is unknown, was revoked or has expired"
            if "Authorization" in response.request.headers
            else "the service asks for an API key: set DARKROOM_API_KEY to one"
        )
    raise ServiceError(message, response.status_code)


def json_body(fields: Mapping[str, Any]) -> dict[str, Any]:
    """httpx's arguments for a body of JSON; raises ServiceError for a number that JSON cannot hold."""
    try:
        content = json.dumps(fields, allow_nan=False)
    except ValueError as error:
        raise ServiceError("every number must be finite") from error
    return {"content": content, "headers": {"Content-Type": "application/json"}}


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
