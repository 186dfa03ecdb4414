"""What Dice a preset reaches in a number of minutes: trains and scores held-out subjects with the real commands.

    python benchmarks/dice_in_minutes.py DATA --minutes 1 10 --seeds 0 1 2 --folds 5 --fold 0 1 [--until 0.875] [--json]
        [-- TRAIN-OPTIONS]

Every number of minutes is measured with every seed and fold. Scored is the last checkpoint, in whole volumes: the best
one was chosen on the very subjects that it would be scored on. With ``--until`` it stops at the first number of minutes
whose mean reaches that Dice. What stands after ``--`` goes to ``train`` as it is.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    words = sys.argv[1:]
    own, extra = (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA", help="folder of the data set")
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--minutes", type=float, nargs="+", default=[10], help="time budgets of a run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--fold", type=int, nargs="+", default=[0], help="which of them are held out, one at a time")
    parser.add_argument("--until", type=float, metavar="DICE", help="stop once a mean reaches it")
    parser.add_argument("--checkpoints", type=Path, help="keep the runs there instead of deleting them")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    args = parser.parse_args(own)
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        checkpoints = args.checkpoints or Path(temporary)
        for minutes in sorted(args.minutes):
            every = [(fold, seed) for fold in args.fold for seed in args.seeds]
            results += [measure(args, minutes, fold, seed, checkpoints, extra) for fold, seed in every]
            if args.until is not None and mean_dice(results, minutes) >= args.until:
                break
    report(args, results)
    return 0


def measure(
    args: argparse.Namespace, minutes: float, fold: int, seed: int, checkpoints: Path, extra: list[str]
) -> dict[str, Any]:
    """Train once and score the held-out subjects."""
    began = time.monotonic()
    run = core(
        "train", args.data, "--preset", args.preset, "--minutes", str(minutes), "--folds", str(args.folds),
        "--fold", str(fold), "--seed", str(seed), "--name", f"{args.preset}-{minutes:g}-{fold}-{seed}",
        "--checkpoints", str(checkpoints), *extra,
    ).splitlines()[0]  # fmt: skip
    wall_s = time.monotonic() - began
    last = checkpoints / run / "last.safetensors"
    scores = json.loads(core("evaluate", str(last), args.data, "--split", "val", "--json"))
    mean = scores["mean"]
    dice = statistics.mean(mean["dice"].values())
    told = ", ".join(f"{name} {value:.4f}" for name, value in mean["dice"].items())
    print(
        f"{minutes:g} minutes, fold {fold}, seed {seed}: mean Dice {dice:.4f} ({told}), n = {len(scores['subjects'])}, "
        f"{wall_s:.0f} s",
        file=sys.stderr,
    )
    return {
        "minutes": minutes, "fold": fold, "seed": seed, "mean_dice": dice, **mean, "wall_s": round(wall_s, 1),
        "mode": scores["mode"],
    }  # fmt: skip


def core(*arguments: str) -> str:
    """Run a command of the program; its standard output. Progress stays on this one's standard error."""
    done = subprocess.run([sys.executable, "-m", "core", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout


def dice_of(results: list[dict[str, Any]], minutes: float) -> list[float]:
    return [r["mean_dice"] for r in results if r["minutes"] == minutes]


def mean_dice(results: list[dict[str, Any]], minutes: float) -> float:
    return statistics.mean(dice_of(results, minutes))


def report(args: argparse.Namespace, results: list[dict[str, Any]]) -> None:
    import torch

    machine = f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"
    if args.json:
        print(json.dumps({"machine": machine, "preset": args.preset, "until": args.until, "runs": results}))
        return
    print(f"{machine}: {args.preset}; held-out subjects, whole volumes, background left out")
    for minutes in sorted({r["minutes"] for r in results}):
        values = dice_of(results, minutes)
        spread = f", from {min(values):.4f} to {max(values):.4f}" if len(values) > 1 else ""
        print(f"{minutes:g} minutes: mean Dice {mean_dice(results, minutes):.4f}{spread}, {len(values)} runs")
    if args.until is not None:
        reached = [m for m in sorted({r["minutes"] for r in results}) if mean_dice(results, m) >= args.until]
        print(f"Dice {args.until}: " + (f"in {reached[0]:g} minutes" if reached else "not reached"))


if __name__ == "__main__":
    sys.exit(main())
