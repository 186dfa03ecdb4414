"""Contents of a demo data folder."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np


def volume(folder: Path, subject: str, kind: str) -> np.ndarray:
    """The stored voxels of a subject's file: "T1", "T2" or "label"."""
    return np.asarray(nib.load(folder / f"{subject}-{kind}.nii.gz").dataobj)  # type: ignore[attr-defined]


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of every file by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}
