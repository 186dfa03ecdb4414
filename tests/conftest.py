"""Shared fixtures: a folder per test, real volumes, a browser; the order of files; the table of faults."""

from __future__ import annotations

import functools
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from core.compute.priority import PRIORITY_VARIABLE
from core.files import file_stamp
from core.paths import project_root
from tests.support.once import made_once
from tests.support.quiz_runs import QuizRun, make_quiz_run, read_quiz_run

# For a step on a tiny volume two threads take half as much time of the processors again as one, and threads that spin
# while they wait take the cores from the other test process. Set before torch is imported; children inherit them.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("STREAMLIT_BROWSER_GATHER_USAGE_STATS", "false")
# Compiled modules are kept whatever the environment says: several hundred child processes would compile the program
# again, and each test process all tests.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# What decides which folders, server and database the program uses: no test depends on what the user has set.
SETTINGS = (
    "SEGMENTARIUM_CHECKPOINTS",
    "SEGMENTARIUM_DATA",
    "SEGMENTARIUM_DATABASE",
    "SEGMENTARIUM_TOKEN",
    "SEGMENTARIUM_MAX_BYTES",
)

# Fixtures of the session that train: a test that uses one is slow.
TRAINING_FIXTURES = {"ball_run", "quiz_run"}
LONG_S = 10.0  # what a test that is marked long takes unless the marker says it
LONG_TEXT = "mark.long"  # in every file with tests that are marked long: `make test-long` imports no others

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
BROWSER_FILES = (
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)
OUTCOMES = {"passed": "held", "failed": "FAILED", "skipped": "not tried"}

_faults: dict[tuple[int, str], tuple[str, float]] = {}
_BEFORE = pytest.StashKey[dict[str, tuple[int, int]]]()


def on_build_server() -> bool:
    """Whether a missing requirement fails a test (``CI`` is set) instead of skipping it."""
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


def missing(reason: str) -> NoReturn:
    """Skip the test on a developer's machine, fail it on the build server."""
    if on_build_server():
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session", autouse=True)
def session_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Roots of runs and data outside the checkout, also for fixtures that outlive a test and for child processes."""
    with pytest.MonkeyPatch.context() as patch:
        for name in SETTINGS:
            patch.delenv(name, raising=False)
        base = tmp_path_factory.mktemp("default-roots")
        patch.setenv("SEGMENTARIUM_CHECKPOINTS", str(base / "checkpoints"))
        patch.setenv("SEGMENTARIUM_DATA", str(base / "data"))
        # Trainers do not wait for the other test processes, which have the priority of pages.
        patch.setenv(PRIORITY_VARIABLE, "same")
        yield


@pytest.fixture
def lowered_priorities(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainers and jobs have a lower priority than what starts them, as for users."""
    monkeypatch.delenv(PRIORITY_VARIABLE)


@pytest.fixture(autouse=True)
def own_environment(session_environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty roots of runs and data for each test."""
    monkeypatch.setenv("SEGMENTARIUM_CHECKPOINTS", str(tmp_path / ".default" / "checkpoints"))
    monkeypatch.setenv("SEGMENTARIUM_DATA", str(tmp_path / ".default" / "data"))


@pytest.fixture
def checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty root of runs that ``python -m core`` and the app use as theirs."""
    root = tmp_path / "checkpoints"
    root.mkdir()
    monkeypatch.setenv("SEGMENTARIUM_CHECKPOINTS", str(root))
    return root


@pytest.fixture
def no_supervisor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Queued runs are not started."""
    monkeypatch.setattr("core.runs.engines.local.ensure_supervisor", lambda *_: None)


@pytest.fixture(scope="session")
def quiz_run(tmp_path_factory: pytest.TempPathFactory) -> QuizRun:
    """A run whose held-out subjects can be played in the quiz."""
    return read_quiz_run(made_once(tmp_path_factory, "quiz-run", make_quiz_run))


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder with ``Task04_Hippocampus`` and ``fetal_atlas``, read-only."""
    named = os.environ.get("SEGMENTARIUM_TEST_DATA", "")
    if not named:
        missing("needs real volumes: set SEGMENTARIUM_TEST_DATA to the folder that holds Task04_Hippocampus")
    folder = Path(named).expanduser().resolve()
    if not (folder / "Task04_Hippocampus" / "dataset.json").is_file():
        missing(f"needs real volumes: SEGMENTARIUM_TEST_DATA={named} holds no Task04_Hippocampus/dataset.json")
    return folder


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """The program of a Chromium-based browser: ``CHROMIUM`` in the environment, else the system's own."""
    candidates = [os.environ.get("CHROMIUM"), *(shutil.which(name) for name in BROWSERS)]
    candidates += [path for path in BROWSER_FILES if Path(path).exists()]
    found = next((path for path in candidates if path), None)
    if found is None:
        missing("needs a browser: install chromium, or set CHROMIUM to the program")
    return str(found)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out the files without a long test where only those run: each test process would import all of them."""
    if config.option.markexpr == "long" and collection_path.match("test_*.py") and not may_be_long(collection_path):
        return True
    return None


@functools.cache
def may_be_long(path: Path) -> bool:
    """Whether a test file may have tests that are marked long."""
    return LONG_TEXT in path.read_text("utf-8")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Mark the tests that need a training as slow; of the selected tests, files that take long come first, so that the
    test processes end at about the same time."""
    for item in items:
        if item.get_closest_marker("long") is not None and not may_be_long(item.path):
            raise pytest.UsageError(f"{item.nodeid} is marked long: expected {LONG_TEXT} in its own file, found none")
        if TRAINING_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)
    yield  # tests are selected by their markers
    seconds: dict[Path, float] = {}
    for item in items:
        seconds[item.path] = seconds.get(item.path, 0.0) + expected_s(item)
    items.sort(key=lambda item: -seconds[item.path])


def expected_s(item: pytest.Item) -> float:
    """About how long a test takes, in seconds, by its markers and folder."""
    marker = item.get_closest_marker("long")
    if marker is not None:
        return float(marker.args[0]) if marker.args else LONG_S
    return 0.05 + 0.5 * (item.get_closest_marker("slow") is not None) + 1.5 * ("browser" in item.path.parts)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note the worst outcome and the time of each fault."""
    fault: Any = dict(report.user_properties).get("fault")
    if fault is None or (report.when != "call" and report.outcome == "passed"):
        return
    number, what = int(fault[0]), str(fault[1])
    before, seconds = _faults.get((number, what), ("passed", 0.0))
    worst = report.outcome if before == "passed" else before
    _faults[(number, what)] = (worst, seconds + report.duration)


@pytest.hookimpl(optionalhook=True)  # unknown without xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Of three or more test processes, one takes the files that wait for services."""
    if config.getvalue("dist") != "loadfile":
        return None
    from tests.support.scheduling import WaitingFilesApart

    return WaitingFilesApart(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Add the text of the marker to the report."""
    marker = item.get_closest_marker("fault")
    if marker is not None:
        item.user_properties.append(("fault", (marker.args[0], marker.args[1])))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the table of faults."""
    if _faults:
        terminalreporter.section("faults")
        for (number, what), (outcome, seconds) in sorted(_faults.items()):
            terminalreporter.write_line(f"{number:>3}  {OUTCOMES[outcome]:<9}  {seconds:>6.1f} s  {what}")


# --- the checkout is not changed --------------------------------------------------------------------------------------


def _checkout_state() -> dict[str, tuple[int, int]]:
    """Size and modification time of every file below the checkout's roots of data and runs."""
    root = project_root()
    files = [path for folder in ("data", "checkpoints") for path in (root / folder).rglob("*") if path.is_file()]
    return {path.relative_to(root).as_posix(): file_stamp(path) for path in files}


def pytest_sessionstart(session: pytest.Session) -> None:
    """Note what the checkout's data/ and checkpoints/ hold, once for all test processes."""
    if not hasattr(session.config, "workerinput"):
        session.config.stash[_BEFORE] = _checkout_state()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail where a test wrote into the checkout's data/ or checkpoints/.

    Outside the build server, where the workbench may run beside the tests, it is only reported.
    """
    before = session.config.stash.get(_BEFORE, None)
    if before is not None and before != (after := _checkout_state()):
        changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
        print(f"\nfiles of the checkout changed during the tests: {', '.join(changed[:20])}")
        if on_build_server():
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
