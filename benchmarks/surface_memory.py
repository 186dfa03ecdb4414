"""Peak memory and time of the process that makes the surfaces of a case: a brain with four classes of a given size.

    python benchmarks/surface_memory.py [--shape 256 256 192] [--noise 0.12] [--repeats 1]

The brain is that of the demo data (CSF, GM, WM; ``core.datasets.synthetic``), enlarged to the volume, with small
lesions in the white matter as a fourth class. The prediction is the same brain with smooth noise on the shares of its
classes and other lesions: 0.12 moves borders, 0.35 gives thousands of specks, as of a network that has learned little.
Measured is ``review surfaces``, as a page starts it, and its largest resident memory.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import nibabel as nib
import numpy as np

from benchmarks.processes import ROOT
from benchmarks.result_file import machine_name
from core.checkpointing.checkpoint import Checkpoint, build_network, save
from core.checkpointing.metadata import CheckpointMetadata
from core.config import TrainConfig
from core.datasets import load_subject, open_dataset
from core.datasets.synthetic.anatomy import WORK_SHAPE, draw_anatomy, load_atlas, smooth_noise
from core.evaluation.subject_prediction import SubjectPrediction
from core.formatting import format_bytes
from core.imaging.resample import resample_image
from core.runs.predictions import predictions_folder, save_prediction
from core.types import Size3

CLASSES = ("background", "CSF", "GM", "WM", "lesion")
LESION_SHARE = 0.004  # of the white matter


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=3, default=(256, 256, 192), metavar="N")
    parser.add_argument(
        "--noise", type=float, default=0.12, help="deviation of the shares of classes in the prediction"
    )
    parser.add_argument("--repeats", type=int, default=1)
    args = parser.parse_args()
    print(f"{machine_name()}; {' x '.join(map(str, args.shape))} voxels", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        command = [*prepare(Path(temporary), tuple(args.shape), args.noise), "brain"]
        for _ in range(args.repeats):
            for kept in Path(temporary).rglob("surfaces/*.bin"):
                kept.unlink()
            show(measure(command), int(np.prod(args.shape, dtype=np.int64)))
    return 0


def prepare(folder: Path, shape: Size3, noise: float) -> list[str]:
    """A data set with the brain, and a kept prediction of it; the command that makes its surfaces."""
    rng = np.random.default_rng(0)
    shares = brain_shares(rng, shape)
    truth = labels_of(shares, rng)
    shares += noise * np.stack([smooth_noise(rng, shape, 2.5) for _ in shares])
    prediction = labels_of(shares, rng)
    data, affine = folder / "data", np.diag([0.7, 0.7, 0.7, 1.0])
    for name, values in (("imagesTr", 200.0 * truth), ("labelsTr", truth)):
        (data / name).mkdir(parents=True)
        kind = np.float32 if name == "imagesTr" else np.uint8
        nib.save(nib.Nifti1Image(values.astype(kind), affine), data / name / "brain.nii.gz")
    described = {
        "name": "Brain",
        "modality": {"0": "T1"},
        "labels": {str(n): name for n, name in enumerate(CLASSES)},
        "numTraining": 1,
        "training": [{"image": "./imagesTr/brain.nii.gz", "label": "./labelsTr/brain.nii.gz"}],
        "test": [],
    }
    (data / "dataset.json").write_text(json.dumps(described))
    dataset = open_dataset(data)
    config = TrainConfig().with_values({"channels": (2, 4), "path": str(data)})
    metadata = CheckpointMetadata(config.to_json(), dataset.labels.to_json(), ("T1",), None)
    checkpoint = folder / "network.safetensors"
    save(checkpoint, Checkpoint(metadata, build_network(metadata).state_dict()))
    result = SubjectPrediction(load_subject(dataset, "brain"), prediction)
    save_prediction(predictions_folder(folder, checkpoint, data), metadata, dataset, result)
    return ["review", "surfaces", "--json", f"--checkpoints={folder}", str(checkpoint), str(data)]


def brain_shares(rng: np.random.Generator, shape: Size3) -> np.ndarray:
    """Shares of CSF, GM and WM, float32, shape (3, i, j, k): a brain that fills the volume."""
    anatomy = draw_anatomy(load_atlas(), rng)
    box = tuple(slice(max(int(at.min()) - 4, 0), int(at.max()) + 5) for at in np.nonzero(anatomy.brain))
    shares = []
    for fraction in anatomy.fraction:
        whole = np.zeros(WORK_SHAPE, np.float32)
        whole[anatomy.brain] = fraction
        shares.append(whole[box])
    return resample_image(np.stack(shares), shape_to=shape)


def labels_of(shares: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Class indices, uint8: the largest share, background where all together have less than a half, and lesions."""
    labels = np.where(shares.sum(axis=0) < 0.5, 0, 1 + shares.argmax(axis=0)).astype(np.uint8)
    noise = smooth_noise(rng, labels.shape, 2.0)
    white = labels == 3
    labels[white & (noise > np.quantile(noise[white], 1 - LESION_SHARE))] = 4
    return labels


@dataclass(frozen=True)
class Measurement:
    """What a command took: time on the clock and of the processor in s, peak of its resident memory; and its report."""

    elapsed_s: float
    processor_s: float
    peak_bytes: int
    report: dict[str, list[dict[str, int]]]


def measure(command: list[str]) -> Measurement:
    """Run a command of the program."""
    started = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "core", *command], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    report = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"review surfaces failed: {status}")
    processor_s = usage.ru_utime + usage.ru_stime
    return Measurement(time.monotonic() - started, processor_s, usage.ru_maxrss * 1024, json.loads(report))


def show(found: Measurement, voxels: int) -> None:
    """Print a measurement."""
    surfaces = found.report["surfaces"]
    faces = sum(surface["faces"] for surface in surfaces)
    print(
        f"{len(surfaces)} surfaces, {faces:,} triangles: {found.elapsed_s:.0f} s, {found.processor_s:.0f} s of a core, "
        f"peak {format_bytes(found.peak_bytes)}, {found.peak_bytes / voxels:.0f} bytes a voxel",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
