"""Dice of left and right classes with and without swapping their labels in mirrored sub-volumes, on real hippocampi.

    python benchmarks/left_and_right.py TASK04 [--cases 40] [--folds 3] [--epochs 6] [--spacing-mm 2]
        [--requests auto ignore off]

TASK04 is the folder Task04_Hippocampus of the Medical Segmentation Decathlon. Its cases are small boxes around one
hippocampus. Two cases make one subject: the first one as the left half, the second one mirrored as the right half, each
labelled by its side, so that only the side tells the two classes apart. Every fold is trained with every value of
``--lateral`` by the program's commands, and the held-out subjects are scored as whole volumes, also with mirrored
prediction.
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
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import nibabel as nib
import numpy as np

from benchmarks.processes import run_command
from core.datasets import open_dataset
from core.datasets.loading import LoadedSubject, load_subject
from core.types import Size3, triple

NAMES = {"0": "background", "1": "left hippocampus", "2": "right hippocampus"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="TASK04", help="folder of the hippocampus data")
    parser.add_argument("--cases", type=int, default=40, help="cases to make subjects of, two each")
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--spacing-mm", type=float, default=2.0, help="voxel size of training; the cases have 1 mm")
    parser.add_argument("--requests", nargs="+", default=["auto", "ignore", "off"], help="values of --lateral")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        data = make_left_and_right(args.data, Path(temporary) / "data", args.cases)
        print(f"{platform.machine()}, {os.cpu_count()} cores; {args.cases // 2} subjects, {args.folds} folds")
        for request in args.requests:
            rows = [measure(args, data, Path(temporary), request, fold) for fold in range(args.folds)]
            for title, column in zip(("prediction", "mirrored prediction"), zip(*rows, strict=True), strict=True):
                if not all(column):
                    continue
                folds = ", ".join(" / ".join(f"{dice:.3f}" for dice in fold) for fold in column)
                mean = " / ".join(f"{statistics.mean(side):.3f}" for side in zip(*column, strict=True))
                print(f"{request}, {title}: left / right {folds}; mean {mean}", flush=True)
    return 0


def measure(
    args: argparse.Namespace, data: Path, folder: Path, request: str, fold: int
) -> tuple[Sequence[float], Sequence[float]]:
    """Dice of left and right, without and with mirrored prediction, which lateral off does not have."""
    started = time.monotonic()
    options = {
        "--preset": "quick",
        "--epochs": args.epochs,
        "--spacing-mm": ",".join([f"{args.spacing_mm:g}"] * 3),
        "--folds": args.folds,
        "--fold": fold,
        "--lateral": request,
        "--device": "cpu",
        "--checkpoints": folder / "checkpoints",
    }
    words = [str(word) for option in options.items() for word in option]
    run_id = run_command("train", str(data), *words).splitlines()[0]
    last = str(folder / "checkpoints" / run_id / "last.safetensors")
    scores = [_dice(last, data), _dice(last, data, "--mirror") if request != "off" else ()]
    print(f"{request}, fold {fold}: {scores}, {time.monotonic() - started:.0f} s", file=sys.stderr)
    return scores[0], scores[1]


def make_left_and_right(source: Path, folder: Path, cases: int) -> Path:
    """Write a Decathlon folder of subjects with a left and a right half."""
    dataset = open_dataset(source)
    loaded = [load_subject(dataset, id) for id in dataset.labelled_ids[: cases // 2 * 2]]
    size = triple([max(subject.image.shape[axis] for subject in loaded) for axis in (1, 2, 3)])
    training = []
    for number, (left, right) in enumerate(zip(loaded[::2], loaded[1::2], strict=True), start=1):
        name = f"pair_{number:02d}.nii.gz"
        (left_image, left_label), (right_image, right_label) = _half(left, size), _half(right, size)
        image = np.concatenate([left_image, right_image[::-1]])
        label = np.concatenate([left_label, 2 * right_label[::-1]])
        for part, array in (("imagesTr", image), ("labelsTr", label)):
            (folder / part).mkdir(parents=True, exist_ok=True)
            file = nib.Nifti1Image(array, np.eye(4))
            file.header.set_xyzt_units("mm")
            nib.save(file, folder / part / name)
        training.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    content = {"name": "Left and right", "modality": {"0": "MRI"}, "labels": NAMES, "training": training}
    (folder / "dataset.json").write_text(json.dumps(content), "utf-8")
    return folder


def _half(subject: LoadedSubject, size: Size3) -> tuple[np.ndarray, np.ndarray]:
    """Image, scaled by its mean, and label 0 or 1 of a case, at the centre of a box of this size."""
    assert subject.label is not None
    image, label = np.zeros(size, np.float32), np.zeros(size, np.uint8)
    at = tuple(slice((n - m) // 2, (n - m) // 2 + m) for n, m in zip(size, subject.label.shape, strict=True))
    image[at] = 100 * subject.image[0] / subject.image[0].mean()
    label[at] = subject.label > 0
    return image, label


def _dice(checkpoint: str, data: Path, *options: str) -> tuple[float, ...]:
    report = run_command("evaluate", checkpoint, str(data), "--split", "val", "--device", "cpu", "--json", *options)
    return tuple(json.loads(report)["mean"]["dice"].values())


if __name__ == "__main__":
    sys.exit(main())
