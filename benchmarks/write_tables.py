"""Writes the tables of README.md and RESULTS.md from the results of benchmarks/accuracy.py:

    python benchmarks/write_tables.py [--results benchmarks/accuracy.json] [--check]

A table stands between the lines ``<!-- table: NAME, written by benchmarks/write_tables.py -->`` and ``<!-- end -->``.
What is not measured yet is a dash, and the text below a table says how many of its cases are measured, which failed and
why, and on which machines, with which versions and when. With ``--check`` nothing is written, and the exit status is 1
where a file would change.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.accuracy import (
    AUTO_CASES,
    BEHIND,
    BEST,
    DEMO,
    FETAL,
    FOLDS,
    HIPPOCAMPUS,
    OTHER_DEMO,
    OUT,
    far_behind,
)
from benchmarks.accuracy_runs import COSTS
from benchmarks.result_file import ResultFile
from core.config import ModelConfig
from core.formatting import format_size
from core.losses import LOSSES
from core.models import MODELS, resolve
from core.presets import AUTO, PRESET_NAMES, PRESETS

ROOT = Path(__file__).resolve().parents[1]
FILES = ("README.md", "benchmarks/RESULTS.md")
BLOCK = re.compile(
    r"(<!-- table: (?P<name>[a-z ]+), written by benchmarks/write_tables.py -->\n).*?(<!-- end -->)", re.DOTALL
)
MISSING = "–"
BUSY = 1.5  # load for each core above which times are not shown
TOLERANCE = 0.002  # by which auto may lie below the best other preset
GOALS = {"refit": 0.89, "ensemble": 0.895}
SHORT_TEXT = (
    "A training step at the network's own widths, and the mean Dice of held-out hippocampi after three minutes. "
    "Classes, folds, losses: [RESULTS.md](benchmarks/RESULTS.md).\n"
)
Result = dict[str, Any]


def networks_short(file: ResultFile) -> list[str]:
    """The networks of the README: cost, and the mean over the classes."""
    cost, dice = _costs(file), _first_fold(file)
    rows = [("Network", "Parameters", "ms per step", "Memory", "Dice")]
    for name in _by_dice_then_registry(cost, dice):
        parameters, _, ms, memory, _ = _cost(cost.get(name))
        rows.append((name, parameters, ms, memory, _mean(dice.get(name))))
    if len(rows) < 2:
        return []
    notes = _notes(cost.values(), "Steps", len(MODELS), _failed(file, COSTS))
    notes += _notes(dice.values(), "Dice", len(MODELS), _failed(file, "networks", HIPPOCAMPUS, 0))
    return ["## Networks", SHORT_TEXT, *_table(rows), "", " ".join(notes)]


def costs(file: ResultFile) -> list[str]:
    """What a training step of each network costs."""
    found = _costs(file)
    rows = [("Network", "Parameters", "GFLOP", "ms", "Measured memory", "Estimated")]
    rows += [(name, *_cost(found[name])) for name in MODELS if name in found]
    return [*_table(rows), *_below(_notes(found.values(), "Networks", len(MODELS), _failed(file, COSTS)))]


def networks(file: ResultFile) -> list[str]:
    """All networks, by their Dice, then those without."""
    cost, dice = _costs(file), _first_fold(file)
    classes = list(next(iter(dice.values()))["dice"]) if dice else []
    rows = [("Network", "Parameters", "GFLOP", "ms per step", "Memory", *classes, "Mean")]
    for name in _by_dice_then_registry(cost, dice):
        scores = [_spread(dice.get(name), label) for label in classes]
        rows.append((name, *_cost(cost.get(name))[:4], *scores, _mean(dice.get(name))))
    notes = _notes(dice.values(), "Dice", len(MODELS), _failed(file, "networks", HIPPOCAMPUS, 0))
    if narrowed := [name for name, result in dice.items() if _narrowed(result)]:
        widths = "; ".join(f"{name} with {'-'.join(map(str, dice[name]['channels']))} channels" for name in narrowed)
        notes.append(f"Trained with the widths that auto chose, not those of the cost: {widths}.")
    return [*_table(rows), *_below(notes)]


def best_networks(file: ResultFile) -> list[str]:
    """The best networks on three folds, and on the demo data."""
    first = _first_fold(file)
    best = list(first)[:BEST]
    demo = {r["label"]: r for r in _of(file, "networks", DEMO)}
    classes = list(next(iter(demo.values()))["dice"]) if demo else []
    rows = [("Network", "Fold 0", "Fold 1", "Fold 2", "Mean ± SD of folds", *(f"demo {name}" for name in classes))]
    found: list[Result] = []
    for label in best:
        of_network = [r for r in _of(file, "networks", HIPPOCAMPUS) if r["label"] == label]
        folds = {r["fold"]: r["mean_dice"] for r in of_network}
        values = list(folds.values())
        mean = f"{_dice(statistics.mean(values))} ± {_dice(statistics.stdev(values))}" if len(values) == 3 else MISSING
        of_demo = demo.get(label, {}).get("dice", {})
        rows.append((label, *(_dice(folds.get(n)) for n in range(3)), mean, *(_dice(of_demo.get(c)) for c in classes)))
        found += [*of_network, *([demo[label]] if label in demo else [])]
    notes = _notes(found, "Trainings", 4 * BEST, _failed(file, "networks"))
    if best and len(first) < len(MODELS):
        notes.insert(0, f"The best of the {len(first)} networks that are measured on fold 0.")
    return [*_table(rows), *_below(notes)]


def losses(file: ResultFile) -> list[str]:
    """All losses, by their Dice."""
    found = _by_dice(_of(file, "losses", HIPPOCAMPUS))
    classes = list(found[0]["dice"]) if found else []
    rows = [("Loss", "ms per step", *classes, "Mean")]
    rows += [(r["label"], _number(r.get("ms"), 0), *(_spread(r, name) for name in classes), _mean(r)) for r in found]
    cases = sum(not entry.extras for entry in LOSSES.values())
    return [*_table(rows), *_below(_notes(found, "Losses", cases, _failed(file, "losses")))]


def auto(file: ResultFile) -> list[str]:
    """The preset auto beside the others, for each budget and fold."""
    rows = [("Data, time, fold", AUTO, *PRESETS, "auto - best")]
    failed = _failed(file, "auto")
    found: list[Result] = []
    cases = 0
    for data, minutes, fold in AUTO_CASES:
        of_case = [r for r in _of(file, "auto", data, fold) if r["minutes"] == minutes]
        behind = far_behind(file, data, minutes, fold)
        dice = {r["label"]: r["mean_dice"] for r in of_case}
        found += of_case
        cases += len({*PRESET_NAMES} - behind)
        if not dice:
            continue
        without = {r["label"] for r in failed if (r["data"], r["minutes"], r["fold"]) == (data, minutes, fold)}
        others = [dice[name] for name in PRESETS if name in dice]
        complete = AUTO in dice and others and {*PRESETS} <= {*dice, *without, *behind}
        difference = round(dice[AUTO] - max(others), 4) + 0.0 if complete else None  # + 0.0: no minus before zero
        verdict = MISSING if difference is None else f"{difference:+.4f}{' (missed)' * (difference < -TOLERANCE)}"
        cells = ("behind" if name in behind - {*dice} else _dice(dice.get(name)) for name in (AUTO, *PRESETS))
        rows.append((f"{data}, {minutes:g} min, {fold}", *cells, verdict))
    notes = _notes(found, "Trainings", cases, failed)
    if any("behind" in row for row in rows):
        limits = ", ".join(f"{minutes:g} min: {limit:g}" for minutes, limit in BEHIND.items())
        notes.append(
            "Behind: not measured, as it lay too far below the best with the next shorter budget, or for the shortest "
            f"on fold 0 of {HIPPOCAMPUS} ({limits})."
        )
    return [*_table(rows), *_below(notes)]


def held_back(file: ResultFile) -> list[str]:
    """Refit and ensemble, scored on subjects that no run has seen."""
    rows = [("", *(f"Fold {n}" for n in range(FOLDS)), "Mean", "Goal")]
    found, failed = list[Result](), list[Result]()
    for suite, goal in GOALS.items():
        dice = {r["fold"]: r["mean_dice"] for r in _of(file, suite, HIPPOCAMPUS)}
        found += _of(file, suite, HIPPOCAMPUS)
        failed += _failed(file, suite)
        mean = statistics.mean(dice.values()) if len(dice) == FOLDS else None
        verdict = "" if mean is None else f"{goal:g}, {'reached' if mean >= goal else 'missed'}"
        if dice:
            rows.append((suite, *(_dice(dice.get(n)) for n in range(FOLDS)), _dice(mean), verdict or f"{goal:g}"))
    return [*_table(rows), *_below(_notes(found, "Folds", FOLDS * len(GOALS), failed))]


TABLES: dict[str, Callable[[ResultFile], list[str]]] = {
    "networks in short": networks_short,
    "costs": costs,
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
        before = path.read_text("utf-8")
        after = fill(before, file)
        changed |= before != after
        if not args.check:
            path.write_text(after, "utf-8")
    return int(args.check and changed)


def fill(text: str, file: ResultFile) -> str:
    """A text with each of its tables written anew."""

    def block(match: re.Match[str]) -> str:
        return match[1] + "".join(f"{line}\n" for line in TABLES[match["name"]](file)) + match[3]

    return BLOCK.sub(block, text)


# --- results ----------------------------------------------------------------------------------------------------------


def _costs(file: ResultFile) -> dict[str, Result]:
    """What a training step costs, by network."""
    return {r["label"]: r for r in file.of_suite(COSTS)}


def _first_fold(file: ResultFile) -> dict[str, Result]:
    """Results of the first fold by network, the best first."""
    return {r["label"]: r for r in _by_dice(_of(file, "networks", HIPPOCAMPUS, fold=0))}


def _of(file: ResultFile, suite: str, data: str, fold: int | None = None, failed: bool = False) -> list[Result]:
    """Results with the budgets of the program, not of a trial with a part of them."""
    found = [r for r in file.of_suite(suite, failed) if r["data"] == data and r["minutes"] >= 1]
    return [r for r in found if fold is None or r["fold"] == fold]


def _failed(file: ResultFile, suite: str, data: str = "", fold: int | None = None) -> list[Result]:
    """Cases that failed; of all data sets and folds where none is given."""
    if not data and suite != COSTS:
        return [r for data in (HIPPOCAMPUS, DEMO, OTHER_DEMO, FETAL) for r in _of(file, suite, data, fold, True)]
    return file.of_suite(COSTS, True) if suite == COSTS else _of(file, suite, data, fold, True)


def _by_dice(results: Sequence[Result]) -> list[Result]:
    return sorted(results, key=lambda r: -r["mean_dice"])


def _by_dice_then_registry(cost: dict[str, Result], dice: dict[str, Result]) -> list[str]:
    return [*dice, *(name for name in MODELS if name in cost and name not in dice)]


def _narrowed(result: Result) -> bool:
    """Whether a network was trained with other widths than its own, with which its cost is measured."""
    channels = tuple(result.get("channels", ()))
    return bool(channels) and channels != resolve(ModelConfig(result["label"])).channels


# --- cells and notes --------------------------------------------------------------------------------------------------


def _cost(result: Result | None) -> tuple[str, str, str, str, str]:
    """Parameters, operations, time, measured and estimated memory."""
    if result is None:
        return (MISSING,) * 5
    memory = [_number(result.get(name), 0) for name in ("memory_mb", "estimated_memory_mb")]
    measured, estimated = (text if text == MISSING else f"{text} MB" for text in memory)
    ms = None if _is_busy(result) else result.get("ms")
    return f"{result['parameters']:,}", _number(result["gflop"], 1), _number(ms, 0), measured, estimated


def _is_busy(result: Result) -> bool:
    """Whether so much else ran when a cost was measured that its time says nothing: on an idle machine the load is that
    of the network before, at most the number of cores."""
    load, cores = result.get("load"), result.get("cores")
    return load is not None and cores is not None and load > BUSY * cores


def _spread(result: Result | None, name: str) -> str:
    if result is None:
        return MISSING
    spread = result["spread"].get(name)
    return _dice(result["dice"][name]) + ("" if spread is None else f" ± {spread:.3f}")


def _mean(result: Result | None) -> str:
    return _dice(None if result is None else result["mean_dice"])


def _dice(value: float | None) -> str:
    return _number(value, 4)


def _number(value: float | None, decimals: int) -> str:
    return MISSING if value is None else f"{value:,.{decimals}f}"


def _below(notes: Sequence[str]) -> list[str]:
    return ["", " ".join(notes)] if notes else []


def _notes(results: Iterable[Result], what: str, cases: int, failed: Sequence[Result]) -> list[str]:
    """How many cases are measured, which failed, and where, when and how they were measured; nothing without any."""
    found = list(results)
    if not found and not failed:
        return []
    left = cases - len(found) - len(failed)
    notes = [f"{what}: {len(found)} of {cases} measured{', the rest not yet' if left > 0 else ''}."]
    notes += [f"{r['label']} failed: {r['error']}." for r in failed]
    return [*notes, *_how(found), *_origins(found)]


def _how(results: Sequence[Result]) -> list[str]:
    if not results:
        return []
    if results[0]["suite"] == COSTS:
        settings = {(tuple(r["settings"]["sub_volume"]), r["batch"], r["precision"]) for r in results}
        notes = [
            f"A step at {format_size(size)}, batch {batch}, in {precision} (`python -m core bench models`)."
            for size, batch, precision in sorted(settings)
        ]
        if busy := sum(map(_is_busy, results)):
            times = "1 time is" if busy == 1 else f"{busy} times are"
            notes.append(f"{times} left out, measured while the machine was busy.")
        return notes
    stepped = sum(bool(r.get("in_steps")) for r in results)
    budgets = f"; {stepped} of {len(results)} with budgets as steps of an idle machine" if stepped else ""
    subjects = ", ".join(str(n) for n in sorted({r["subjects"] for r in results}))
    return [f"Last checkpoints, whole volumes, n = {subjects}; ± over subjects{budgets}."]


def _origins(results: Sequence[Result]) -> list[str]:
    """The machines with versions and dates; with several, what was measured on each of them but the first."""
    machines: dict[str, dict[str, list[Result]]] = {}
    for r in results:
        machines.setdefault(r["machine"], {}).setdefault(r.get("program", ""), []).append(r)
    named, texts = False, list[str]()
    for machine, programs in sorted(machines.items(), key=lambda item: -sum(map(len, item[1].values()))):
        parts = [machine]
        for program, members in sorted(programs.items(), key=lambda item: -len(item[1])):
            dates = sorted({r["date"] for r in members if "date" in r})
            days = [] if not dates else [dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"]
            only = f" ({', '.join(dict.fromkeys(r['label'] for r in members))})" if named else ""
            parts.append(", ".join([*([program] if program else []), *days]) + only)
            named = True
        texts.append("; ".join(part for part in parts if part))
    return [f"On {'. On '.join(texts)}."]


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    if len(rows) < 2:
        return ["Not measured yet."]
    head, *body = rows
    return [f"| {' | '.join(head)} |", "|---" * len(head) + "|", *(f"| {' | '.join(row)} |" for row in body)]


if __name__ == "__main__":
    sys.exit(main())
