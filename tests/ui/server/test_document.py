"""The document of every page gets the app's part, other responses are left alone."""

from __future__ import annotations

import asyncio
from typing import Any

from ui.server.document import Document

PAGE = b"<html><head><title>Streamlit</title></head><body></body></html>"


def call(body: bytes = PAGE, kind: str = "text/html; charset=utf-8", **request: str) -> tuple[dict[str, str], bytes]:
    """Headers and body of a response that the document passes on; ``request`` are headers of the request."""
    sent: list[Any] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        names = {k.decode() for k, _ in scope["headers"]}
        status = 304 if "if-none-match" in names else 200
        headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode()), (b"etag", b"x")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body[:20], "more_body": True})
        await send({"type": "http.response.body", "body": body[20:]})

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(k.replace("_", "-").encode(), v.encode()) for k, v in request.items()]
    scope = {"type": "http", "method": "GET", "path": "/runs", "headers": headers}
    asyncio.run(Document(inner)(scope, None, send))  # type: ignore[arg-type]
    return {k.decode(): v.decode() for k, v in sent[0]["headers"]}, b"".join(m.get("body", b"") for m in sent[1:])


def test_page_has_the_name_of_the_app_and_its_script_before_streamlits() -> None:
    headers, body = call(accept="text/html,*/*", accept_encoding="gzip", if_none_match="x")
    assert b"<title>Segmentarium</title>" in body and body.count(b"</head>") == 1
    assert body.index(b"history.pushState") < body.index(b"</head>")
    assert headers["content-length"] == str(len(body)) and "etag" not in headers


def test_other_responses_are_unchanged() -> None:
    for body, kind, accept in ((PAGE, "text/html", "*/*"), (b"x" * 40, "application/json", "text/html")):
        headers, passed = call(body, kind, accept=accept)
        assert passed == body and headers["etag"] == "x"
