"""Marker files of the demo data: they identify a folder as synthetic and record seed, version and subjects.

A finished folder contains ``segmentarium-demo.json``, an unfinished one ``segmentarium-demo.unfinished.json``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from core.datasets.layouts.iseg import DEMO_MARKER, UNFINISHED_DEMO_MARKER
from core.datasets.synthetic.demo_writer import write_errors_as_dataset_errors
from core.errors import DatasetError
from core.files import atomic_write

DEMO_VERSION = 2  # incremented when the same seed gives other bytes
SAME_VOXELS = (1, DEMO_VERSION)  # versions that differ in the format of the files only
README = "README.txt"


@dataclass(frozen=True)
class DemoMarker:
    """Content of a marker.

    Attributes
    ----------
    seed : int. Seed of the data.
    subjects : tuple of str. Ids of the subjects; empty while the folder is unfinished.
    version : int. Version of the generator.
    """

    seed: int
    subjects: tuple[str, ...] = ()
    version: int = DEMO_VERSION


def read_marker(folder: Path) -> DemoMarker | None:
    """Marker of a finished demo folder, or ``None``.

    Raises
    ------
    DatasetError
        If the marker cannot be read.
    """
    return _read(folder / DEMO_MARKER)


def read_unfinished_marker(folder: Path) -> DemoMarker | None:
    """Marker of an unfinished demo folder, or ``None``.

    Raises
    ------
    DatasetError
        If the marker cannot be read.
    """
    return _read(folder / UNFINISHED_DEMO_MARKER)


def mark_unfinished(folder: Path, seed: int) -> None:
    """Mark a folder as unfinished demo data.

    Raises
    ------
    DatasetError
        If the marker cannot be written.
    """
    _write(folder / UNFINISHED_DEMO_MARKER, DemoMarker(seed))


def mark_finished(folder: Path, marker: DemoMarker) -> None:
    """Mark a folder as finished demo data.

    Raises
    ------
    DatasetError
        If the marker cannot be written.
    """
    _write(folder / DEMO_MARKER, marker)
    (folder / UNFINISHED_DEMO_MARKER).unlink(missing_ok=True)


def is_demo(folder: Path) -> bool:
    """Whether a folder holds demo data, finished or not."""
    return any((folder / name).is_file() for name in (DEMO_MARKER, UNFINISHED_DEMO_MARKER))


def _read(path: Path) -> DemoMarker | None:
    try:
        content = json.loads(path.read_text("utf-8"))
        seed, subjects, version = content["seed"], content["subjects"], content["version"]
        if not isinstance(subjects, list) or not all(isinstance(name, str) for name in subjects):
            raise TypeError("wrong type of subjects")
        if not isinstance(seed, int) or not isinstance(version, int):
            raise TypeError("wrong type of seed or version")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DatasetError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{path} is damaged; delete the folder it is in and make the demo data again") from error
    return DemoMarker(seed, tuple(subjects), version)


def _write(path: Path, marker: DemoMarker) -> None:
    content = {
        "name": "Synthetic demo data (iSEG-2017 layout)",
        "description": "synthetic brain MRI made by Segmentarium; not patient data",
        "synthetic": True,
        "version": marker.version,
        "seed": int(marker.seed),
        "layout": "iSEG-2017",
        "subjects": list(marker.subjects),
        "licence": f"derived from the MNI152 maps, (C) 1993-2009 Louis Collins, McGill University; see {README}",
    }
    with write_errors_as_dataset_errors(path.parent):
        atomic_write(path, json.dumps(content, indent=1) + "\n", durable=True)
