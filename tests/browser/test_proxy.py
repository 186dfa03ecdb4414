"""The app behind nginx and Caddy: with the recipes of the documentation, and behind proxies without a part of them."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from core.paths import project_root
from tests.browser.conftest import Server
from tests.conftest import missing
from tests.support.ports import free_port
from tests.support.quiz_runs import QuizRun
from tests.support.run_folders import make_run
from tests.support.viewers import wait_until_ready
from tests.support.watching import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.slow]
WITHOUT_HOST = "location / { proxy_pass http://127.0.0.1:8501; proxy_http_version 1.1; proxy_set_header Upgrade "
WITHOUT_HOST += "$http_upgrade; proxy_set_header Connection upgrade; }"
WITHOUT_UPGRADE = "location / { proxy_pass http://127.0.0.1:8501; proxy_set_header Host $http_host; }"


@pytest.mark.long
def test_recipes_serve_pages_charts_and_volumes_below_a_path_prefix(
    quiz_run: QuizRun, tmp_path: Path, page: Page
) -> None:
    origins = {start: f"http://127.0.0.1:{free_port()}" for start in (nginx, caddy)}
    shutil.copytree(quiz_run.root, tmp_path / "checkpoints")
    run = make_run(tmp_path / "checkpoints", "with measurements", "running")
    server = Server(
        tmp_path, "--server.baseUrlPath", "seg", demo_model=False, prefix="/seg",
        SEGMENTARIUM_ORIGINS=",".join(origins.values()), SEGMENTARIUM_TOKEN="open sesame",
        SEGMENTARIUM_DATA=str(quiz_run.data_root),
    )  # fmt: skip
    refused: list[str] = []
    page.on("response", lambda r: refused.append(r.url) if r.status >= 400 and "/api/" in r.url else None)
    try:
        for start, origin in origins.items():
            assert f"{origin}/seg/?token=open sesame" in server.log()
            page.context.clear_cookies()
            with start(recipe(start.__name__), server.port, tmp_path, int(origin.rpartition(":")[2])):
                page.goto(f"{origin}/seg/runs?run={run}")
                page.get_by_label("Owner token").fill("open sesame")
                page.get_by_role("button", name="Open").click()
                expect(page.locator("[data-points]").first).to_have_attribute("data-points", re.compile("[1-9]"))
                assert page.url.startswith(f"{origin}/seg/runs")
                page.get_by_test_id("stTopNavLink").filter(has_text="Review").click()
                wait_until_ready(page)
                page.goto(f"{origin}/seg/home")
                expect(page.get_by_role("heading", level=1)).to_be_visible()
                assert page.url == f"{origin}/seg/"
                assert page.request.get(f"{origin}/seg").url == f"{origin}/seg/"
    finally:
        server.stop()
    assert refused == []


@pytest.mark.parametrize(
    ("location", "reason"),
    [(WITHOUT_HOST, "start the server with SEGMENTARIUM_ORIGINS="), (WITHOUT_UPGRADE, "has to forward upgrades")],
)
def test_page_says_why_a_proxy_cannot_connect(
    server: Server, page: Page, tmp_path: Path, location: str, reason: str
) -> None:
    port = free_port()
    with nginx("server { listen 443 ssl; " + location + " }", server.port, tmp_path, port):
        page.goto(f"http://127.0.0.1:{port}/")
        expect(page.get_by_role("alert")).to_contain_text(reason)
        assert page.title() == "Segmentarium"


def recipe(program: str) -> str:
    """The recipe for a program in the documentation."""
    text = (project_root() / "docs" / "remote.md").read_text(encoding="utf-8")
    found = re.search(f"```{program}\n(.*?)```", text, re.DOTALL)
    assert found is not None
    return found[1]


@contextmanager
def nginx(configuration: str, upstream: int, folder: Path, port: int) -> Iterator[None]:
    """nginx with a configuration written for 443 and 8501, on other ports and without TLS."""
    program = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if program is None:
        missing("needs nginx")
    configuration = re.sub(r"\n *ssl_certificate.*", "", configuration).replace("443 ssl", f"127.0.0.1:{port}")
    configuration = configuration.replace("127.0.0.1:8501", f"127.0.0.1:{upstream}")
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = "".join(f"{kind}_temp_path {folder}/nginx-{kind};" for kind in kinds)
    main = f"daemon off; pid {folder}/nginx.pid; error_log stderr; events {{}}\n"
    (folder / "nginx.conf").write_text(f"{main}http {{ access_log off; {places}\n{configuration}\n}}\n")
    with proxy([str(program), "-c", str(folder / "nginx.conf")], folder, port):
        yield


@contextmanager
def caddy(configuration: str, upstream: int, folder: Path, port: int) -> Iterator[None]:
    """Caddy with a configuration written for lab.example.org and 8501, on other ports and without TLS."""
    program = shutil.which("caddy")
    if program is None:
        missing("needs caddy")
    configuration = configuration.replace("lab.example.org", f"http://127.0.0.1:{port}")
    configuration = configuration.replace("127.0.0.1:8501", f"127.0.0.1:{upstream}")
    options = f"{{\n admin off\n auto_https off\n storage file_system {folder}/caddy\n}}\n"
    (folder / "Caddyfile").write_text(options + configuration)
    with proxy([str(program), "run", "--config", str(folder / "Caddyfile")], folder, port):
        yield


@contextmanager
def proxy(command: list[str], folder: Path, port: int) -> Iterator[None]:
    """A process that answers on a port."""
    with (folder / "proxy.log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log, env={**os.environ, "HOME": str(folder)})
    try:
        wait_until(lambda: process.poll() is not None or answers(port))
        assert process.poll() is None, (folder / "proxy.log").read_text()
        yield
    finally:
        process.terminate()
        process.wait(10)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
