"""Random damage to the bytes of files, and small valid files of each image format to damage."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.support.foreign_volumes import (
    oblique_affine,
    phantom,
    write_metaimage,
    write_mgh,
    write_multiframe,
    write_nrrd,
    write_series,
)
from tests.support.volume_files import write_analyze, write_nifti

EXTREMES = np.array([0, 1, 0x7F, 0x80, 0xFF], np.uint8)
# Name of the file that is damaged, and its writer, by format; a DICOM series is damaged in one of its files.
FORMATS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "nifti": ("a.nii", lambda path: write_nifti(path, phantom())),
    "nifti.gz": ("a.nii.gz", lambda path: write_nifti(path, phantom())),
    "analyze": ("a.hdr", lambda path: write_analyze(path, phantom())),
    "mgh": ("a.mgh", lambda path: write_mgh(path, phantom(), oblique_affine(), b"tail")),
    "mgz": ("a.mgz", lambda path: write_mgh(path, phantom(), oblique_affine(), b"tail")),
    "nrrd": ("a.nrrd", lambda path: write_nrrd(path, phantom(), oblique_affine())),
    "nrrd.gz": ("a.nrrd", lambda path: write_nrrd(path, phantom(), oblique_affine(), encoding="gzip")),
    "nhdr": ("a.nhdr", lambda path: write_nrrd(path, phantom(), oblique_affine())),
    "mha": ("a.mha", lambda path: write_metaimage(path, phantom(), oblique_affine())),
    "mha.z": ("a.mha", lambda path: write_metaimage(path, phantom(), oblique_affine(), CompressedData="True")),
    "mhd": ("a.mhd", lambda path: write_metaimage(path, phantom(), oblique_affine())),
    "dicom": ("im000-1.dcm", lambda path: write_series(path.parent, phantom((5, 6, 3)), oblique_affine())),
    "multiframe": ("a.dcm", lambda path: write_multiframe(path, phantom(), oblique_affine())),
}


def valid_file(format: str, folder: Path) -> Path:
    """A valid file of a format in an empty folder."""
    name, write = FORMATS[format]
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / name)
    return folder / name


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """Content with a few bytes changed, mostly in its header; or cut off, lengthened, or with a part repeated; of
    gzipped content often what is inside."""
    if content[:2] == b"\x1f\x8b" and rng.random() < 0.7:
        return gzip.compress(mutated(gzip.decompress(content), rng), mtime=0)
    data = np.frombuffer(content, np.uint8).copy()
    kind = rng.random()
    if kind < 0.1:
        return data[: rng.integers(0, len(data))].tobytes()
    if kind < 0.2:
        return data.tobytes() + rng.bytes(int(rng.integers(1, 200)))
    if kind < 0.3:
        start, length = int(rng.integers(0, len(data))), int(rng.integers(1, 64))
        return np.concatenate([data[: start + length], data[start:]]).tobytes()
    limit = len(data) if rng.random() < 0.3 else min(len(data), 700)
    places = rng.integers(0, limit, rng.integers(1, 9))
    data[places] = rng.choice(EXTREMES, len(places)) if rng.random() < 0.5 else rng.integers(0, 256, len(places))
    return data.tobytes()
