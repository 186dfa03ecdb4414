"""Writes small image files and data sets for tests, valid and invalid ones."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from core.types import Size3

SHAPE = (6, 7, 5)
AFFINE = np.array([[1.0, 0, 0, -3], [0, 1.5, 0, -4], [0, 0, 2.0, -5], [0, 0, 0, 1]])


def voxels(shape: tuple[int, ...] = SHAPE, seed: int = 0) -> np.ndarray:
    """Random intensities, int16."""
    return np.random.default_rng(seed).integers(1, 1000, shape).astype(np.int16)


def label_map(values: tuple[int, ...], shape: Size3 = SHAPE, seed: int = 1) -> np.ndarray:
    """A random label map that contains every value, uint8."""
    labels = np.random.default_rng(seed).choice(values, shape).astype(np.uint8)
    labels.reshape(-1)[: len(values)] = values
    return labels


def write_nifti(path: Path, array: np.ndarray, affine: np.ndarray | None = AFFINE) -> Path:
    """Write NIfTI-1 in mm; without an affine, both orientation codes are 0."""
    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    path.parent.mkdir(parents=True, exist_ok=True)
    if affine is None:
        image.header["sform_code"] = image.header["qform_code"] = 0
        image.header["pixdim"][1:4] = np.diag(AFFINE)[:3]
    nib.save(image, path)
    return path


def write_analyze(path: Path, array: np.ndarray, spacing: tuple[float, ...] = (1, 1, 1)) -> Path:
    """Write an Analyze 7.5 pair as in iSEG-2017: header of 348 bytes, no affine, fourth axis of size 1.

    Returns
    -------
    Path of the .hdr file.
    """
    header = bytearray(348)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 4, *array.shape, 1, 1, 1, 1)
    code = {"uint8": 2, "int16": 4, "float32": 16}[array.dtype.name]
    struct.pack_into("<2h", header, 70, code, array.dtype.itemsize * 8)
    struct.pack_into("<8f", header, 76, 0, *spacing, 1, 0, 0, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".hdr").write_bytes(bytes(header))
    path.with_suffix(".img").write_bytes(array.tobytes(order="F"))
    return path.with_suffix(".hdr")


def patch(path: Path, offset: int, format: str, *values: Any) -> Path:
    """Overwrite little-endian values at a byte offset of an uncompressed file."""
    content = bytearray(path.read_bytes())
    struct.pack_into("<" + format, content, offset, *values)
    path.write_bytes(bytes(content))
    return path


def make_iseg(folder: Path, subjects: int = 3, suffix: str = ".nii.gz", shape: Size3 = SHAPE) -> Path:
    """Write a data set in the iSEG-2017 layout, as Analyze pairs if ``suffix`` is ".hdr"."""
    for n in range(1, subjects + 1):
        for seed, kind in enumerate(("T1", "T2", "label")):
            array = label_map((0, 10, 150, 250), shape, n) if kind == "label" else voxels(shape, 10 * n + seed)
            path = folder / f"subject-{n}-{kind}{suffix}"
            write_analyze(path, array) if suffix == ".hdr" else write_nifti(path, array)
    return folder


def make_decathlon(folder: Path, subjects: int = 3, channels: int = 1, **changes: Any) -> Path:
    """Write a data set in the Decathlon layout with labels 0, 1, 2.

    ``changes`` replace entries of dataset.json; ``None`` removes an entry.
    """
    training = []
    for n in range(1, subjects + 1):
        shape = SHAPE if channels == 1 else (*SHAPE, channels)
        write_nifti(folder / "imagesTr" / f"case_{n:03d}.nii.gz", voxels(shape, n))
        write_nifti(folder / "labelsTr" / f"case_{n:03d}.nii.gz", label_map((0, 1, 2), seed=n))
        training.append({"image": f"./imagesTr/case_{n:03d}.nii.gz", "label": f"./labelsTr/case_{n:03d}.nii.gz"})
    content: dict[str, Any] = {
        "name": "Toy",
        "description": "made up",
        "licence": "CC0",
        "modality": {str(c): f"M{c}" for c in range(channels)},
        "labels": {"0": "background", "1": "front", "2": "back"},
        "numTraining": subjects,
        "training": training,
        "test": [],
    }
    content.update(changes)
    (folder / "dataset.json").write_text(json.dumps({k: v for k, v in content.items() if v is not None}), "utf-8")
    return folder


def make_nnunet(folder: Path, subjects: int = 3, channels: int = 2, **changes: Any) -> Path:
    """Write a data set in the layout of nnU-Net with labels 0, 1, 2; ``changes`` as in :func:`make_decathlon`."""
    for n in range(1, subjects + 1):
        for c in range(channels):
            write_nifti(folder / "imagesTr" / f"case_{n:03d}_{c:04d}.nii.gz", voxels(seed=10 * n + c))
        write_nifti(folder / "labelsTr" / f"case_{n:03d}.nii.gz", label_map((0, 1, 2), seed=n))
    content: dict[str, Any] = {
        "channel_names": {str(c): f"M{c}" for c in range(channels)},
        "labels": {"background": 0, "front": 1, "back": 2},
        "numTraining": subjects,
        "file_ending": ".nii.gz",
    }
    content.update(changes)
    (folder / "dataset.json").write_text(json.dumps({k: v for k, v in content.items() if v is not None}), "utf-8")
    return folder


def load(path: Path) -> Any:
    """The image read by nibabel."""
    return nib.load(path)
