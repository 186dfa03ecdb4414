"""Access check: one ASGI middleware in front of pages, routes and the websocket.

A server bound to a loopback address is open to all users of its machine; the ``Host`` header must be a loopback name
too, which prevents DNS rebinding by web pages elsewhere, and no proxy may stand in between. A server bound to any
other address, or set up for a proxy (:mod:`ui.server.outside`), requires the owner token, which is printed at start
(or set by ``SEGMENTARIUM_TOKEN``). ``?token=...`` in any URL, or the login page, exchanges the token for a cookie.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import os
import secrets
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import streamlit as st
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ui.server.outside import Outside, came_through_proxy, header_values, split_address, with_host
from ui.server.refusals import LOGIN, ONLY_LOCAL, TOKEN_MISSING, Refusal, login_page, other_origin
from ui.shared.addresses import base_path

TOKEN_VARIABLE = "SEGMENTARIUM_TOKEN"
OPEN_PATHS = frozenset({"/_stcore/health"})  # the response is "ok"
MAX_LOGIN_BYTES = 4096
WRONG_TOKEN_PAUSE_S = 0.5
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


def is_loopback(host: str | None) -> bool:
    """Whether a host name or address, without port, is a loopback name or address; brackets are allowed."""
    name = (host or "").strip().strip("[]").rstrip(".").lower()
    if name in LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


class Access:
    """The access check.

    Parameters
    ----------
    app : ASGI application. The application behind the check.
    address : str, optional. Address the server is bound to; by default Streamlit's ``server.address``.
    token : str, optional. Owner token; by default ``SEGMENTARIUM_TOKEN``, else a random one.
    outside : Outside, optional. How the server is reached from outside; by default without a proxy.
    """

    def __init__(
        self, app: ASGIApp, address: str | None = None, token: str | None = None, outside: Outside | None = None
    ) -> None:
        self.app = app
        self._address = address
        self.token = token or os.environ.get(TOKEN_VARIABLE) or secrets.token_urlsafe(24)
        self._outside = outside or Outside()

    @property
    def address(self) -> str:
        """The address the server is bound to; empty for all interfaces."""
        return self._address if self._address is not None else (st.get_option("server.address") or "")

    @property
    def _proof(self) -> str:
        """The value of the cookie: derived from the token, which it does not reveal."""
        return hmac.new(self.token.encode(), b"segmentarium owner", hashlib.sha256).hexdigest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            if not is_loopback(self.address) or self._outside.expects_proxy:
                self._announce()
            await self.app(scope, receive, send)
            return
        if scope["type"] not in ("http", "websocket"):
            return
        scope = self._outside.as_sent(scope)
        headers = header_values(scope)
        send = _hardened(send)
        origin, host = headers.get("origin"), headers.get("host", "")
        if scope["path"].removeprefix(base_path()) in OPEN_PATHS:
            await self.app(scope, receive, send)
        elif origin is not None and _is_guarded(scope) and not self._outside.is_own_origin(origin, host):
            await _refuse(scope, receive, send, other_origin(origin, host))
        elif self._is_open(scope):
            sent_to = split_address(f"//{host}")
            if sent_to is not None and is_loopback(sent_to.hostname) and not came_through_proxy(headers):
                await self.app(scope, receive, send)
            else:
                await _refuse(scope, receive, send, ONLY_LOCAL)
        elif _same(_cookie(headers, self._cookie_name(scope)), self._proof):
            if origin is not None and _is_guarded(scope):  # Streamlit compares origin and host again
                scope = with_host(scope, urlsplit(origin).netloc)
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket" or not _takes_pages(headers):
            await _refuse(scope, receive, send, TOKEN_MISSING)
        else:
            await self._ask_for_token(scope, receive, send)

    def _is_open(self, scope: Scope) -> bool:
        """Whether the configured address and that of the socket are loopback addresses, and no proxy is expected."""
        socket_address = (scope.get("server") or ("",))[0]
        return is_loopback(self.address) and is_loopback(socket_address) and not self._outside.expects_proxy

    def _cookie_name(self, scope: Scope) -> str:
        return f"segmentarium-{(scope.get('server') or ('', 0))[1]}"

    async def _ask_for_token(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Exchange a right token for the cookie, or show the login page."""
        query = parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
        given = dict(query).get("token")
        target = scope["path"] + ("?" + rest if (rest := urlencode([q for q in query if q[0] != "token"])) else "")
        message = ""
        if scope["path"].endswith(f"/{LOGIN}"):
            target = ""
            if scope["method"] == "POST":
                form = parse_qs((await _body(receive)).decode("utf-8", "replace"))
                given, target = form.get("token", [""])[0].strip(), form.get("next", [""])[0]
        if given is not None:
            if _same(given, self.token):
                secure = "; Secure" if scope.get("scheme") == "https" else ""
                attributes = f"; Path={base_path()}/; HttpOnly; SameSite=Lax{secure}"
                cookie = f"{self._cookie_name(scope)}={self._proof}{attributes}"
                await _reply(send, 303, b"", {"set-cookie": cookie, "location": _local(target)})
                return
            await asyncio.sleep(WRONG_TOKEN_PAUSE_S)
            message = "That is not the token of this server."
        await _reply(send, 401, login_page(_local(target), message), {})

    def _announce(self) -> None:
        port = st.get_option("server.port")
        host = self.address if self.address not in ("", "0.0.0.0", "::") else "<this machine>"
        origins = self._outside.origins or (f"http://{host}:{port}",)
        addresses = "\n  ".join(f"{origin}{base_path()}/?token={self.token}" for origin in origins)
        print(
            f"\n  Segmentarium can be reached from other machines and requires its owner token:\n  {addresses}\n",
            flush=True,
        )


def _is_guarded(scope: Scope) -> bool:
    """Whether the origin of a request matters: websockets and changing requests."""
    return scope["type"] != "http" or scope["method"] not in ("GET", "HEAD", "OPTIONS")


def _takes_pages(headers: Mapping[str, str]) -> bool:
    """Whether a request takes a page as answer, as all requests of browsers for pages do; scripts ask for text."""
    return headers.get("accept") != "text/plain"


def _same(given: str | None, expected: str) -> bool:
    return given is not None and hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode())


def _cookie(headers: Mapping[str, str], name: str) -> str | None:
    try:
        cookie = SimpleCookie(headers.get("cookie", "")).get(name)
    except CookieError:
        return None
    return cookie.value if cookie else None


def _local(target: str) -> str:
    """A page beside the requested one, as relative address, so that it holds behind any path prefix; the start page for
    any other target: prevents open redirects and header injection."""
    parts = split_address(target.replace("\\", "/"))
    if parts is None:
        return "./"
    name = parts.path.rpartition("/")[2]
    bad = parts.scheme or parts.netloc or parts.path.startswith("//") or not target.isprintable() or name == LOGIN
    return "./" if bad else f"./{name}" + (f"?{parts.query}" if parts.query else "")


async def _body(receive: Receive) -> bytes:
    data = b""
    while len(data) <= MAX_LOGIN_BYTES:
        message = await receive()
        if message["type"] != "http.request":
            break
        data += message.get("body", b"")
        if not message.get("more_body"):
            break
    return data[:MAX_LOGIN_BYTES]


def _hardened(send: Send) -> Send:
    """Add headers that prevent other sites from framing the app and from receiving its URLs as referrer."""
    extra = [(b"x-frame-options", b"SAMEORIGIN"), (b"referrer-policy", b"same-origin")]

    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", []), *extra]}
        await send(message)

    return with_headers


async def _refuse(scope: Scope, receive: Receive, send: Send, refusal: Refusal) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008})
        return
    as_page = _takes_pages(header_values(scope))
    extra = {} if as_page else {"content-type": "text/plain; charset=utf-8"}
    await _reply(send, refusal.status, refusal.body(as_page), extra)


async def _reply(send: Send, status: int, body: bytes, extra: Mapping[str, str]) -> None:
    headers = {
        "content-type": "text/html; charset=utf-8",
        "content-length": str(len(body)),
        "cache-control": "no-store",
        "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'",
        **extra,
    }
    encoded = [(k.encode(), v.encode("latin-1", "replace")) for k, v in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})
