"""A real server and a real browser, shared by the tests of this folder."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, expect, sync_playwright

from benchmarks.processes import SOFTWARE_WEBGL
from core.paths import project_root
from tests.support.learn_data import link_demo_subject
from tests.support.ports import free_port
from tests.support.quiz_runs import QuizRun

ROOT = project_root()
FOLDER = Path(__file__).parent
START_TIMEOUT_S = 60
TIMEOUT_MS = 60_000
# Runs before ``streamlit``, which then does not find the ready-made model, whose jobs would compete with the tests.
WITHOUT_DEMO_MODEL = """
import pathlib, core.paths
core.paths.demo_model_path = lambda: pathlib.Path("/nonexistent/model.safetensors")
"""
STREAMLIT = """
from streamlit.web.cli import main
main(prog_name="streamlit")
"""
expect.set_options(timeout=TIMEOUT_MS)  # five seconds are too short on a busy machine
FLAGS = [
    "--headless", "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
MADE_MS = 120_000  # by a process that begins on a busy machine


class Server:
    """``streamlit run app.py`` on a free port; can be killed and started again.

    Parameters
    ----------
    folder : Path. Gets the folders ``checkpoints`` and ``data``, and the log.
    options : options of ``streamlit run``.
    demo_model : bool. Whether the server has the ready-made model of the checkout.
    before : str. Python code that its process runs first.
    prefix : str. Its path prefix, as ``/prefix``.
    environment : environment variables.
    """

    def __init__(
        self,
        folder: Path,
        *options: str,
        demo_model: bool = True,
        before: str = "",
        prefix: str = "",
        **environment: str,
    ) -> None:
        self.folder, self.options, self.environment = folder, options, environment
        code = before if demo_model else WITHOUT_DEMO_MODEL + before
        self.launcher = ["-c", code + STREAMLIT] if code else ["-m", "streamlit"]
        self.checkpoints, self.data = folder / "checkpoints", folder / "data"
        self.checkpoints.mkdir(exist_ok=True)
        self.data.mkdir(exist_ok=True)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}{prefix}"
        self.start()

    def start(self) -> None:
        environment = {
            **os.environ, "SEGMENTARIUM_CHECKPOINTS": str(self.checkpoints), "SEGMENTARIUM_DATA": str(self.data),
            **self.environment,
        }  # fmt: skip
        command = [sys.executable, *self.launcher, "run", "app.py", "--server.port", str(self.port), *self.options]
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        end = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < end:
            try:
                urllib.request.urlopen(f"{self.url}/_stcore/health", timeout=2)
                return
            except (urllib.error.URLError, OSError):
                if self.process.poll() is not None:
                    break
                time.sleep(0.1)
        raise RuntimeError(f"the server did not start:\n{self.log()}")

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def interrupt(self) -> None:
        """Ctrl-C in its terminal, which reaches the whole process group."""
        os.killpg(self.process.pid, signal.SIGINT)
        self.process.wait(START_TIMEOUT_S)

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()

    def log(self) -> str:
        return (self.folder / "server.log").read_text(errors="replace")


class SharedBrowser:
    """One browser for all tests of this folder.

    The event loop of Playwright occupies the main thread: the browser is closed before a test of another folder runs.
    """

    def __init__(self, executable: str) -> None:
        self._executable = executable
        self._playwright: Playwright | None = None
        self._browser: Browser | None = None
        self._context: BrowserContext | None = None

    def get(self) -> Browser:
        """The browser; started if it is not running."""
        if self._playwright is None or self._browser is None:
            self._playwright = sync_playwright().start()
            self._browser = self._playwright.chromium.launch(executable_path=self._executable, args=FLAGS)
        return self._browser

    def context(self) -> BrowserContext:
        """A context that tests use one after another: what it has loaded from a server once stays in its cache."""
        browser = self.get()
        if self._context is None:
            self._context = browser.new_context(viewport={"width": 1440, "height": 1000})
            self._context.set_default_timeout(TIMEOUT_MS)
        return self._context

    def close(self) -> None:
        """Close the browser and end the event loop."""
        if self._browser is not None:
            self._browser.close()
        if self._playwright is not None:
            self._playwright.stop()
        self._browser = self._playwright = self._context = None


_shared_browsers: list[SharedBrowser] = []


@pytest.hookimpl(trylast=True)  # after the fixtures of the test are torn down
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Close the browser after the last test of this folder in a row."""
    if nextitem is None or FOLDER not in nextitem.path.parents:
        for shared in _shared_browsers:
            shared.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for all tests that do not kill it: with subject-1 of the demo data, without the ready-made model."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "data").mkdir()
    link_demo_subject(tmp_path_factory, folder / "data")
    started = Server(folder, demo_model=False)
    yield started
    started.stop()


@pytest.fixture(scope="session")
def quiz_server(quiz_run: QuizRun, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a trained run whose held-out subjects are segmented."""
    folder = tmp_path_factory.mktemp("quiz-server")
    shutil.copytree(quiz_run.root, folder / "checkpoints")
    started = Server(folder, demo_model=False, SEGMENTARIUM_DATA=str(quiz_run.data_root))
    yield started
    started.stop()


@pytest.fixture(scope="session")
def shared_browser(chromium_path: str) -> SharedBrowser:
    shared = SharedBrowser(chromium_path)
    _shared_browsers.append(shared)
    return shared


@pytest.fixture
def browser(shared_browser: SharedBrowser) -> Browser:
    return shared_browser.get()


@pytest.fixture
def context(shared_browser: SharedBrowser) -> Iterator[BrowserContext]:
    """A context without pages, cookies and stored values."""
    context = shared_browser.context()
    yield context
    for page in context.pages:
        if page.url.startswith("http"):
            page.evaluate("localStorage.clear()")
        page.close()
    context.clear_cookies()


@pytest.fixture(scope="module")
def webgl(shared_browser: SharedBrowser, chromium_path: str) -> Iterator[Browser]:
    """A browser that draws with WebGL in software."""
    shared_browser.get()
    playwright: Playwright = shared_browser._playwright  # type: ignore[assignment]
    browser = playwright.chromium.launch(executable_path=chromium_path, args=[*FLAGS, *SOFTWARE_WEBGL])
    yield browser
    browser.close()


@pytest.fixture
def webgl_page(webgl: Browser) -> Iterator[Page]:
    """A page of a browser with WebGL that fails the test if one of its scripts raises."""
    page, errors = webgl.new_page(viewport={"width": 1440, "height": 1000}), []
    page.set_default_timeout(MADE_MS)
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    page.close()
    assert errors == []


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """A page that fails the test if one of its scripts raises."""
    page, errors = context.new_page(), []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    assert errors == []


def hippocampus_folder(server: Server, test_data: Path) -> Path:
    """The real volumes as the data set "hippo" of a server."""
    link = server.data / "hippo"
    if not link.exists():
        link.symlink_to(test_data / "Task04_Hippocampus")
    return link
