"""The document of every page: Streamlit's ``index.html`` with the app's name, style sheet and script.

They cannot come from a page: the script has to run before Streamlit first changes the address, and also where no page
is shown because the connection is refused. A cookie identifies the browser, so that a reload finds its uploads.
"""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit.proto.AppPage_pb2 import AppPage
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ClientState_pb2 import ClientState
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg, ForwardMsgMetadata, RunIdentity
from streamlit.proto.Navigation_pb2 import Navigation
from streamlit.proto.NewSession_pb2 import NewSession
from streamlit.proto.PageInfo_pb2 import PageInfo

from ui.server.outside import header_values
from ui.shared.addresses import BROWSER_COOKIE, base_path

NAME = "Segmentarium"
ADDED = ("document.css", "address.js", "document.js", "notifications.js")
# Messages between Streamlit's server and the browser: the fields that address.js reads.
FIELDS: dict[str, tuple[Any, str]] = {
    "newSession": (ForwardMsg, "new_session"),
    "newSessionPage": (NewSession, "page_script_hash"),
    "metadata": (ForwardMsg, "metadata"),
    "metadataRun": (ForwardMsgMetadata, "run"),
    "runFragments": (RunIdentity, "fragment_ids"),
    "navigation": (ForwardMsg, "navigation"),
    "navigationPages": (Navigation, "app_pages"),
    "navigationPage": (Navigation, "page_script_hash"),
    "pageHash": (AppPage, "page_script_hash"),
    "pageName": (AppPage, "url_pathname"),
    "pageInfo": (ForwardMsg, "page_info_changed"),
    "pageInfoQuery": (PageInfo, "query_string"),
    "rerun": (BackMsg, "rerun_script"),
    "rerunPage": (ClientState, "page_script_hash"),
    "rerunQuery": (ClientState, "query_string"),
    "rerunFragment": (ClientState, "fragment_id"),
    "rerunHistory": (ClientState, "is_history_navigation"),
}
STREAMLIT_TITLE = b"<title>Streamlit</title>"
END_OF_HEAD = b"</head>"
# Headers of a request that ask for another answer than the whole document, as plain bytes.
PARTIAL = frozenset({b"accept-encoding", b"if-none-match", b"if-modified-since", b"range", b"if-range"})
# Headers of a response that describe the document as it was.
OUTDATED = frozenset({b"content-length", b"etag", b"last-modified", b"accept-ranges"})


class Document:
    """Adds the app's part to the document.

    Parameters
    ----------
    app : ASGI application. The application that serves the document.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        folder = Path(__file__).parent
        style, *scripts = ((folder / name).read_text(encoding="utf-8") for name in ADDED)
        numbers = {name: message.DESCRIPTOR.fields_by_name[field].number for name, (message, field) in FIELDS.items()}
        script = "".join((f"const FIELDS = {json.dumps(numbers)};\n", *scripts))
        self._addition = f"<style>\n{style}</style>\n<script>\n{script}</script>\n".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not _asks_for_page(scope):
            await self.app(scope, receive, send)
            return
        whole = {**scope, "headers": [(k, v) for k, v in scope["headers"] if k.lower() not in PARTIAL]}
        start: Message = {}
        body = b""

        async def collect(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start":
                start = message
            elif message["type"] != "http.response.body" or not _is_page(start):
                if start:
                    await send(start)
                    start = {}
                await send(message)
            else:
                body += message.get("body", b"")
                if not message.get("more_body"):
                    await self._send(start, body, send, BROWSER_COOKIE in header_values(scope).get("cookie", ""))

        await self.app(whole, receive, collect)

    async def _send(self, start: Message, body: bytes, send: Send, known: bool) -> None:
        body = body.replace(STREAMLIT_TITLE, f"<title>{NAME}</title>".encode(), 1)
        body = body.replace(END_OF_HEAD, self._addition + END_OF_HEAD, 1)
        headers = [(k, v) for k, v in start.get("headers", []) if k.lower() not in OUTDATED]
        headers.append((b"content-length", str(len(body)).encode()))
        if not known:
            cookie = f"{BROWSER_COOKIE}={secrets.token_hex(16)}; Path={base_path()}/; HttpOnly; SameSite=Lax"
            headers.append((b"set-cookie", cookie.encode()))
        await send({**start, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _asks_for_page(scope: Scope) -> bool:
    """Whether a request is that of a browser for a page."""
    return (
        scope["type"] == "http"
        and scope["method"] == "GET"
        and any(k.lower() == b"accept" and b"text/html" in v for k, v in scope.get("headers", []))
    )


def _is_page(start: Message) -> bool:
    """Whether a response is a whole HTML document."""
    headers = dict(start.get("headers", []))
    kind = headers.get(b"content-type", b"")
    return start.get("status") == 200 and kind.startswith(b"text/html") and b"content-encoding" not in headers
