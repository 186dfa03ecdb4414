"""Messages about the end of a run: by a webhook and by e-mail; what cannot be sent is a note."""

from __future__ import annotations

import json
import smtplib
import threading
from collections.abc import Iterator
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from core import runs
from core.runs.notify import MAIL_TO, SMTP, WEBHOOK, describe_end, notify
from tests.support.run_folders import make_run


@pytest.fixture
def run(tmp_path: Path) -> runs.RunSummary:
    return runs.get_run(tmp_path, make_run(tmp_path, "net", epochs=3))


@pytest.fixture
def received() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Address of a server, and what was posted to it."""
    posted: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(500 if "broken" in self.path else 200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", posted
    server.shutdown()
    server.server_close()


def test_end_is_described_with_dice_and_reason(tmp_path: Path, run: runs.RunSummary) -> None:
    assert describe_end(run) == "finished after 12 s, mean Dice 0.875 on held-out sub-volumes, n = 8"
    failed = runs.get_run(tmp_path, make_run(tmp_path, "other", "failed", epochs=0, message="the disk is full"))
    assert describe_end(failed) == "failed after 0 s: the disk is full"


def test_nothing_is_sent_without_settings(run: runs.RunSummary) -> None:
    assert notify(run) == []


def test_webhook_gets_the_end_as_json(
    run: runs.RunSummary, received: tuple[str, list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, posted = received
    monkeypatch.setenv(WEBHOOK, address)
    assert notify(run) == []
    (message,) = posted
    assert message["text"] == f"net: {describe_end(run)}"
    assert (message["run"], message["state"], message["mean_dice"]) == (run.id, "finished", 0.875)
    monkeypatch.setenv(WEBHOOK, f"{address}/broken")
    (note,) = notify(run)
    assert WEBHOOK in note and "500" in note


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({WEBHOOK: "file:///etc/passwd"}, "http:// or https://"),
        ({WEBHOOK: "http://127.0.0.1:9/x"}, "refused"),
        ({MAIL_TO: "a@example.org"}, SMTP),
    ],
)
def test_settings_that_do_not_work_are_a_note(
    run: runs.RunSummary, settings: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    (note,) = notify(run)
    assert expected in note


def test_mail_is_sent_encrypted_with_the_end_in_it(run: runs.RunSummary, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    class Server:
        def __init__(self, *address: object, **_: object) -> None:
            calls.append(address)

        def __enter__(self) -> Server:
            return self

        def __exit__(self, *_: object) -> None: ...

        def starttls(self, **_: object) -> None:
            calls.append("starttls")

        def login(self, *user: str) -> None:
            calls.append(user)

        def send_message(self, message: EmailMessage) -> None:
            calls.append(message)

    monkeypatch.setattr(smtplib, "SMTP", Server)
    monkeypatch.setenv(MAIL_TO, "a@example.org, b@example.org")
    monkeypatch.setenv(SMTP, "smtp://me:p%40ss@mail.example.org:587")
    assert notify(run) == []
    *before, message = calls
    assert before == [("mail.example.org", 587), "starttls", ("me", "p@ss")]
    assert (message["To"], message["Subject"]) == ("a@example.org, b@example.org", "net: finished")
    assert describe_end(run) in message.get_content()
