"""How the live chart of a run moves with very many points: those that it loads, and those that come while it is open.

    python benchmarks/chart_points.py [--points 100000] [--moves 120] [--json]

Makes a run with so many measured values (loss, validation loss, Dice of three classes and their mean), opens it on the
page Runs and moves the pointer across the chart; each move draws everything anew. Reported are the milliseconds from a
move to the end of the frame that it made, and what the server sent. Then as many values again are measured while the
page is open, and the pointer moves again. Needs Chromium (``CHROMIUM`` names it) and playwright, which
``requirements-dev.txt`` brings.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import platform
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.scroll_slices import Server  # noqa: E402
from core.presets import preset  # noqa: E402
from core.runs.launch import create_run  # noqa: E402
from core.runs.store.folder import MetricRow  # noqa: E402
from core.runs.store.index import open_index  # noqa: E402
from core.runs.store.process import process_identity  # noqa: E402
from core.runs.store.state import read_state, write_state  # noqa: E402

PARTS = 25  # in which the values come that are measured while the page is open
CLASSES = ("background", "CSF", "GM", "WM")
NAMES = ("train/loss", "val/loss", "val/dice_mean", *(f"val/dice/{name}" for name in CLASSES[1:]))
DEEP = (
    "const find = (root) => root.querySelector('canvas[aria-label^=\"Dice per class\"]') ?? "
    "[...root.querySelectorAll('*')].map(e => e.shadowRoot && find(e.shadowRoot)).find(Boolean);"
)
WATCH = (
    DEEP
    + """
  window.times = [];
  find(document).addEventListener('pointermove', (event) => {
    const channel = new MessageChannel();
    channel.port1.onmessage = () => window.times.push(performance.now() - event.timeStamp);
    requestAnimationFrame(() => channel.port2.postMessage(0));
  }, { capture: true });
"""
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--moves", type=int, default=120)
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary) / "checkpoints"
        run = create_run(root, preset("fast").with_values({"path": "demo"}), "long")
        pid = os.getpid()
        write_state(
            run,
            dataclasses.replace(
                read_state(run),
                state="running",
                what="training",
                pid=pid,
                pid_start=process_identity(pid),
                classes=CLASSES,
            ),
        )
        measure_values(root, run.name, 0, args.points)
        server = Server("app.py", Path(temporary))
        try:
            found = look(server.url, root, run.name, args)
        finally:
            server.stop()
    if args.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:34}{value}")
    return 0


def measure_values(root: Path, run_id: str, first: int, count: int) -> None:
    """Noisy curves, one row of every name for each step."""
    rows = []
    for step in range(first // len(NAMES), (first + count) // len(NAMES)):
        noise = math.sin(step * 12.9898) * 43758.5453 % 1
        epoch, value = 1 + step // 250, math.exp(-step / 5000) + 0.1 * noise
        rows += [MetricRow(0, epoch, step + 1, step * 0.4, name, value) for name in NAMES]
    open_index(root).add_metrics(run_id, rows)


def look(url: str, root: Path, run_id: str, args: argparse.Namespace) -> dict[str, Any]:
    from playwright.sync_api import sync_playwright

    program = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    found: dict[str, Any] = {"machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--headless", "--no-sandbox"])
        page = browser.new_page(viewport={"width": 1440, "height": 1000})
        answers: list[Any] = []
        page.on("response", lambda r: answers.append(r) if "/metrics?after=0" in r.url else None)
        page.goto(f"{url}/runs?run={run_id}")
        chart = page.locator('canvas[aria-label^="Dice per class"]')
        chart.wait_for()
        page.wait_for_function(f"() => {{ {DEEP} return +find(document).closest('.root').dataset.points > 0 }}")
        found["values in the run"] = args.points
        found["first answer, ms"] = round(answers[0].request.timing["responseEnd"])
        found["first answer, kB"] = round(len(answers[0].body()) / 1000)
        page.evaluate(f"() => {{ {WATCH} }}")
        found |= moved(page, chart, args.moves, "")
        part = args.points // PARTS  # as they come, the server thins none of them
        for n in range(PARTS):
            measure_values(root, run_id, args.points + n * part, part)
            with page.expect_response(lambda r: "/metrics?after=" in r.url, timeout=60_000):
                pass
        page.wait_for_timeout(3000)
        found["thinned again"] = len(answers) - 1
        found |= moved(page, chart, args.moves, ", twice as many")
        browser.close()
    return found


def moved(page: Any, chart: Any, moves: int, when: str) -> dict[str, Any]:
    box = chart.bounding_box()
    page.evaluate("() => { window.times = [] }")
    for n in range(moves):
        page.mouse.move(box["x"] + 60 + (box["width"] - 90) * n / moves, box["y"] + 100 + n % 7)
    page.wait_for_timeout(500)
    times = sorted(page.evaluate("() => window.times"))
    held = page.evaluate(f"() => {{ {DEEP} return +find(document).closest('.root').dataset.points }}")
    return {
        f"points in the browser{when}": held,
        f"move to pixels, median, ms{when}": round(statistics.median(times), 1),
        f"move to pixels, 95 %, ms{when}": round(times[int(0.95 * len(times))], 1),
    }


if __name__ == "__main__":
    sys.exit(main())
