"""Writes the tables of README.md and RESULTS.md from the results of benchmarks/accuracy.py:

    python benchmarks/write_tables.py [--results benchmarks/accuracy.json] [--check]

A table stands between the lines ``<!-- table: NAME, written by benchmarks/write_tables.py -->`` and ``<!-- end -->``.
With ``--check`` nothing is written, and the exit status is 1 where a file would change.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.accuracy import AUTO_CASES, BEST, DEMO, HIPPOCAMPUS, OUT
from benchmarks.result_file import ResultFile
from core.presets import AUTO, PRESETS

ROOT = Path(__file__).resolve().parents[1]
FILES = ("README.md", "benchmarks/RESULTS.md")
BLOCK = re.compile(
    r"(<!-- table: (?P<name>[a-z ]+), written by benchmarks/write_tables.py -->\n).*?(<!-- end -->)", re.DOTALL
)
MISSING = "–"
TOLERANCE = 0.002  # by which auto may lie below the best other preset
GOALS = {"refit": 0.89, "ensemble": 0.895}
SHORT_TEXT = (
    "Three minutes on two CPU cores, mean Dice of 16 held-out hippocampi; classes, folds and losses: "
    "[RESULTS.md](benchmarks/RESULTS.md).\n"
)
Result = dict[str, Any]


def networks_short(file: ResultFile) -> list[str]:
    """The networks of the README: the mean over the classes."""
    rows = [("Network", "Parameters", "ms per step", "Memory", "Dice")]
    for first in _by_dice(_of(file, "networks", HIPPOCAMPUS, fold=0)):
        parameters, _, ms, memory = _cost(first)
        rows.append((first["label"], parameters, ms, memory, _dice(first["mean_dice"])))
    return _table(rows)


def networks(file: ResultFile) -> list[str]:
    """All networks, by their Dice."""
    on_first = _by_dice(_of(file, "networks", HIPPOCAMPUS, fold=0))
    classes = list(on_first[0]["dice"]) if on_first else []
    rows = [("Network", "Parameters", "GFLOP", "ms per step", "Memory", *classes, "Mean")]
    rows += [(r["label"], *_cost(r), *(_spread(r, name) for name in classes), _dice(r["mean_dice"])) for r in on_first]
    return [*_table(rows), *_notes(on_first)]


def best_networks(file: ResultFile) -> list[str]:
    """The best networks on three folds, and on the demo data."""
    best = [r["label"] for r in _by_dice(_of(file, "networks", HIPPOCAMPUS, fold=0))[:BEST]]
    demo = {r["label"]: r for r in _of(file, "networks", DEMO)}
    classes = list(next(iter(demo.values()))["dice"]) if demo else []
    rows = [("Network", "Fold 0", "Fold 1", "Fold 2", "Mean, spread", *(f"demo {name}" for name in classes))]
    for label in best:
        folds = {r["fold"]: r["mean_dice"] for r in _of(file, "networks", HIPPOCAMPUS) if r["label"] == label}
        values = list(folds.values())
        mean = f"{_dice(statistics.mean(values))} ± {_dice(statistics.pstdev(values))}" if len(values) == 3 else MISSING
        of_demo = demo.get(label, {}).get("dice", {})
        rows.append((label, *(_dice(folds.get(n)) for n in range(3)), mean, *(_dice(of_demo.get(c)) for c in classes)))
    return _table(rows)


def losses(file: ResultFile) -> list[str]:
    """All losses, by their Dice."""
    found = _by_dice(_of(file, "losses", HIPPOCAMPUS))
    classes = list(found[0]["dice"]) if found else []
    rows = [("Loss", "ms per step", *classes, "Mean")]
    rows += [
        (r["label"], _number(r.get("ms"), 0), *(_spread(r, name) for name in classes), _dice(r["mean_dice"]))
        for r in found
    ]
    return [*_table(rows), *_notes(found)]


def auto(file: ResultFile) -> list[str]:
    """The preset auto beside the others, for each budget and fold."""
    rows = [("Data, time, fold", AUTO, *PRESETS, "auto - best")]
    found: list[Result] = []
    for data, minutes, fold in AUTO_CASES:
        of_case = [r for r in _of(file, "auto", data, fold) if r["minutes"] == minutes]
        dice = {r["label"]: r["mean_dice"] for r in of_case}
        found += of_case
        if not dice:
            continue
        others = [dice[name] for name in PRESETS if name in dice]
        difference = dice[AUTO] - max(others) if AUTO in dice and others else None
        verdict = MISSING if difference is None else f"{difference:+.4f}{' (missed)' * (difference < -TOLERANCE)}"
        rows.append((f"{data}, {minutes:g} min, {fold}", *(_dice(dice.get(n)) for n in (AUTO, *PRESETS)), verdict))
    return [*_table(rows), *_notes(found)]


def held_back(file: ResultFile) -> list[str]:
    """Refit and ensemble, scored on subjects that no run has seen."""
    rows = [("", *(f"Fold {n}" for n in range(5)), "Mean", "Goal")]
    found: list[Result] = []
    for suite, goal in GOALS.items():
        dice = {r["fold"]: r["mean_dice"] for r in _of(file, suite, HIPPOCAMPUS)}
        found += _of(file, suite, HIPPOCAMPUS)
        mean = statistics.mean(dice.values()) if len(dice) == 5 else None
        verdict = "" if mean is None else f"{goal:g}, {'reached' if mean >= goal else 'missed'}"
        if dice:
            rows.append((suite, *(_dice(dice.get(n)) for n in range(5)), _dice(mean), verdict or f"{goal:g}"))
    return [*_table(rows), *_notes(found)]


TABLES: dict[str, Callable[[ResultFile], list[str]]] = {
    "networks in short": networks_short,
    "networks": networks,
    "best networks": best_networks,
    "losses": losses,
    "auto": auto,
    "refit and ensemble": held_back,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=OUT, help="file of the results (default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 where a file would change")
    args = parser.parse_args()
    file, changed = ResultFile(args.results), False
    for name in FILES:
        path = ROOT / name
        before = path.read_text()
        after = fill(before, file)
        changed |= before != after
        if not args.check:
            path.write_text(after)
    return int(args.check and changed)


def fill(text: str, file: ResultFile) -> str:
    """A text with each of its tables written anew."""

    def block(match: re.Match[str]) -> str:
        lines = TABLES[match["name"]](file)
        if match["name"] == "networks in short":
            lines = ["## Networks", SHORT_TEXT, *lines] if len(lines) > 1 else []
        return match[1] + "".join(f"{line}\n" for line in lines) + match[3]

    return BLOCK.sub(block, text)


def _of(file: ResultFile, suite: str, data: str, fold: int | None = None) -> list[Result]:
    """Results with the budgets of the program, not of a trial with a part of them."""
    found = [r for r in file.of_suite(suite) if r["data"] == data and r["minutes"] >= 1]
    return [r for r in found if fold is None or r["fold"] == fold]


def _by_dice(results: Sequence[Result]) -> list[Result]:
    return sorted(results, key=lambda r: -r["mean_dice"])


def _cost(result: Result) -> tuple[str, str, str, str]:
    memory = f"{result['memory_mb']:,} MB"
    return f"{result['parameters']:,}", _number(result["gflop"], 1), _number(result.get("ms"), 0), memory


def _spread(result: Result, name: str) -> str:
    spread = result["spread"].get(name)
    return _dice(result["dice"][name]) + ("" if spread is None else f" ± {spread:.3f}")


def _dice(value: float | None) -> str:
    return _number(value, 4)


def _number(value: float | None, decimals: int) -> str:
    return MISSING if value is None else f"{value:,.{decimals}f}"


def _notes(results: Sequence[Result]) -> list[str]:
    """Where and how the results were measured."""
    if not results:
        return []
    machines = sorted({r["machine"] for r in results})
    stepped = sum(bool(r.get("in_steps")) for r in results)
    budgets = (
        "" if not stepped else f"; {stepped} of {len(results)} with budgets as numbers of steps of an idle machine"
    )
    subjects = ", ".join(str(n) for n in sorted({r["subjects"] for r in results}))
    return ["", f"{'; '.join(machines)}{budgets}. Last checkpoints, whole volumes, n = {subjects}; ± over subjects."]


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    if len(rows) < 2:
        return ["Not measured yet."]
    head, *body = rows
    return [f"| {' | '.join(head)} |", "|---" * len(head) + "|", *(f"| {' | '.join(row)} |" for row in body)]


if __name__ == "__main__":
    sys.exit(main())
