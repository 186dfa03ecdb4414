"""What Dice a preset reaches in a number of minutes: trains and scores held-out subjects with the real commands.

    python benchmarks/dice_in_minutes.py DATA --minutes 10 --seeds 0 1 2 --folds 5 --fold 0 [--json] [-- TRAIN-OPTIONS]

Scored is the last checkpoint, in whole volumes: the best one was chosen on the very subjects that it would be scored
on. What stands after ``--`` goes to ``train`` as it is.
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
    parser.add_argument("--minutes", type=float, default=10, help="time budget of each run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--checkpoints", type=Path, help="keep the runs there instead of deleting them")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    args = parser.parse_args(own)
    with tempfile.TemporaryDirectory() as temporary:
        checkpoints = args.checkpoints or Path(temporary)
        results = [measure(args, seed, checkpoints, extra) for seed in args.seeds]
    report(args, results)
    return 0


def measure(args: argparse.Namespace, seed: int, checkpoints: Path, extra: list[str]) -> dict[str, Any]:
    """Train one seed and score its held-out subjects."""
    began = time.monotonic()
    run = core(
        "train", args.data, "--preset", args.preset, "--minutes", str(args.minutes), "--folds", str(args.folds),
        "--fold", str(args.fold), "--seed", str(seed), "--name", f"{args.preset}-{seed}",
        "--checkpoints", str(checkpoints), *extra,
    ).splitlines()[0]  # fmt: skip
    wall_s = time.monotonic() - began
    last = checkpoints / run / "last.safetensors"
    scores = json.loads(core("evaluate", str(last), args.data, "--split", "val", "--json"))
    mean = scores["mean"]
    dice = statistics.mean(mean["dice"].values())
    told = ", ".join(f"{name} {value:.4f}" for name, value in mean["dice"].items())
    print(f"seed {seed}: mean Dice {dice:.4f} ({told}), n = {len(scores['subjects'])}, {wall_s:.0f} s", file=sys.stderr)
    return {"seed": seed, "mean_dice": dice, **mean, "wall_s": round(wall_s, 1), "mode": scores["mode"]}


def core(*arguments: str) -> str:
    """Run a command of the program; its standard output. Progress stays on this one's standard error."""
    done = subprocess.run([sys.executable, "-m", "core", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout


def report(args: argparse.Namespace, results: list[dict[str, Any]]) -> None:
    import torch

    values = [r["mean_dice"] for r in results]
    machine = f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"
    if args.json:
        print(json.dumps({"machine": machine, "minutes": args.minutes, "preset": args.preset, "seeds": results}))
        return
    spread = f", from {min(values):.4f} to {max(values):.4f}" if len(values) > 1 else ""
    print(f"{machine}: {args.preset}, {args.minutes:g} minutes, {len(values)} seeds:")
    print(f"mean Dice {statistics.mean(values):.4f}{spread}, held-out subjects, whole volumes, background left out")


if __name__ == "__main__":
    sys.exit(main())
