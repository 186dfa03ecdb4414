"""Makes the ready-made model: trains on the demo data, evaluates on a test subject, writes the model card.

``make demo-model`` runs this script. Every figure in the card is measured by the commands below.
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
from core.paths import DEMO_MODEL, demo_example_folder, demo_folder, demo_model_path  # noqa: E402
from core.runs import example  # noqa: E402
from core.runs.predictions import portable_record, read_predictions  # noqa: E402

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
        run_id = run_command(*training, "--checkpoints", runs).split()[0]
        export = json.loads(run_command("export", run_id, "--out", str(model), "--json", "--checkpoints", runs))
        evaluation = json.loads(run_command("evaluate", str(model), "demo", "--split", "test", "--json"))
        for key in ("run", "checkpoint", "data"):  # paths on this machine
            del evaluation[key]
        args.out.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(model, args.out / model.name)
        if args.out == FOLDER:
            write_example(Path(runs))
        network = read_metadata(model).train_config.model
    (args.out / "evaluation.json").write_text(json.dumps(evaluation, indent=1) + "\n", "utf-8")
    (args.out / "README.md").write_text(card(export, evaluation, network, args.minutes), "utf-8")
    return 0


def write_example(root: Path) -> None:
    """Write the shipped example: the test subject, and its segmentation by the model."""
    folder = demo_example_folder()
    folder.mkdir(exist_ok=True)
    for scan in demo_folder().glob(f"{TEST}-*.nii.gz"):
        shutil.copyfile(scan, folder / scan.name)
    run_command("evaluate", DEMO_MODEL, "demo", "--subject", TEST, "--keep", "--json", "--checkpoints", str(root))
    kept = read_predictions(root, demo_model_path(), demo_folder())[TEST]
    record = json.loads(kept.file.with_name(f"{TEST}.json").read_text("utf-8"))
    (folder / example.RECORD).write_text(json.dumps(portable_record(record), indent=1) + "\n", "utf-8")
    shutil.copyfile(kept.file, folder / example.SEGMENTATION)


def run_command(*arguments: str) -> str:
    """Run a command of the program; returns its standard output. Its progress goes to standard error.

    Raises
    ------
    CalledProcessError
        If the command fails.
    """
    sys.stderr.write(f"python -m core {shlex.join(arguments)}\n")
    return subprocess.run(
        [sys.executable, "-m", "core", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    ).stdout


def card(export: dict[str, Any], evaluation: dict[str, Any], network: ModelConfig, minutes: float) -> str:
    """The model card, from the reports of ``export`` and ``evaluate``."""
    classes, mean, split = evaluation["classes"], evaluation["mean"], export["split"]
    rows = [
        f"| {c} | {mean['dice'][c]:.3f} | {mean['hd95_mm'][c]:.1f} mm | {mean['asd_mm'][c]:.2f} mm | {mean['n'][c]} |"
        for c in classes
    ]
    channels = "-".join(map(str, network.channels))
    half = " at half resolution with the image beside it for detail" if network.full_resolution == "detail" else ""
    device = evaluation["device"]
    average = sum(mean["dice"][c] for c in classes) / len(classes)
    return f"""\
# The ready-made model
A small network that segments {", ".join(classes)} in {" and ".join(export["modalities"])} images like those of the
synthetic demo data. It is there so that Review, Predict and Quiz have something to show before anything was trained.

**For research and teaching, not a medical device.** It has never seen a real brain: on real images it will be wrong.

| | |
|---|---|
| Network | 3D U-Net{half}, channels {channels}, {network.norm} normalisation, {export["parameters"]:,} parameters |
| Input | {", ".join(export["modalities"])} (one file each), 1 mm, skull-stripped, z-scored by the program |
| Output | {", ".join(classes)}, in the input's own geometry |
| Training data | {export["dataset"]["name"]}: {len(split["train"])} synthetic subjects, made by the program |
| Held out | {", ".join(split["val"])} chose the epoch; {", ".join(split["test"])} was never looked at |
| Training | preset `fast`, {minutes:g} minutes, {export["epoch"]} epochs, {device}, {os.cpu_count()} cores |
| File | `model.safetensors`, {export["bytes"] / 1e6:.1f} MB: weights and description, no training state |
| Example | `example/`: {TEST} and its segmentation by this model, shown by Review and Quiz at once |

## How good it is
On {", ".join(split["test"])} (synthetic, never seen), whole volume, background left out; what the measures mean is in
[docs/metrics.md](../../docs/metrics.md). One subject is little evidence: the figures show only that it works.

| Class | Dice | HD95 | ASD | n |
|---|---|---|---|---|
{chr(10).join(rows)}

Mean Dice {average:.3f}. All of it: `evaluation.json`.

## Make it again
```
make demo-model MINUTES={minutes:g}
```
makes the demo data where it is missing, trains, measures, and writes this folder with its example. The demo data are
the same on every machine; training under a time budget is not, so the figures will differ a little.

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
