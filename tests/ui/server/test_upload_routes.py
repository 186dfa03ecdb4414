"""Uploads over HTTP: written as they arrive, moved into the data root, refused with a reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import anyio
import pytest
from starlette.applications import Starlette
from starlette.types import Message

from core.datasets import open_dataset, uploaded_sets
from tests.support.volume_files import make_decathlon
from ui.server import upload_routes


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEGMENTARIUM_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def post(path: str, name: str = "", body: bytes = b"", breaks_off: bool = False) -> tuple[int, Any]:
    """Status and JSON answer of a request whose body comes in two pieces."""
    sent: list[Message] = []
    incoming: list[Message] = [
        {"type": "http.request", "body": body[:5], "more_body": True},
        {"type": "http.disconnect"} if breaks_off else {"type": "http.request", "body": body[5:], "more_body": False},
    ]
    query = urlencode({"name": name}).encode()
    scope = {"type": "http", "method": "POST", "path": path, "headers": [], "query_string": query}

    async def receive() -> Message:
        return incoming.pop(0) if incoming else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    async def ask() -> None:
        await Starlette(routes=list(upload_routes.ROUTES))(scope, receive, send)

    anyio.run(ask)
    content = b"".join(message.get("body", b"") for message in sent)
    return sent[0]["status"], json.loads(content) if content else None


@pytest.mark.slow
def test_files_become_a_data_set(data: Path, tmp_path: Path) -> None:
    source = make_decathlon(tmp_path / "source")
    id = post("/api/uploads")[1]["id"]
    for path in source.rglob("*"):
        if path.is_file():
            name = f"my set/{path.relative_to(source).as_posix()}"
            assert post(f"/api/uploads/{id}", name, path.read_bytes()) == (200, {"bytes": path.stat().st_size})
    assert post(f"/api/uploads/{id}/finish", "upload") == (200, {"folder": "my set"})
    assert len(open_dataset(data / "my set").ids) == 3


def test_what_is_refused_has_a_reason_and_leaves_nothing(data: Path) -> None:
    id = post("/api/uploads")[1]["id"]
    for path, name in (
        (f"/api/uploads/{id}", "../a"),
        ("/api/uploads/nothing", "a"),
        (f"/api/uploads/{id}/finish", "a"),
    ):
        status, answer = post(path, name, b"0123456789")
        assert status == 400 and "expected" in answer["error"]
    assert post(f"/api/uploads/{id}", "a", b"0123456789", breaks_off=True)[0] == 400
    assert list((data / uploaded_sets.FOLDER / id).iterdir()) == []
    assert post(f"/api/uploads/{id}/cancel") == (204, None)
    assert list((data / uploaded_sets.FOLDER).iterdir()) == []
