"""An image with a reference and a segmentation as files without a data set: two balls, one of them shifted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.types import Size3
from tests.support.volume_files import write_nifti

SHAPE: Size3 = (24, 22, 16)
SPACING = np.diag([1.0, 1.2, 1.5, 1.0])
CENTRES = ((7, 10, 8), (16, 11, 8))
RADIUS = 4


@dataclass(frozen=True)
class Files:
    """Files of a case, and their voxels."""

    image: Path
    reference: Path
    segmentation: Path
    truth: np.ndarray
    prediction: np.ndarray


def two_balls(values: tuple[int, int], shift: int = 0) -> np.ndarray:
    """Two balls, the first of them shifted along i, uint8."""
    grid = np.indices(SHAPE)
    label = np.zeros(SHAPE, np.uint8)
    for value, centre, moved in zip(values, CENTRES, (shift, 0), strict=True):
        distance = sum(
            (axis - at - (moved if n == 0 else 0)) ** 2 for n, (axis, at) in enumerate(zip(grid, centre, strict=True))
        )
        label[distance <= RADIUS**2] = value
    return label


def write_case(folder: Path, affine: np.ndarray = SPACING) -> Files:
    """An image, a reference with the values 10 and 150, and a segmentation with 1 and 2."""
    truth, prediction = two_balls((10, 150)), two_balls((1, 2), shift=1)
    noise = np.random.default_rng(0).normal(50, 5, SHAPE)
    image = write_nifti(folder / "scan.nii.gz", (noise + 40 * (truth > 0)).astype(np.float32), affine)
    reference = write_nifti(folder / "drawn.nii.gz", truth, affine)
    segmentation = write_nifti(folder / "found.nii.gz", prediction, affine)
    return Files(image, reference, segmentation, truth, prediction)


def write_slicer(path: Path, label: np.ndarray, segments: dict[int, str], layers: int = 1) -> Path:
    """A segmentation as 3D Slicer writes it, uncompressed; with several layers all are the same."""
    sizes = "x".join(map(str, label.shape))
    kinds, space = "domain domain domain", "(-1,0,0) (0,-1,0) (0,0,1)"
    if layers > 1:
        sizes, kinds, space = f"{layers}x{sizes}", f"list {kinds}", f"none {space}"
    lines = [
        "NRRD0004",
        "type: unsigned char",
        f"dimension: {3 + (layers > 1)}",
        "space: left-posterior-superior",
        f"sizes: {sizes.replace('x', ' ')}",
        f"space directions: {space}",
        f"kinds: {kinds}",
        "encoding: raw",
        "space origin: (0,0,0)",
    ]
    for number, (value, name) in enumerate(segments.items()):
        lines += [
            f"Segment{number}_Color:=0.5 0.25 1",
            f"Segment{number}_LabelValue:={value}",
            f"Segment{number}_Layer:={number % layers}",
            f"Segment{number}_Name:={name}",
        ]
    voxels = np.repeat(label[None], layers, axis=0) if layers > 1 else label
    path.write_bytes(("\n".join(lines) + "\n\n").encode() + voxels.astype(np.uint8).tobytes(order="F"))
    return path
