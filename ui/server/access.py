"""Access check: one ASGI middleware in front of pages, routes and the websocket.

A server bound to a loopback address is open to all users of its machine; the ``Host`` header must be a loopback name
too, which prevents DNS rebinding by web pages elsewhere. A server bound to any other address requires the owner token,
which is printed at start (or set by ``SEGMENTARIUM_TOKEN``). ``?token=...`` in any URL, or the login page, exchanges
the token for a cookie.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import html
import ipaddress
import os
import secrets
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import streamlit as st
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

TOKEN_VARIABLE = "SEGMENTARIUM_TOKEN"
LOGIN_PATH = "/login"
OPEN_PATHS = frozenset({"/_stcore/health"})  # the response is "ok"
MAX_LOGIN_BYTES = 4096
WRONG_TOKEN_PAUSE_S = 0.5
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


def middleware() -> list[Middleware]:
    """The middleware of ``st.App``."""
    return [Middleware(Access)]


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
    """

    def __init__(self, app: ASGIApp, address: str | None = None, token: str | None = None) -> None:
        self.app = app
        self._address = address
        self.token = token or os.environ.get(TOKEN_VARIABLE) or secrets.token_urlsafe(24)

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
            if not is_loopback(self.address):
                self._announce()
            await self.app(scope, receive, send)
            return
        if scope["type"] not in ("http", "websocket"):
            return
        headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope.get("headers", [])}
        send = _hardened(send)
        if scope["path"] in OPEN_PATHS:
            await self.app(scope, receive, send)
        elif not _same_origin(scope, headers):
            await _refuse(scope, receive, send, 403, _page("Request refused", "This request came from another site."))
        elif self._is_open(scope):
            if is_loopback(_host_name(headers)):
                await self.app(scope, receive, send)
            else:
                await _refuse(scope, receive, send, 403, _page("Available on this machine only", _ONLY_LOCAL))
        else:
            await self._with_token(scope, receive, send, headers)

    def _is_open(self, scope: Scope) -> bool:
        """Whether both the configured address and the address of the socket are loopback addresses."""
        socket_address = (scope.get("server") or ("",))[0]
        return is_loopback(self.address) and is_loopback(socket_address)

    async def _with_token(self, scope: Scope, receive: Receive, send: Send, headers: Mapping[str, str]) -> None:
        port = (scope.get("server") or ("", 0))[1]
        cookie = f"segmentarium-{port}"
        if _same(_cookie(headers, cookie), self._proof):
            await self.app(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await _refuse(scope, receive, send, 403, b"")
            return
        query = parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
        given = dict(query).get("token")
        target = scope["path"] + ("?" + rest if (rest := urlencode([q for q in query if q[0] != "token"])) else "")
        message = ""
        if scope["path"] == LOGIN_PATH and scope["method"] == "POST":
            form = parse_qs((await _body(receive)).decode("utf-8", "replace"))
            given, target = form.get("token", [""])[0].strip(), form.get("next", ["/"])[0]
        elif scope["path"] == LOGIN_PATH:
            target = "/"
        if given is not None:
            if _same(given, self.token):
                attributes = "; Path=/; HttpOnly; SameSite=Lax" + ("; Secure" if scope.get("scheme") == "https" else "")
                extra = {"set-cookie": f"{cookie}={self._proof}{attributes}", "location": _local(target)}
                await _reply(send, 303, b"", extra)
                return
            await asyncio.sleep(WRONG_TOKEN_PAUSE_S)
            message = "That is not the token of this server."
        await _refuse(scope, receive, send, 401, _login_page(_local(target), message))

    def _announce(self) -> None:
        port = st.get_option("server.port")
        host = self.address if self.address not in ("", "0.0.0.0", "::") else "<this machine>"
        print(
            f"\n  Segmentarium can be reached from other machines and requires its owner token:\n"
            f"  http://{host}:{port}/?token={self.token}\n",
            flush=True,
        )


def _host_name(headers: Mapping[str, str]) -> str:
    return urlsplit("//" + headers.get("host", "")).hostname or ""


def _same_origin(scope: Scope, headers: Mapping[str, str]) -> bool:
    """False for websockets and changing requests whose ``Origin`` is another site."""
    origin = headers.get("origin")
    if origin is None or (scope["type"] == "http" and scope["method"] in ("GET", "HEAD", "OPTIONS")):
        return True
    return urlsplit(origin).netloc.lower() == headers.get("host", "").lower()


def _same(given: str | None, expected: str) -> bool:
    return given is not None and hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode())


def _cookie(headers: Mapping[str, str], name: str) -> str | None:
    try:
        cookie = SimpleCookie(headers.get("cookie", "")).get(name)
    except CookieError:
        return None
    return cookie.value if cookie else None


def _local(target: str) -> str:
    """A path on this server, or ``/`` for any other target: prevents open redirects and header injection."""
    parts = urlsplit(target.replace("\\", "/"))
    bad = parts.scheme or parts.netloc or not parts.path.startswith("/") or parts.path.startswith("//")
    if bad or not target.isprintable() or parts.path == LOGIN_PATH:
        return "/"
    return target


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


async def _refuse(scope: Scope, receive: Receive, send: Send, status: int, page: bytes) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008})
    else:
        await _reply(send, status, page, {})


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


_ONLY_LOCAL = (
    "This server is available on its own machine (localhost). To use it from another machine, forward the port through "
    "SSH - <code>ssh -L 8501:localhost:8501 HOST</code>, then open http://localhost:8501 - or start it with "
    "<code>--server.address 0.0.0.0</code>, which requires a token."
)

_STYLE = """
:root{color-scheme:light dark}
body{font:15px/1.5 system-ui,sans-serif;display:grid;place-items:center;min-height:90vh;margin:0}
main{max-width:26rem;padding:1.5rem}h1{font-size:1.25rem;margin:0 0 .5rem}p{margin:.5rem 0;opacity:.85}
form{display:flex;gap:.5rem;margin-top:1rem}input{flex:1;min-width:0}input,button{font:inherit;padding:.5rem .7rem;
border-radius:6px;border:1px solid #8886}button{background:#5b4bc4;color:#fff;border:0}
.bad{color:#d0342c;opacity:1}code{font-size:.9em}
"""


def _page(title: str, body: str) -> bytes:
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{title} - Segmentarium</title><style>{_STYLE}</style><main><h1>{title}</h1><p>{body}</p></main></html>"
    ).encode()


def _login_page(target: str, message: str) -> bytes:
    bad = f'<p class="bad" role="alert">{html.escape(message)}</p>' if message else ""
    return _page(
        "Segmentarium",
        "This server requires its owner token, which was printed when the server was started.</p>"
        f'{bad}<form method="post" action="{LOGIN_PATH}">'
        f'<input type="hidden" name="next" value="{html.escape(target)}">'
        '<input name="token" type="password" placeholder="token" aria-label="Owner token" autofocus required '
        'autocomplete="current-password"><button>Open</button></form><p>',
    )
