"""Makes the ready-made model: trains on the demo data, measures it on a subject it never saw, writes its card.

``make demo-model`` runs this. Every figure in the card comes from the commands below; nothing in it is typed by hand.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from core.checkpointing.metadata import read_metadata  # noqa: E402
from core.config import ModelConfig  # noqa: E402

FOLDER = ROOT / "checkpoints" / "demo-model"
TEST, VAL = "subject-1", "subject-2"
OPTIONS = ["--preset", "fast", "--test-subjects", TEST, "--val-subjects", VAL]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10, help="time for training, validation included")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of the model")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as runs:
        model = Path(runs) / "model.safetensors"
        training = ["train", "demo", *OPTIONS, "--minutes", f"{args.minutes:g}", "--name", "demo-model"]
        run = core(*training, "--checkpoints", runs).split()[0]
        exported = json.loads(core("export", run, "--out", str(model), "--json", "--checkpoints", runs))
        found = json.loads(core("evaluate", str(model), "demo", "--split", "test", "--json"))
        for local in ("run", "checkpoint", "data"):  # folders of this machine
            del found[local]
        args.out.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(model, args.out / model.name)
        network = read_metadata(model).train_config.model
    (args.out / "evaluation.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    (args.out / "README.md").write_text(card(exported, found, network, args.minutes), "utf-8")
    return 0


def core(*arguments: str) -> str:
    """What a command printed; its progress goes to the terminal. A failure ends this program, too."""
    sys.stderr.write(f"python -m core {shlex.join(arguments)}\n")
    return subprocess.run(
        [sys.executable, "-m", "core", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    ).stdout


def card(exported: dict[str, Any], found: dict[str, Any], network: ModelConfig, minutes: float) -> str:
    """The model card, from the reports of ``export`` and ``evaluate``."""
    classes, mean, split = found["classes"], found["mean"], exported["split"]
    rows = [
        f"| {c} | {mean['dice'][c]:.3f} | {mean['hd95_mm'][c]:.1f} mm | {mean['asd_mm'][c]:.2f} mm | {mean['n'][c]} |"
        for c in classes
    ]
    channels = "-".join(map(str, network.channels))
    half = " at half resolution with the image beside it for detail" if network.full_resolution == "detail" else ""
    average = sum(mean["dice"][c] for c in classes) / len(classes)
    return f"""\
# The ready-made model
A small network that segments {", ".join(classes)} in {" and ".join(exported["modalities"])} images like those of the
synthetic demo data. It is there so that Review, Predict and Quiz have something to show before anything was trained.

**For research and teaching, not a medical device.** It has never seen a real brain: on real images it will be wrong.

| | |
|---|---|
| Network | 3D U-Net{half}, channels {channels}, {network.norm} normalisation, {exported["parameters"]:,} parameters |
| Input | {", ".join(exported["modalities"])} (one file each), 1 mm, skull-stripped, z-scored by the program |
| Output | {", ".join(classes)}, in the input's own geometry |
| Training data | {exported["dataset"]["name"]}: {len(split["train"])} synthetic subjects, made by the program |
| Held out | {", ".join(split["val"])} chose the epoch; {", ".join(split["test"])} was never looked at |
| Training | preset `fast`, {minutes:g} minutes, {exported["epoch"]} epochs, {found["device"]}, {os.cpu_count()} cores |
| File | `model.safetensors`, {exported["bytes"] / 1e6:.1f} MB: weights and description, no training state |

## How good it is
On {", ".join(split["test"])} (synthetic, never seen), whole volume, background left out; what the measures mean is in
[docs/metrics.md](../../docs/metrics.md). One subject says little about others: the figures show that it works, no more.

| Class | Dice | HD95 | ASD | n |
|---|---|---|---|---|
{chr(10).join(rows)}

Mean Dice {average:.3f}. All of it: `evaluation.json`.

## Make it again
```
make demo-model MINUTES={minutes:g}
```
makes the demo data where it is missing, trains, measures, and writes this folder. The demo data are the same on every
machine; training under a time budget is not, so the figures will differ a little.

## Limits
- Synthetic anatomy, bent from one template (MNI152); contrasts imitate six-month-old infants. No lesions, no artefacts
  of motion, one scanner, one voxel size.
- Real images, other modalities, other ages: train a model of your own, or fine-tune this one with
  `python -m core train DATA --init-from checkpoints/demo-model/model.safetensors`.

## Licence
Apache-2.0, as the program. The training data are derived from the ICBM 2009 nonlinear symmetric MNI152 maps,
(C) 1993-2009 Louis Collins, McGill University; their terms are in [NOTICE](../../NOTICE).
"""


if __name__ == "__main__":
    raise SystemExit(main())
