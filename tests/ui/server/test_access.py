"""The access check: the middleware is called like a server calls it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from ui.server.access import Access, is_loopback
from ui.server.outside import AddressSettingError, Outside

TOKEN = "correct horse battery staple"


async def _inner(scope: Any, receive: Any, send: Any) -> None:
    """The app behind the check: answers on any path, accepts any websocket."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"inside"})


def call(
    address: str,
    path: str = "/",
    *,
    host: str = "127.0.0.1:8501",
    server: str = "127.0.0.1",
    method: str = "GET",
    query: str = "",
    body: bytes = b"",
    kind: str = "http",
    cookie: str = "",
    origin: str = "",
    extra: Mapping[str, str] | None = None,
    settings: Mapping[str, str] | None = None,
) -> tuple[int | str, dict[str, str], bytes]:
    """One request through the check; returns status (or the websocket's message type), headers, body."""
    given = {"host": host, "cookie": cookie, "origin": origin, **(extra or {})}
    scope = {
        "type": kind,
        "path": path,
        "query_string": query.encode(),
        "server": (server, 8501),
        "client": ("10.0.0.9", 50000),
        "method": method,
        "scheme": "http",
        "headers": [(k.encode(), v.encode()) for k, v in given.items() if v],
    }
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"} if kind == "websocket" else {"type": "http.request", "body": body}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(Access(_inner, address, TOKEN, Outside.from_environment(settings or {}))(scope, receive, send))
    if kind == "websocket":
        return sent[0]["type"], {}, b""
    headers = {k.decode(): v.decode() for k, v in sent[0]["headers"]}
    return sent[0]["status"], headers, b"".join(m.get("body", b"") for m in sent[1:])


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ui.server.access.WRONG_TOKEN_PAUSE_S", 0)


def signed_in() -> str:
    _, headers, _ = call("0.0.0.0", query=f"token={TOKEN.replace(' ', '+')}", host="box:8501", server="10.0.0.5")
    return headers["set-cookie"].partition(";")[0]


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "::1", "[::1]", "127.3.2.1", "LOCALHOST", "localhost."])
def test_loopback_names_are_recognised(name: str) -> None:
    assert is_loopback(name)


@pytest.mark.parametrize("name", ["", None, "0.0.0.0", "::", "10.0.0.5", "localhost.evil.org", "127.0.0.1.evil.org"])
def test_other_names_are_not_loopback(name: str | None) -> None:
    assert not is_loopback(name)


@pytest.mark.parametrize("host", ["127.0.0.1:8501", "localhost:8501", "[::1]:8501", "localhost"])
def test_loopback_server_is_open_to_loopback_hosts(host: str) -> None:
    assert call("127.0.0.1", "/api/runs/x/metrics", host=host)[2] == b"inside"
    assert call("localhost", kind="websocket", host=host)[0] == "websocket.accept"


@pytest.mark.parametrize("host", ["evil.org", "evil.org:8501", "localhost.evil.org", "", "["])
def test_loopback_server_refuses_foreign_host_names(host: str) -> None:
    assert call("127.0.0.1", host=host)[0] == 403
    assert call("127.0.0.1", kind="websocket", host=host)[0] == "websocket.close"


def test_foreign_origin_cannot_open_websocket_or_post() -> None:
    assert call("127.0.0.1", kind="websocket", origin="http://evil.org")[0] == "websocket.close"
    assert call("127.0.0.1", method="POST", origin="http://evil.org")[0] == 403
    assert call("127.0.0.1", kind="websocket", origin="http://127.0.0.1:8501")[0] == "websocket.accept"


@pytest.mark.parametrize("address", ["", "0.0.0.0", "10.0.0.5", "::"])
@pytest.mark.parametrize(
    "path", ["/", "/runs", "/api/runs/x/metrics", "/media/x.png", "/_stcore/host-config", "/static/x.js"]
)
def test_public_server_requires_the_token_on_every_path(address: str, path: str) -> None:
    status, headers, body = call(address, path, host="box:8501", server="10.0.0.5")
    assert status == 401 and b"inside" not in body and b"owner token" in body
    assert headers["cache-control"] == "no-store"
    assert (
        call(address, "/_stcore/stream", kind="websocket", host="box:8501", server="10.0.0.5")[0] == "websocket.close"
    )


def test_public_server_requires_the_token_from_localhost() -> None:
    assert call("0.0.0.0", host="localhost:8501")[0] == 401


def test_loopback_server_requires_the_token_on_another_interface() -> None:
    assert call("127.0.0.1", host="localhost:8501", server="10.0.0.5")[0] == 401


def test_health_path_is_open() -> None:
    assert call("0.0.0.0", "/_stcore/health", server="10.0.0.5")[2] == b"inside"


def test_token_in_url_is_exchanged_for_a_cookie_and_removed() -> None:
    query = f"run=abc&token={TOKEN.replace(' ', '+')}"
    status, headers, body = call("0.0.0.0", "/runs", query=query, host="box:8501", server="10.0.0.5")
    assert (status, headers["location"], body) == (303, "./runs?run=abc", b"")
    cookie = headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Lax" in cookie and TOKEN not in cookie
    cookie = cookie.partition(";")[0]
    assert call("0.0.0.0", "/runs", host="box:8501", server="10.0.0.5", cookie=cookie)[2] == b"inside"
    answer = call("0.0.0.0", kind="websocket", host="box:8501", server="10.0.0.5", cookie=cookie)[0]
    assert answer == "websocket.accept"


@pytest.mark.parametrize("query", ["token=wrong", "token=", "token=%FF", "TOKEN=" + TOKEN.replace(" ", "+")])
def test_wrong_token_is_refused(query: str) -> None:
    status, headers, body = call("0.0.0.0", query=query, server="10.0.0.5")
    assert status == 401 and "set-cookie" not in headers and b"inside" not in body


@pytest.mark.parametrize(
    "cookie", ["segmentarium-8501=wrong", "segmentarium-8501=" + TOKEN.replace(" ", "+"), "junk;;=", ""]
)
def test_wrong_cookie_is_refused(cookie: str) -> None:
    assert call("0.0.0.0", server="10.0.0.5", cookie=cookie)[0] == 401


def test_right_cookie_is_accepted() -> None:
    assert call("0.0.0.0", server="10.0.0.5", cookie=signed_in())[2] == b"inside"


def test_login_redirects_to_the_requested_page() -> None:
    body = f"token={TOKEN.replace(' ', '+')}&next=%2Fruns%3Frun%3Da".encode()
    status, headers, _ = call("0.0.0.0", "/login", method="POST", body=body, server="10.0.0.5")
    assert status == 303 and headers["location"] == "./runs?run=a" and "set-cookie" in headers
    status, headers, page = call("0.0.0.0", "/login", method="POST", body=b"token=no&next=/", server="10.0.0.5")
    assert status == 401 and "set-cookie" not in headers and b"not the token" in page


@pytest.mark.parametrize(
    "target", ["//evil.org", "https://evil.org", "/\\evil.org", "javascript:x", "/a\r\nx: y", "login", "", "//["]
)
def test_login_does_not_redirect_to_other_sites(target: str) -> None:
    from urllib.parse import urlencode

    body = urlencode({"token": TOKEN, "next": target}).encode()
    assert call("0.0.0.0", "/login", method="POST", body=body, server="10.0.0.5")[1]["location"] == "./"


def test_login_page_escapes_the_path() -> None:
    page = call("0.0.0.0", '/"><script>alert(1)</script>', server="10.0.0.5")[2]
    assert b"<script>" not in page


BEHIND_PROXY = {"SEGMENTARIUM_ORIGINS": "https://seg.example.org, http://box.local:8080"}


def test_server_set_up_for_a_proxy_requires_the_token_on_loopback_too() -> None:
    assert call("127.0.0.1", settings=BEHIND_PROXY)[0] == 401
    assert call("127.0.0.1", settings=BEHIND_PROXY, cookie=signed_in())[2] == b"inside"


@pytest.mark.parametrize(
    ("origin", "accepted"),
    [
        ("https://seg.example.org", True),
        ("https://SEG.example.org:443", True),
        ("http://box.local:8080", True),
        ("http://seg.example.org", False),
        ("https://box.local:8080", False),
        ("https://evil.seg.example.org", False),
        ("null", False),
        ("http://[", False),
    ],
)
def test_allowed_origins_may_differ_from_the_host_that_a_proxy_sends(origin: str, accepted: bool) -> None:
    request: dict[str, Any] = {"settings": BEHIND_PROXY, "origin": origin, "cookie": signed_in()}
    assert call("127.0.0.1", method="POST", **request)[0] == (200 if accepted else 403)
    answer = call("127.0.0.1", "/_stcore/stream", kind="websocket", **request)[0]
    assert answer == ("websocket.accept" if accepted else "websocket.close")


def test_streamlit_gets_a_websocket_with_the_host_of_its_origin() -> None:
    seen: list[Any] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        seen.extend(v for k, v in scope["headers"] if k == b"host")
        await send({"type": "websocket.accept"})

    asyncio.run(_websocket(Access(inner, "127.0.0.1", TOKEN, Outside.from_environment(BEHIND_PROXY))))
    assert seen == [b"seg.example.org"]


@pytest.mark.parametrize(("proxies", "accepted"), [("10.0.0.0/24", True), ("10.0.1.0/24, ::1", False)])
def test_host_and_scheme_of_a_trusted_proxy_are_believed(proxies: str, accepted: bool) -> None:
    request: dict[str, Any] = {
        "settings": {"SEGMENTARIUM_TRUSTED_PROXIES": proxies},
        "origin": "https://seg.example.org",
        "extra": {"x-forwarded-host": "seg.example.org", "x-forwarded-proto": "https"},
    }
    body = f"token={TOKEN.replace(' ', '+')}&next=runs".encode()
    status, headers, _ = call("127.0.0.1", "/login", method="POST", body=body, **request)
    assert status == (303 if accepted else 403)
    assert ("Secure" in headers.get("set-cookie", "")) is accepted


@pytest.mark.parametrize("name", ["x-forwarded-for", "x-forwarded-host", "forwarded", "x-real-ip"])
def test_open_server_is_not_open_to_a_proxy_that_it_is_not_set_up_for(name: str) -> None:
    status, _, body = call("127.0.0.1", extra={name: "203.0.113.7"})
    assert status == 403 and b"SEGMENTARIUM_ORIGINS" in body


def test_refusal_names_the_setting_that_lets_the_origin_in() -> None:
    extra = {"accept": "text/plain"}
    status, headers, body = call("127.0.0.1", method="POST", origin="https://seg.example.org", extra=extra)
    assert status == 403 and headers["content-type"].startswith("text/plain")
    assert b"SEGMENTARIUM_ORIGINS=https://seg.example.org" in body and b"127.0.0.1:8501" in body
    status, headers, body = call("0.0.0.0", method="POST", server="10.0.0.5", extra=extra)
    assert status == 401 and headers["content-type"].startswith("text/plain") and b"<" not in body


@pytest.mark.parametrize(
    "settings",
    [
        {"SEGMENTARIUM_ORIGINS": "seg.example.org"},
        {"SEGMENTARIUM_ORIGINS": "https://seg.example.org/prefix"},
        {"SEGMENTARIUM_ORIGINS": "https://seg.example.org:port"},
        {"SEGMENTARIUM_ORIGINS": "*"},
        {"SEGMENTARIUM_ORIGINS": "http://["},
        {"SEGMENTARIUM_TRUSTED_PROXIES": "proxy.example.org"},
        {"SEGMENTARIUM_TRUSTED_PROXIES": "10.0.0.0/40"},
    ],
)
def test_settings_that_cannot_be_understood_are_named(settings: dict[str, str]) -> None:
    with pytest.raises(AddressSettingError, match=r"SEGMENTARIUM_.*: expected .*, got "):
        Outside.from_environment(settings)


def test_login_and_health_work_below_a_path_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ui.server.access.base_path", lambda: "/seg")
    assert call("0.0.0.0", "/seg/_stcore/health", server="10.0.0.5")[2] == b"inside"
    page = call("0.0.0.0", "/seg/runs", server="10.0.0.5")[2]
    assert b'action="login"' in page and b'value="./runs"' in page
    body = f"token={TOKEN.replace(' ', '+')}&next=./runs".encode()
    status, headers, _ = call("0.0.0.0", "/seg/login", method="POST", body=body, server="10.0.0.5")
    assert (status, headers["location"]) == (303, "./runs") and "Path=/seg/" in headers["set-cookie"]


def test_responses_forbid_framing_by_other_sites() -> None:
    assert call("127.0.0.1")[1]["x-frame-options"] == "SAMEORIGIN"


def test_token_comes_from_the_environment_or_is_random(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGMENTARIUM_TOKEN", "given")
    assert Access(_inner).token == "given"
    monkeypatch.delenv("SEGMENTARIUM_TOKEN")
    made = {Access(_inner).token for _ in range(3)}
    assert len(made) == 3 and all(len(token) >= 32 for token in made)


def test_token_is_printed_only_by_a_public_server(capsys: pytest.CaptureFixture[str]) -> None:
    for address, printed in (("0.0.0.0", True), ("127.0.0.1", False)):
        asyncio.run(_lifespan(Access(_inner_lifespan, address, TOKEN)))
        assert (TOKEN in capsys.readouterr().out) is printed


async def _inner_lifespan(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "lifespan.startup.complete"})


async def _lifespan(app: Access) -> None:
    async def nothing(*_: Any) -> Any:
        return None

    await app({"type": "lifespan"}, nothing, nothing)


async def _websocket(app: Access) -> None:
    given = {"host": "127.0.0.1:8501", "origin": "https://seg.example.org", "cookie": f"segmentarium-8501={app._proof}"}
    headers = [(k.encode(), v.encode()) for k, v in given.items()]
    scope = {"type": "websocket", "path": "/_stcore/stream", "server": ("127.0.0.1", 8501), "headers": headers}

    async def nothing(*_: Any) -> Any:
        return None

    await app(scope, nothing, nothing)
