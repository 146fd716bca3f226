"""Laws of local requests: both ends and the Host header are loopback, and no proxy and no foreign page is involved."""

from typing import Any

import pytest

from darkroom.app.access.loopback import is_cross_site, is_local

HERE: dict[str, Any] = {"client": ("127.0.0.1", 50000), "server": ("127.0.0.1", 8000)}


def asked(host: str | None = "127.0.0.1:8000", **changes: Any) -> dict[str, Any]:
    """Return an ASGI scope. An argument with an underscore in its name becomes a header."""
    headers = {name.strip("_").replace("_", "-"): value for name, value in changes.items() if "_" in name}
    if host is not None:
        headers["host"] = host
    rest = {name: value for name, value in changes.items() if "_" not in name}
    encoded = [(name.encode(), str(value).encode()) for name, value in headers.items()]
    return {"type": "http", "scheme": "http", "headers": encoded} | HERE | rest


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8000", "127.0.0.1", "localhost:8000", "LOCALHOST", "[::1]:8000", "127.9.9.9"]
)
def test_a_program_of_this_machine_is_local(host: str) -> None:
    assert is_local(asked(host))
    assert is_local(asked(host, client=("::1", 5), server=("::1", 6)))
    assert is_local(asked(host, client=("::ffff:127.0.0.1", 5)))


@pytest.mark.parametrize(
    "scope",
    [
        asked(client=("10.0.0.2", 5)),
        asked(server=("10.0.0.1", 8000)),
        asked(server=("/run/darkroom.sock", None)),
        asked(client=None),
        asked(server=None),
        asked("evil.example:8000"),
        asked("localhost.evil.example"),
        asked("127.0.0.1.evil.example"),
        asked("user@127.0.0.1@evil.example"),
        asked("[::1"),
        asked(""),
        asked(None),
    ],
)
def test_everything_else_is_not(scope: dict[str, Any]) -> None:
    assert not is_local(scope)


PROXIES = [
    "Forwarded",
    "Via",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Forwarded-Port",
    "X-Forwarded-Prefix",
    "X-Forwarded-Server",
    "X-Forwarded-Client-Cert",
    "X-Forwarded",
    "X-Forwarded-By-Something-New",
    "X-Forward-For",
    "X-Real-IP",
    "X-Original-Host",
    "X-Original-Forwarded-For",
    "X-Original-URL",
    "X-ProxyUser-Ip",
    "Proxy-Connection",
    "X-Scheme",
    "X-Url-Scheme",
    "X-Host",
    "Front-End-Https",
    "X-Client-IP",
    "X-Cluster-Client-IP",
    "True-Client-IP",
    "Client-IP",
    "X-Remote-Addr",
    "X-Originating-IP",
    "X-Source-IP",
    "CF-Connecting-IP",
    "CF-Ray",
    "CF-Visitor",
    "CF-IPCountry",
    "CDN-Loop",
    "Fly-Client-IP",
    "Fly-Request-Id",
    "Fastly-Client-IP",
    "Fastly-SSL",
    "X-Amzn-Trace-Id",
    "X-Amz-Cf-Id",
    "CloudFront-Viewer-Address",
    "X-Cloud-Trace-Context",
    "X-Goog-Authenticated-User-Email",
    "X-Azure-ClientIP",
    "X-Azure-Ref",
    "X-FD-HealthProbe",
    "X-ARR-SSL",
    "X-AppEngine-Country",
    "X-Envoy-External-Address",
    "X-Envoy-Expected-Rq-Timeout-Ms",
    "X-Vercel-Id",
    "X-NF-Client-Connection-IP",
    "Akamai-Origin-Hop",
    "X-Akamai-Edgescape",
    "Incap-Client-IP",
    "X-Sucuri-ClientIP",
    "X-Varnish",
    "X-Request-Start",
    "Tailscale-User-Login",
    "ngrok-skip-browser-warning",
    "WL-Proxy-Client-IP",
    "X-SSL-Client-Verify",
    "X-BlueCoat-Via",
]
PROGRAMS = [
    "Accept",
    "Accept-Encoding",
    "Accept-Language",
    "Authorization",
    "Cache-Control",
    "Connection",
    "Content-Encoding",
    "Content-Length",
    "Content-Type",
    "Cookie",
    "DNT",
    "Expect",
    "Idempotency-Key",
    "If-Match",
    "If-None-Match",
    "Keep-Alive",
    "Last-Event-ID",
    "Pragma",
    "Priority",
    "Range",
    "Referer",
    "Sec-CH-UA",
    "Sec-Fetch-Dest",
    "Sec-Fetch-Mode",
    "TE",
    "Traceparent",
    "Tracestate",
    "Transfer-Encoding",
    "Upgrade-Insecure-Requests",
    "User-Agent",
    "X-Request-ID",
    "X-Requested-With",
    "X-CSRF-Token",
    "Baggage",
]


@pytest.mark.parametrize("name", PROXIES)
def test_any_header_of_a_proxy_ends_the_local_access(name: str) -> None:
    assert not is_local(asked() | {"headers": [*asked()["headers"], (name.lower().encode(), b"127.0.0.1")]})


@pytest.mark.parametrize("name", PROGRAMS)
def test_headers_of_browsers_and_programs_do_not(name: str) -> None:
    assert is_local(asked() | {"headers": [*asked()["headers"], (name.lower().encode(), b"x")]})


@pytest.mark.parametrize(
    ("scope", "foreign"),
    [
        (asked(), False),
        (asked(sec_fetch_site="none"), False),
        (asked(sec_fetch_site="same-origin"), False),
        (asked(origin_="http://127.0.0.1:8000", sec_fetch_site="same-origin"), False),
        (asked(origin_="https://lab.example"), False),
        (asked(sec_fetch_site="cross-site"), True),
        (asked(sec_fetch_site="same-site"), True),
        (asked(origin_="http://127.0.0.1:9000"), True),
        (asked(origin_="http://localhost:8000"), True),
        (asked(origin_="https://127.0.0.1:8000"), True),
        (asked(origin_="https://evil.example"), True),
        (asked(origin_="null"), True),
    ],
)
def test_a_page_of_another_origin_is_recognised_by_its_headers(scope: dict[str, Any], foreign: bool) -> None:
    assert is_cross_site(scope, ["https://lab.example"]) is foreign
