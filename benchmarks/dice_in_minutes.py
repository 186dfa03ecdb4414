"""Dice that a preset reaches within a time budget: trains, and scores held-out subjects, with the program's commands.

    python benchmarks/dice_in_minutes.py DATA --minutes 1 10 --seeds 0 1 2 --folds 5 --fold 0 1 [--until 0.875] [--json]
        [-- TRAIN-OPTIONS]

Every time budget is measured with every seed and fold. The last checkpoint is scored on whole volumes, because the best
one was selected on the held-out subjects themselves. With ``--until``, the benchmark ends at the first time budget
whose mean reaches that Dice. Options after ``--`` are passed to ``train``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.processes import run_command


def main() -> int:
    arguments, train_options = _split(sys.argv[1:], "--")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA", help="folder of the data set")
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--minutes", type=float, nargs="+", default=[10], help="time budgets of a run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--fold", type=int, nargs="+", default=[0], help="folds to hold out, one at a time")
    parser.add_argument("--until", type=float, metavar="DICE", help="stop once a mean reaches this Dice")
    parser.add_argument("--checkpoints", type=Path, help="keep the runs in this folder instead of deleting them")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    args = parser.parse_args(arguments)
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        checkpoints = args.checkpoints or Path(temporary)
        for minutes in sorted(args.minutes):
            for fold in args.fold:
                for seed in args.seeds:
                    results.append(measure(args, minutes, fold, seed, checkpoints, train_options))
            if args.until is not None and mean_dice(results, minutes) >= args.until:
                break
    report(args, results)
    return 0


def measure(
    args: argparse.Namespace, minutes: float, fold: int, seed: int, checkpoints: Path, train_options: list[str]
) -> dict[str, Any]:
    """Train once and score the held-out subjects."""
    started = time.monotonic()
    options = {
        "--preset": args.preset,
        "--minutes": minutes,
        "--folds": args.folds,
        "--fold": fold,
        "--seed": seed,
        "--name": f"{args.preset}-{minutes:g}-{fold}-{seed}",
        "--checkpoints": checkpoints,
    }
    words = [str(word) for option in options.items() for word in option]
    run_id = run_command("train", args.data, *words, *train_options).splitlines()[0]
    wall_s = time.monotonic() - started
    last = checkpoints / run_id / "last.safetensors"
    evaluation = json.loads(run_command("evaluate", str(last), args.data, "--split", "val", "--json"))
    mean = evaluation["mean"]
    dice = statistics.mean(mean["dice"].values())
    class_dice = ", ".join(f"{name} {value:.4f}" for name, value in mean["dice"].items())
    print(
        f"{minutes:g} minutes, fold {fold}, seed {seed}: mean Dice {dice:.4f} ({class_dice}), "
        f"n = {len(evaluation['subjects'])}, {wall_s:.0f} s",
        file=sys.stderr,
    )
    return {
        "minutes": minutes,
        "fold": fold,
        "seed": seed,
        "mean_dice": dice,
        **mean,
        "wall_s": round(wall_s, 1),
        "mode": evaluation["mode"],
    }


def dice_values(results: list[dict[str, Any]], minutes: float) -> list[float]:
    """Mean Dice of each run with this time budget."""
    return [r["mean_dice"] for r in results if r["minutes"] == minutes]


def mean_dice(results: list[dict[str, Any]], minutes: float) -> float:
    """Mean over the runs with this time budget."""
    return statistics.mean(dice_values(results, minutes))


def report(args: argparse.Namespace, results: list[dict[str, Any]]) -> None:
    """Print the results."""
    import torch

    machine = f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"
    if args.json:
        print(json.dumps({"machine": machine, "preset": args.preset, "until": args.until, "runs": results}))
        return
    print(f"{machine}: {args.preset}; held-out subjects, whole volumes, background left out")
    budgets = sorted({r["minutes"] for r in results})
    for minutes in budgets:
        values = dice_values(results, minutes)
        spread = f", from {min(values):.4f} to {max(values):.4f}" if len(values) > 1 else ""
        print(f"{minutes:g} minutes: mean Dice {mean_dice(results, minutes):.4f}{spread}, {len(values)} runs")
    if args.until is not None:
        reached = [minutes for minutes in budgets if mean_dice(results, minutes) >= args.until]
        print(f"Dice {args.until}: " + (f"in {reached[0]:g} minutes" if reached else "not reached"))


def _split(words: list[str], separator: str) -> tuple[list[str], list[str]]:
    if separator not in words:
        return words, []
    index = words.index(separator)
    return words[:index], words[index + 1 :]


if __name__ == "__main__":
    sys.exit(main())
