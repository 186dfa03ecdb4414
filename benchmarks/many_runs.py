"""Time to list many runs: the command `runs list`, and the page Runs in a browser.

    python benchmarks/many_runs.py [--runs 1000] [--keep FOLDER] [--json]

Makes a root of this number of runs with everything that a training leaves but its weights, some of them in groups of
folds, a few queued; times the command (start of its process included), reads of the root in one process, and opening
the page: by its address on a fresh server, on one that has shown it before, and by a click on another page. What the
processor worked is measured too, as it depends less on what else runs on the machine. Needs Chromium (on the path, or
named by ``CHROMIUM``) and playwright of ``requirements-dev.txt``.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import psutil  # noqa: E402

from benchmarks.processes import StreamlitServer, chromium_path  # noqa: E402
from benchmarks.result_file import machine_name  # noqa: E402
from core import runs  # noqa: E402
from core.presets import preset  # noqa: E402
from core.runs import groups  # noqa: E402
from core.runs.store import folder as files  # noqa: E402
from core.runs.store import metrics_file  # noqa: E402
from core.runs.store.groups import FOLDS, Group, Member, write_group  # noqa: E402
from core.runs.store.heartbeat import HEARTBEAT, Beat  # noqa: E402
from core.runs.store.state import Best, RunState, write_state  # noqa: E402

CLASSES = ("background", "CSF", "GM", "WM")
EPOCHS = 60
PER_GROUP = 5  # folds of a group; every tenth run begins one
ENDS = ("finished", "finished", "finished", "stopped", "failed", "crashed")
REPEATS = 5
COMPLETE = "[data-testid=stApp][data-test-script-state=notRunning]"  # present while no script of the page runs
OPEN_S = 10.0  # for which the page stays open
Seconds = tuple[float, float]  # elapsed, and of the processor


# --- the root ---------------------------------------------------------------------------------------------------------


def write_runs(root: Path, count: int, queued: int = 3) -> list[str]:
    """Write run folders as trainings leave them, the last ones still queued; returns their ids, oldest first.

    Parameters
    ----------
    root : Path. Checkpoints root, made if missing.
    count : int. Number of runs.
    queued : int. Number of runs that wait.
    """
    root.mkdir(parents=True, exist_ok=True)
    presets = ("quick", "fast", "thorough", "article")
    configs = [preset(name).with_values({"path": f"/data/{data}"}) for name in presets for data in ("iseg", "heart")]
    first = time.time() - 600.0 * count
    ids = []
    for number in range(count):
        ids.append(f"run-{number:05d}-20260101-000000-{number % 65536:04x}")
        state = _state(number, first + 600.0 * number, waits=number >= count - queued)
        _write_run(root / ids[-1], configs[number % len(configs)], state, f"trial {number}")
    for start in range(0, count - queued - PER_GROUP, 10 * PER_GROUP):
        members = tuple(Member(run, {"fold": fold}) for fold, run in enumerate(ids[start : start + PER_GROUP]))
        id = f"folds-{start:05d}-20260101-000000-0000"
        write_group(root, Group(id, f"cross-validation {start}", FOLDS, configs[0], members))
    return ids


def _state(number: int, created_at: float, waits: bool) -> RunState:
    state = RunState(created_at=created_at, queued_at=created_at, turn=created_at)
    if waits:
        return dataclasses.replace(state, host="another-host")  # so that no queue here starts it
    best = Best(EPOCHS - 5, 0.7 + number % 200 / 1000, "held-out, whole volumes, n = 4", 20 * EPOCHS)
    end: Any = ENDS[number % len(ENDS)]
    return dataclasses.replace(
        state, state=end, message="" if end == "finished" else "CUDA ran out of memory at step 120", attempt=1,
        epoch=EPOCHS, epochs=EPOCHS, step=20 * EPOCHS, best=best, latest=best, loss=0.21, elapsed_s=500.0,
        started_at=created_at + 5, ended_at=created_at + 505, host="another-host", classes=CLASSES,
        facts={"device": "NVIDIA A100, bf16", "sub-volume": "128 x 128 x 64", "memory": "7.1 of 79 GB"},
    )  # fmt: skip


def _write_run(folder: Path, config: Any, state: RunState, name: str) -> None:
    folder.mkdir()
    facts = {"version": 1, "name": name, "created_at": state.created_at, "notes": "as before", "tags": ["scale"]}
    files.write_json(folder / files.RUN, facts)
    files.write_json(folder / files.CONFIG, config.to_json())
    write_state(folder, state)
    if state.state == "queued":
        return
    beat = Beat("another-host", "boot", 4711, "", 0, state.created_at + 505, 505)
    files.write_json(folder / HEARTBEAT, dataclasses.asdict(beat))
    files.write_json(folder / files.EXIT, {"attempt": 1, "status": 0, "ended_at": state.ended_at})
    values = ("train/loss", "val/loss", "val/dice_mean", *(f"val/dice/{name}" for name in CLASSES[1:]))
    for epoch in range(1, EPOCHS + 1):
        metrics_file.append_metrics(folder, epoch, 20 * epoch, 8.0 * epoch, dict.fromkeys(values, 1 - 1 / (epoch + 1)))
    (folder / files.LOG).write_text("".join(f"12:00:00  epoch {n}: loss 0.5, Dice 0.8\n" for n in range(EPOCHS)))
    for checkpoint in (files.BEST, files.LAST):
        (folder / checkpoint).write_bytes(bytes(4096))


# --- measurements -----------------------------------------------------------------------------------------------------


def time_command(root: Path) -> Seconds:
    """Seconds of `runs list`, from the start of its process to its end."""
    command = [sys.executable, "-m", "core", "runs", "list", "--checkpoints", str(root)]
    return timed(
        lambda: subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL), _processor_s_of_children
    )


def timed(call: Callable[[], object], processor_s: Callable[[], float] = time.process_time) -> Seconds:
    """Seconds of a call; ``processor_s`` gives those of the processor so far."""
    worked_s, started = processor_s(), time.monotonic()
    call()
    return time.monotonic() - started, processor_s() - worked_s


def _processor_s_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextlib.contextmanager
def browser_page() -> Iterator[Any]:
    """A page of Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=["--headless", "--no-sandbox"])
        yield browser.new_page(viewport={"width": 1440, "height": 1000})
        browser.close()


class Opening:
    """The page Runs of a server, opened in a browser until its table shows the newest run.

    Parameters
    ----------
    page : playwright.sync_api.Page.
    server : StreamlitServer.
    newest : str. Name of the newest run.
    """

    def __init__(self, page: Any, server: StreamlitServer, newest: str) -> None:
        self._page, self._url, self._newest = page, server.url, newest
        self._server = psutil.Process(server.process.pid)

    def by_address(self) -> Seconds:
        """Seconds from the request of its address."""
        self._page.goto("about:blank")
        return timed(self._open, self._processor_s)

    def by_click(self) -> Seconds:
        """Seconds from a click in the navigation of another page, which is complete."""
        self._page.goto(f"{self._url}/learn")
        self._page.get_by_role("heading").first.wait_for(timeout=120_000)
        self._page.wait_for_timeout(1000)  # a part of it may not have begun to run
        self._page.wait_for_selector(COMPLETE, timeout=120_000)
        self._page.wait_for_timeout(1000)
        return timed(self._click, self._processor_s)

    def stay(self) -> Seconds:
        """Seconds while the page is open."""
        return timed(lambda: self._page.wait_for_timeout(1000 * OPEN_S), self._processor_s)

    def _open(self) -> None:
        self._page.goto(f"{self._url}/runs", wait_until="commit")
        self._wait()

    def _click(self) -> None:
        self._page.get_by_role("link", name="Runs", exact=True).first.click()
        self._wait()

    def _wait(self) -> None:
        self._page.get_by_text(self._newest).first.wait_for(timeout=120_000)

    def _processor_s(self) -> float:
        used = self._server.cpu_times()
        return float(used.user + used.system)


def measure(folder: Path, ids: list[str]) -> dict[str, Any]:
    """All measurements of a root: seconds, and those of the processor (of the server for the page)."""
    root, newest = folder / "checkpoints", f"trial {len(ids) - 1}"
    results: dict[str, Any] = {"machine": machine_name(), "load": os.getloadavg()[0], "runs": len(ids)}

    def add(name: str, measured: Callable[[], Seconds], times: int = REPEATS) -> None:
        columns = zip(*(measured() for _ in range(times)), strict=True)
        results[name] = [round(statistics.median(column), 3) for column in columns]

    add("`runs list`", lambda: time_command(root))
    add("list, first time in a process", lambda: timed(lambda: runs.list_runs(root)), 1)
    add("list, groups and queue, again", lambda: timed(lambda: _everything(root)))
    server = StreamlitServer("app.py", folder)
    try:
        with browser_page() as page:
            opening = Opening(page, server, newest)
            add("page on a fresh server", opening.by_address, 1)
            add("page by its address", opening.by_address)
            add("page by a click", opening.by_click)
            add("page, ten seconds open", opening.stay, 1)
    finally:
        server.stop()
    return results


def _everything(root: Path) -> None:
    """What the table of the page reads every two seconds."""
    current = runs.list_runs(root)
    groups.list_groups(root, current)
    runs.queued_runs(root)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="make the root in this folder and keep it")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary)
        root = folder / "checkpoints"
        ids = sorted(path.name for path in files.run_folders(root)) or write_runs(root, args.runs)
        results = measure(folder, ids)
    if args.json:
        print(json.dumps(results))
    else:
        for name, value in results.items():
            print(f"{name:32}", *(value if isinstance(value, list) else [value]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
