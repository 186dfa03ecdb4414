"""Latency and memory of the web server with many visitors at once, while a run trains.

    python benchmarks/fifty_at_once.py FOLDER [--visitors 50] [--train DATA] [--json]

FOLDER holds the roots ``data``, with subjects of the demo data in ``demo``, and ``checkpoints``, where the ready-made
model has segmented them (``evaluate demo-model ... --keep``). Each visitor is a websocket session of its own, on
loopback: half of them open Review with its volumes, half of them the quiz, and press Play. They arrive within five
seconds, stay, and leave together. With ``--train`` a run trains on DATA meanwhile. Reports seconds (median, 95th
percentile), the memory of the server before, at most, and after all have left, and its descriptors.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import threading
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.processes import StreamlitServer, run_command  # noqa: E402
from benchmarks.streamlit_client import Visitor  # noqa: E402

ARRIVAL_S = 5.0  # within which all visitors arrive
TRAINING_PAUSE_S = 20.0  # until a run trains
MODEL = "model=demo-model"
Times = dict[str, list[float]]


class MemoryWatch:
    """Samples the resident memory of a process in a thread."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self.peak = self.now
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    @property
    def now(self) -> float:
        """Resident memory in MB."""
        return float(self._process.memory_info().rss / 1e6)

    @property
    def descriptors(self) -> int:
        """Number of open file descriptors."""
        return int(self._process.num_fds())

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.1):
            self.peak = max(self.peak, self.now)


async def visit(url: str, number: int, delay_s: float, times: Times, leave: asyncio.Event) -> None:
    """One visitor, from arrival to the moment when all leave."""
    await asyncio.sleep(delay_s)
    plays = number % 2 == 1
    async with Visitor(url, "quiz" if plays else "review", MODEL) as visitor:
        opened_s = await visitor.open()
        times["page"].append(opened_s)
        if plays:
            times["play"].append(await visitor.press("Play") + await visitor.fetch_volumes())
        else:
            times["page and volume"].append(opened_s + await visitor.fetch_volumes())
        if visitor.errors or not visitor.volumes:
            print(f"visitor {number}: {visitor.errors or 'no volume'}", file=sys.stderr)
        await leave.wait()


async def visits(url: str, visitors: int) -> Times:
    """All visitors; they leave together."""
    times: Times = {"page": [], "page and volume": [], "play": []}
    leave = asyncio.Event()
    tasks = [asyncio.create_task(visit(url, n, ARRIVAL_S * n / visitors, times, leave)) for n in range(visitors)]
    while sum(len(times[name]) for name in ("page and volume", "play")) < visitors:
        await asyncio.sleep(0.1)
        for task in tasks:
            if task.done():
                task.result()
    leave.set()
    await asyncio.gather(*tasks)
    return times


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder with the roots data and checkpoints")
    parser.add_argument("--visitors", type=int, default=50)
    parser.add_argument("--train", metavar="DATA", help="data set of a run that trains during the measurement")
    parser.add_argument(
        "--wait", type=float, default=130.0, metavar="S", help="seconds from leaving to the last reading of memory"
    )
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    args = parser.parse_args()
    server = StreamlitServer("app.py", args.folder)
    root = ["--checkpoints", str(args.folder / "training")]
    run = ""
    try:
        if args.train:
            run = run_command("submit", args.train, "--preset", "fast", "--minutes", "20", *root).strip()
            time.sleep(TRAINING_PAUSE_S)
        asyncio.run(visits(server.url, 2))  # imports and first pages
        watch = MemoryWatch(server.process.pid)
        before = watch.now
        times = asyncio.run(visits(server.url, args.visitors))
        time.sleep(args.wait)
        asyncio.run(visits(server.url, 2))  # a next visitor
        result = {
            name: {"median_s": statistics.median(values), "p95_s": statistics.quantiles(values, n=20)[-1]}
            for name, values in times.items()
        }
        memory = {"before_mb": before, "peak_mb": watch.peak, "after_mb": watch.now}
        report = {**result, "memory": memory, "descriptors": watch.descriptors, "load": os.getloadavg()[0]}
        watch.close()
    finally:
        server.stop()
        if run:
            run_command("runs", "stop", run, *root)
    if args.json:
        print(json.dumps(report))
        return 0
    for name, values in result.items():
        print(f"{name:16} {values['median_s']:6.2f} s median, {values['p95_s']:6.2f} s at the 95th percentile")
    print(f"memory           {before:6.0f} MB before, {watch.peak:.0f} MB at most, {memory['after_mb']:.0f} MB after")
    return 0


if __name__ == "__main__":
    sys.exit(main())
