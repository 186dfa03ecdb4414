"""Latency of the live chart of a run with very many points, loaded at first and measured while the chart is open.

    python benchmarks/chart_points.py [--points 100000] [--moves 120] [--json]

Makes a run with this number of measured values (loss, validation loss, Dice of three classes and their mean), opens it
on the page Runs and moves the pointer across the chart; each move renders the whole chart. Reports the milliseconds
from a move to the end of its frame, and the size of the server's answer. Then the same number of values is measured
while the page is open, and the pointer moves again. Needs Chromium (on the path, or named by ``CHROMIUM``) and
playwright of ``requirements-dev.txt``.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import platform
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.processes import StreamlitServer, chromium_path  # noqa: E402
from core.presets import preset  # noqa: E402
from core.runs.launch import create_run  # noqa: E402
from core.runs.store.index import open_index  # noqa: E402
from core.runs.store.metrics_file import MetricRow  # noqa: E402
from core.runs.store.process import process_identity  # noqa: E402
from core.runs.store.state import read_state, write_state  # noqa: E402

PARTS = 25  # number of parts in which values are added while the page is open
CLASSES = ("background", "CSF", "GM", "WM")
METRICS = ("train/loss", "val/loss", "val/dice_mean", *(f"val/dice/{name}" for name in CLASSES[1:]))
FIND_CHART = (  # within shadow roots
    "const find = (root) => root.querySelector('canvas[aria-label^=\"Dice per class\"]') ?? "
    "[...root.querySelectorAll('*')].map(e => e.shadowRoot && find(e.shadowRoot)).find(Boolean);"
)
RECORD_TIMES = (
    FIND_CHART
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
        add_values(root, run.name, 0, args.points)
        server = StreamlitServer("app.py", Path(temporary))
        try:
            results = measure(server.url, root, run.name, args)
        finally:
            server.stop()
    if args.json:
        print(json.dumps(results))
    else:
        for name, value in results.items():
            print(f"{name:34}{value}")
    return 0


def add_values(root: Path, run_id: str, first: int, count: int) -> None:
    """Add noisy curves to the index of runs, a row of every metric for each step."""
    rows = []
    for step in range(first // len(METRICS), (first + count) // len(METRICS)):
        noise = math.sin(step * 12.9898) * 43758.5453 % 1
        epoch, value = 1 + step // 250, math.exp(-step / 5000) + 0.1 * noise
        rows += [MetricRow(0, epoch, step + 1, step * 0.4, name, value) for name in METRICS]
    open_index(root).add_metrics(run_id, rows)


def measure(url: str, root: Path, run_id: str, args: argparse.Namespace) -> dict[str, Any]:
    """Open the chart and move the pointer, before and after values are added."""
    from playwright.sync_api import sync_playwright

    results: dict[str, Any] = {"machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=["--headless", "--no-sandbox"])
        page = browser.new_page(viewport={"width": 1440, "height": 1000})
        answers: list[Any] = []
        page.on("response", lambda r: answers.append(r) if "/metrics?after=0" in r.url else None)
        page.goto(f"{url}/runs?run={run_id}")
        chart = page.locator('canvas[aria-label^="Dice per class"]')
        chart.wait_for()
        page.wait_for_function(f"() => {{ {FIND_CHART} return +find(document).closest('.root').dataset.points > 0 }}")
        results["values in the run"] = args.points
        results["first answer, ms"] = round(answers[0].request.timing["responseEnd"])
        results["first answer, kB"] = round(len(answers[0].body()) / 1000)
        page.evaluate(f"() => {{ {RECORD_TIMES} }}")
        results |= move_pointer(page, chart, args.moves, "")
        part = args.points // PARTS  # few enough that the server thins none of them
        for n in range(PARTS):
            add_values(root, run_id, args.points + n * part, part)
            with page.expect_response(lambda r: "/metrics?after=" in r.url, timeout=60_000):
                pass
        page.wait_for_timeout(3000)
        results["thinned again"] = len(answers) - 1
        results |= move_pointer(page, chart, args.moves, ", twice as many")
        browser.close()
    return results


def move_pointer(page: Any, chart: Any, moves: int, suffix: str) -> dict[str, Any]:
    """Move the pointer across the chart; ``suffix`` goes into the names of the results."""
    box = chart.bounding_box()
    page.evaluate("() => { window.times = [] }")
    for n in range(moves):
        page.mouse.move(box["x"] + 60 + (box["width"] - 90) * n / moves, box["y"] + 100 + n % 7)
    page.wait_for_timeout(500)
    times = sorted(page.evaluate("() => window.times"))
    points = page.evaluate(f"() => {{ {FIND_CHART} return +find(document).closest('.root').dataset.points }}")
    return {
        f"points in the browser{suffix}": points,
        f"move to pixels, median, ms{suffix}": round(statistics.median(times), 1),
        f"move to pixels, 95 %, ms{suffix}": round(times[int(0.95 * len(times))], 1),
    }


if __name__ == "__main__":
    sys.exit(main())
