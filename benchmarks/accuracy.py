"""Dice that networks, losses, presets, refits and ensembles reach within time budgets on a CPU, for the tables.

    python benchmarks/accuracy.py --hippocampus DIR --demo DIR --other-demo DIR --fetal-atlas DIR [--only SUITE ...]
                                  [--steps-per-minute measured] [--jobs N]

Suites:
    costs      parameters, operations, time and memory of a training step of each network (``bench models``); no data
    networks   every network on one fold of Task04_Hippocampus, three minutes each; then the best five on two more folds
               and on the demo data
    losses     every loss with the network of the preset auto, three minutes each
    auto       the preset auto beside all others: 1, 3 and 10 minutes on two folds of Task04_Hippocampus and one of the
               demo data, 30 minutes on one fold; 3 and 10 minutes on one fold of two data sets that the preset was not
               made with: demo data with another seed, and an atlas of the fetal brain. A preset that lies far behind
               the best is not measured with longer budgets, nor on other data (``BEHIND``)
    refit      ten minutes on all subjects but one fold, which is scored; for every fold
    ensemble   the same with the average of five networks, each of which leaves out another fold of the others

Results go to a JSON file (``--out``), one by one, each with its machine, versions, date and command; a case that is in
it is not measured again, so the program can be ended and started at any time, on one machine or on several
(``--again-failed``: also those that failed; ``--again``: all). With ``--work`` the runs are kept, and trainings that
the same commit has finished are not repeated. All of it takes many hours. On a machine
with other work choose ``--steps-per-minute measured``: each budget becomes the number of steps that the machine does in
it when it is idle, from the fastest moments of a training of a few seconds, which goes before all other work where this
user may schedule in real time (root, Linux); the trainings themselves can then be given the lowest priority
(``chrt --idle 0 python benchmarks/accuracy.py ...``), and ``--jobs 2`` measures two cases at once, each on its part of
the cores, which does more of these steps in the same time. ``--scale 0.01`` tries everything out with hundredths of the
budgets. ``python benchmarks/write_tables.py`` writes the tables from the file.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.accuracy_runs import COSTS, Case, Measuring
from benchmarks.result_file import ResultFile
from core.losses import LOSSES
from core.models import MODELS
from core.presets import AUTO, PRESET_NAMES

OUT = Path(__file__).resolve().parent / "accuracy.json"
HIPPOCAMPUS, DEMO, OTHER_DEMO, FETAL = "hippocampus", "demo", "other demo", "fetal atlas"
SHORT, LONG = 3.0, 10.0  # minutes
BEST = 5  # networks that are measured on more folds and on the demo data
FOLDS = 5
AUTO_CASES = (  # on the same data, the shorter budgets first
    *((HIPPOCAMPUS, 1.0, fold) for fold in (0, 1)),
    (DEMO, 1.0, 0),
    *((HIPPOCAMPUS, SHORT, fold) for fold in (0, 1)),
    *((data, SHORT, 0) for data in (DEMO, OTHER_DEMO, FETAL)),
    *((HIPPOCAMPUS, LONG, fold) for fold in (0, 1)),
    (DEMO, LONG, 0),
    (HIPPOCAMPUS, 30.0, 0),
    *((data, LONG, 0) for data in (OTHER_DEMO, FETAL)),
)
BEHIND = {1.0: 0.2, 3.0: 0.2, 10.0: 0.05, 30.0: 0.02}  # Dice behind the best preset in the case before, by minutes


def costs(file: ResultFile, scale: float) -> Iterator[Case]:
    """Every network."""
    for name in MODELS:
        yield Case(COSTS, name, "", "", 0.0)


def networks(file: ResultFile, scale: float) -> Iterator[Case]:
    """Every network on one fold; when all are measured, the best on more folds and on the demo data."""
    make = partial(Case, "networks", preset=AUTO)
    first = [make(name, HIPPOCAMPUS, minutes=SHORT * scale, values=(("model", name),)) for name in MODELS]
    yield from first
    if any(case.key not in file.results for case in first):
        return
    scores = {case.label: file.results[case.key].get("mean_dice", -1.0) for case in first}
    for name in sorted(scores, key=scores.__getitem__, reverse=True)[:BEST]:
        values = (("model", name),)
        yield from (make(name, HIPPOCAMPUS, minutes=SHORT * scale, fold=fold, values=values) for fold in (1, 2))
        yield make(name, DEMO, minutes=SHORT * scale, values=values)


def losses(file: ResultFile, scale: float) -> Iterator[Case]:
    """Every loss that needs no outputs of a special network."""
    for name, entry in LOSSES.items():
        if not entry.extras:
            yield Case("losses", name, HIPPOCAMPUS, AUTO, SHORT * scale, values=(("loss", name),))


def auto(file: ResultFile, scale: float) -> Iterator[Case]:
    """Every preset in every case, less those that lay too far behind in the case before, which comes first."""
    for data, minutes, fold in AUTO_CASES:
        before = case_before(data, minutes, fold)
        if before is not None:
            unknown = {case.label for case in auto_cases(*before, scale) if case.key not in file.results}
            if unknown - far_behind(file, *before, scale):
                continue
        behind = far_behind(file, data, minutes, fold, scale)
        yield from (case for case in auto_cases(data, minutes, fold, scale) if case.label not in behind)


def auto_cases(data: str, minutes: float, fold: int, scale: float = 1.0) -> list[Case]:
    """Every preset with one budget on one fold."""
    return [Case("auto", name, data, name, minutes * scale, fold) for name in PRESET_NAMES]


def case_before(data: str, minutes: float, fold: int) -> tuple[str, float, int] | None:
    """Data, minutes and fold by which presets are left out: the next shorter budget on the same data, for the shortest
    the same budget on Task04_Hippocampus."""
    shorter = max((m for d, m, f in AUTO_CASES if d == data and m < minutes and f == 0), default=None)
    if shorter is not None:
        return data, shorter, 0
    return None if (data, fold) == (HIPPOCAMPUS, 0) else (HIPPOCAMPUS, minutes, 0)


def far_behind(file: ResultFile, data: str, minutes: float, fold: int, scale: float = 1.0) -> set[str]:
    """Presets that lay too far behind the best in the case before, or were left out there already."""
    before = case_before(data, minutes, fold)
    if before is None:
        return set()
    results = {case.label: file.results.get(case.key, {}) for case in auto_cases(*before, scale)}
    dice = {label: result["mean_dice"] for label, result in results.items() if "mean_dice" in result}
    least = max(dice.values(), default=0.0) - BEHIND[minutes]
    behind = {label for label, value in dice.items() if label != AUTO and value < least}
    return behind | far_behind(file, *before, scale)


def held_back(suite: str, file: ResultFile, scale: float) -> Iterator[Case]:
    """Every fold, scored by networks that trained on the others."""
    for fold in range(FOLDS):
        yield Case(suite, AUTO, HIPPOCAMPUS, AUTO, LONG * scale, fold, FOLDS)


SUITES: dict[str, Callable[[ResultFile, float], Iterator[Case]]] = {
    COSTS: costs,
    "auto": auto,
    "networks": networks,
    "losses": losses,
    "refit": partial(held_back, "refit"),
    "ensemble": partial(held_back, "ensemble"),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hippocampus", metavar="DIR", help="folder of Task04_Hippocampus")
    parser.add_argument("--demo", metavar="DIR", help="folder of the demo data (python -m core demo DIR)")
    parser.add_argument("--other-demo", metavar="DIR", help="folder of demo data of another seed (demo DIR --seed 1)")
    parser.add_argument(
        "--fetal-atlas", metavar="DIR", help="folder of the atlas of the fetal brain, layout fetal-atlas"
    )
    parser.add_argument("--only", nargs="+", choices=SUITES, default=list(SUITES), help="suites to measure")
    parser.add_argument("--labels", nargs="+", help="networks, losses or presets to measure; default: all")
    parser.add_argument("--out", type=Path, default=OUT, help="file of the results (default: %(default)s)")
    parser.add_argument("--work", type=Path, help="keep the runs in this folder, and reuse those that have finished")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--scale", type=float, default=1.0, help="multiple of every budget, to try the program out")
    parser.add_argument("--steps-per-minute", choices=("measured",), help="convert budgets to numbers of steps")
    parser.add_argument("--jobs", type=int, default=1, help="cases at once; needs --steps-per-minute (default: 1)")
    parser.add_argument("--again", action="store_true", help="measure the cases again that are in the file")
    parser.add_argument("--again-failed", action="store_true", help="measure the cases again that failed before")
    args = parser.parse_args()
    folders = {
        HIPPOCAMPUS: args.hippocampus,
        DEMO: args.demo,
        OTHER_DEMO: args.other_demo,
        FETAL: args.fetal_atlas,
    }
    folders = {name: str(Path(folder).absolute()) for name, folder in folders.items() if folder}
    if not folders and args.only != [COSTS]:
        parser.error(f"expected the folder of at least one data set (--hippocampus DIR), or --only {COSTS}")
    if args.jobs < 1 or (args.jobs > 1 and not args.steps_per_minute):
        parser.error(f"expected --jobs 1, or more with --steps-per-minute measured; found {args.jobs}")
    file = ResultFile(args.out)
    with tempfile.TemporaryDirectory() as temporary:
        work = (args.work or Path(temporary)).absolute()
        work.mkdir(parents=True, exist_ok=True)
        in_steps = args.steps_per_minute is not None
        measuring = Measuring(folders, work, file, in_steps, args.device, args.jobs, args.again)
        failed = measure_all(measuring, args)
    return 1 if failed else 0


def measure_all(measuring: Measuring, args: argparse.Namespace) -> int:
    """Measure what is not in the file; returns the number of cases that failed."""
    for wanted in list(missing(measuring, args, set())):
        measuring.calibrate(wanted)  # one after the other, so that speeds are compared that were measured together
    tried, failed = set[str](), 0
    running = set[Future[bool]]()
    with ThreadPoolExecutor(measuring.jobs) as pool:
        while True:
            case = next(missing(measuring, args, tried), None)
            if case and len(running) < measuring.jobs:
                left = sum(1 for _ in missing(measuring, args, tried))
                print(f"{time.strftime('%H:%M:%S')}  {case.key}  ({left} to measure)", file=sys.stderr, flush=True)
                tried.add(case.key)
                running.add(pool.submit(_measure, measuring, case))
            elif running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                failed += sum(not future.result() for future in done)
            else:
                return failed


def _measure(measuring: Measuring, case: Case) -> bool:
    """Measure a case and print what came out; returns whether it could be measured."""
    result = measuring.measure(case)
    text = result.get("error") or _measured(result)
    print(f"{time.strftime('%H:%M:%S')}  {case.key}: {text}, {result['wall_s']} s", file=sys.stderr, flush=True)
    return "error" not in result


def _measured(result: dict[str, Any]) -> str:
    return f"{result['ms']:.0f} ms" if result["suite"] == COSTS else f"Dice {result['mean_dice']:.4f}"


def missing(measuring: Measuring, args: argparse.Namespace, tried: set[str]) -> Iterator[Case]:
    """The cases that are left to measure, by the results so far."""
    for suite in args.only:
        for case in SUITES[suite](measuring.file, args.scale):
            done = measuring.file.results.get(case.key)
            again = args.again or (args.again_failed and done is not None and "error" in done)
            wanted = (case.suite == COSTS or case.data in measuring.folders) and (
                not args.labels or case.label in args.labels
            )
            if wanted and case.key not in tried and (done is None or again):
                yield case


if __name__ == "__main__":
    sys.exit(main())
