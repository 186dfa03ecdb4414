"""Cost of many runs on a cluster: submissions, the question about their jobs, and the list of runs.

    python benchmarks/many_jobs.py [--jobs 200 1000 10000] [--json]

The cluster is simulated (:mod:`benchmarks.simulated_slurm`), with eight GPUs; the run folders are real. Reports for
each number of jobs the seconds of the processor, the clients of the cluster included, as these depend less on what else
runs on the machine: of the submission of one more run, of an array of eight folds, of the question that is asked once
per interval, and of the list of runs as it is made for the first time and again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.many_runs import write_runs  # noqa: E402
from benchmarks.result_file import machine_name  # noqa: E402
from benchmarks.simulated_slurm import SimulatedSlurm  # noqa: E402
from core import runs  # noqa: E402
from core.presets import preset  # noqa: E402
from core.runs import engine_poller  # noqa: E402
from core.runs.engines.registry import get_engine  # noqa: E402
from core.runs.launch import create_run  # noqa: E402
from core.runs.store import folder as files  # noqa: E402
from core.runs.store.engine_records import ENGINE, EngineRecord, answer_file  # noqa: E402
from core.runs.store.index import open_index  # noqa: E402

NAME = "cluster"
SETTINGS = f'[{NAME}]\nkind = "slurm"\npoll_s = 2\ntimeout_s = 60\n'
ARRAY = 500  # jobs of an array that fills the cluster
GPUS = 8
FOLDS = 8


def make_cluster(root: Path, cluster: SimulatedSlurm, jobs: int) -> None:
    """A root whose runs all wait or run as jobs."""
    cluster.start(GPUS)
    ids = write_runs(root, jobs, queued=jobs)
    (root / "engines.toml").write_text(SETTINGS)
    for start in range(0, jobs, ARRAY):
        members = ids[start : start + ARRAY]
        number = cluster.answer("sbatch", [f"--job-name=array-{start}", f"--array=0-{len(members) - 1}"]).strip()
        for task, run in enumerate(members):
            record = EngineRecord(NAME, f"array-{start}", task, f"{number}_{task}", time.time())
            files.write_json(root / run / ENGINE, asdict(record))


def measure(folder: Path, jobs: int) -> dict[str, float]:
    """Seconds of the processor for a root and a cluster with this number of jobs."""
    root, cluster = folder / "runs", SimulatedSlurm(folder / "bin")
    make_cluster(root, cluster, jobs)
    engine = get_engine(root, NAME)
    open_index(root).rebuild()  # which the first writer does
    config = preset("quick").with_values({"path": "demo"})
    results: dict[str, float] = {"jobs": jobs}

    def add(name: str, call: Callable[[], object]) -> None:
        results[name] = round(_processor_s(call), 3)

    add("submit a run", lambda: engine.submit([create_run(root, config, engine=NAME)], "worker"))
    folds = [create_run(root, config, engine=NAME) for _ in range(FOLDS)]
    add("submit eight folds", lambda: engine.submit(folds, "worker"))
    asked = cluster.calls("squeue")
    add("question", lambda: engine_poller.ask(root, engine))
    results["calls of squeue"] = cluster.calls("squeue") - asked
    results["answer, kB"] = round(answer_file(root, NAME).stat().st_size / 1000)
    add("list, first time", lambda: runs.list_runs(root))
    add("list, again", lambda: runs.list_runs(root))
    return results


def _processor_s(call: Callable[[], object]) -> float:
    """Seconds of the processor of a call and of the processes that it started."""
    before = os.times()
    call()
    after = os.times()
    return sum(after[:4]) - sum(before[:4])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, nargs="+", default=[200, 1000, 10_000])
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    args = parser.parse_args()
    results = []
    for jobs in args.jobs:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["PATH"] = f"{folder}/bin{os.pathsep}{os.environ['PATH']}"
            results.append(measure(Path(folder), jobs))
            print(results[-1], file=sys.stderr)
    if args.json:
        print(json.dumps({"machine": machine_name(), "results": results}))
        return 0
    print(machine_name())
    for name in results[0]:
        print(f"{name:20}", *(f"{result[name]:>10}" for result in results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
