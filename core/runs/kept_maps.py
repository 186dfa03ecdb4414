"""Maps that are kept beside a stored prediction: its uncertainty, its probabilities and, where they are asked for, its
logits, a byte a voxel.

In the folder of the predictions of a data set (:mod:`core.runs.predictions`):

=====================================  =============================================================================
``maps/<subject>/<map>.nii.gz``        stored values in the geometry of the subject's image: 0 is the least value of
                                       the map, 250 the largest (:class:`core.inference.uncertainty.MapKind`)
``maps/<subject>/maps.json``           of which prediction they are; written last, without it there are no maps
``maps/<subject>/features/``           feature maps of stages of the network (:mod:`core.runs.kept_stage_maps`)
=====================================  =============================================================================

They are removed with their prediction, and the oldest ones where all of a folder take more than ``MAX_BYTES``. Works
without torch.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core.checkpointing.metadata import MEMBERS, CheckpointMetadata
from core.datasets import LoadedSubject
from core.errors import RunError
from core.imaging.volume import write_label
from core.inference.uncertainty import MapKind, PredictionMaps, map_kinds
from core.runs.store import folder as files
from core.runs.store.process import locked

LEVELS = 250  # largest stored value: steps of 0.4 %, and 50 % is one of them; of signed values 0 is
MAX_BYTES = 2 * 2**30  # of all maps of a data set by a model
FOLDER, RECORD = "maps", "maps.json"  # the record of each folder of maps
VERSION = 1


@dataclass(frozen=True)
class KeptMaps:
    """The maps of a prediction.

    Attributes
    ----------
    passes : int. Number of passes; one has no mutual information.
    changed_voxels : int. Voxels whose class in the pass that made the maps is not that of the prediction.
    logits : bool. Whether there are logits among them.
    """

    passes: int
    changed_voxels: int = 0
    logits: bool = False


def map_file(label_map: Path, kind: MapKind) -> Path:
    """The file of a map of the prediction whose label map is given; it need not exist."""
    return maps_folder(label_map) / f"{kind.key}.nii.gz"


def kinds_of(metadata: CheckpointMetadata, passes: int, logits: bool = False) -> tuple[MapKind, ...]:
    """The maps of predictions of a checkpoint, with logits or without them."""
    return map_kinds(metadata.output_names, metadata.trained_regions is not None, passes, logits)


def has_logits(metadata: CheckpointMetadata) -> bool:
    """Whether predictions of a checkpoint can have logits: those of an ensemble are made of averaged probabilities."""
    return not metadata.inference.get(MEMBERS)


def passes_of(metadata: CheckpointMetadata, settings: Mapping[str, Any]) -> int:
    """Number of passes of a prediction by its inference options; those of earlier versions have none."""
    members = settings.get("members") or metadata.inference.get(MEMBERS)
    if members:
        return len(members)
    return 2 if settings.get("mirror", metadata.train_config.validation.mirror) else 1


def read_kept_maps(label_map: Path, made_at: float) -> KeptMaps | None:
    """The maps of a prediction; ``None`` where there are none, or those of an earlier prediction.

    Parameters
    ----------
    label_map : Path. Label map of the prediction.
    made_at : float. Its time, in seconds since 1970.
    """
    try:
        record = json.loads((maps_folder(label_map) / RECORD).read_text(encoding="utf-8"))
        if record["version"] != VERSION or record["made_at"] != made_at:
            return None
        return KeptMaps(int(record["passes"]), int(record["changed_voxels"]), bool(record.get("logits", False)))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_maps(
    label_map: Path,
    metadata: CheckpointMetadata,
    subject: LoadedSubject,
    maps: PredictionMaps,
    record: Mapping[str, Any],
) -> None:
    """Write the maps of a prediction; the caller holds the lock of the folder.

    Parameters
    ----------
    label_map : Path. Label map of the prediction.
    metadata : CheckpointMetadata. Metadata of the checkpoint.
    subject : LoadedSubject. The subject as read.
    maps : PredictionMaps. On the grid of the subject.
    record : mapping. Further content of the record, ``made_at`` of the prediction in any case.

    Raises
    ------
    RunError, VolumeError
        If a file cannot be written; then there are no maps.
    """
    folder = empty_folder(maps_folder(label_map))
    logits = maps.logits is not None
    for kind in kinds_of(metadata, maps.passes, logits):
        values = kind.values(maps)
        assert values is not None
        stored = stored_values(values, kind.high, kind.low)
        write_label(map_file(label_map, kind), stored, subject.stored, subject.first_image)
    content = {"version": VERSION, "passes": maps.passes, "changed_voxels": 0, "logits": logits, "levels": LEVELS}
    files.write_json(folder / RECORD, {**content, **record})
    prune(label_map, folder)


@dataclass(frozen=True)
class MadeMaps:
    """Maps that were made for a stored prediction, and in how many voxels the class differs from it."""

    maps: PredictionMaps
    changed_voxels: int


def add_maps(
    label_map: Path, made_at: float, metadata: CheckpointMetadata, subject: LoadedSubject, made: MadeMaps
) -> None:
    """Keep maps that were made for a stored prediction.

    Parameters
    ----------
    label_map, made_at : as in :func:`read_kept_maps`.
    made : MadeMaps. What was made.

    The other parameters and the errors are those of :func:`write_maps`; it is an error, too, if the prediction has been
    replaced meanwhile.
    """
    with locked(label_map.parent / files.LOCK, timeout_s=60):
        if not is_kept(label_map, made_at):
            raise RunError(f"{label_map}: this segmentation was replaced while its maps were made; make them again")
        content = {"made_at": made_at, "changed_voxels": made.changed_voxels}
        write_maps(label_map, metadata, subject, made.maps, content)


def is_kept(label_map: Path, made_at: float) -> bool:
    """Whether a prediction has not been removed or replaced by another one; parameters as in :func:`read_kept_maps`."""
    record = label_map.with_name(f"{label_map.name.removesuffix('.nii.gz')}.json")
    try:
        return bool(json.loads(record.read_text(encoding="utf-8"))["made_at"] == made_at)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def remove_maps(label_map: Path) -> None:
    """Remove the maps of a prediction, if there are any, and its feature maps."""
    folder = maps_folder(label_map)
    for record in (folder / RECORD, *folder.rglob(RECORD)):
        with contextlib.suppress(OSError):
            record.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def stored_values(values: np.ndarray, high: float, low: float = 0) -> np.ndarray:
    """Values from ``low`` to ``high`` as whole numbers from 0 to ``LEVELS``, uint8, the nearest ones."""
    return np.rint((values - np.float32(low)) * np.float32(LEVELS / (high - low))).clip(0, LEVELS).astype(np.uint8)


def in_percent(disagreement: np.ndarray) -> np.ndarray:
    """Shares from 0 to 1 as whole percent, uint8; only 0 becomes 0."""
    return np.ceil(100 * disagreement - 1e-3).clip(0, 100).astype(np.uint8)


def maps_folder(label_map: Path) -> Path:
    """The folder of the maps of a prediction; it need not exist."""
    return label_map.parent / FOLDER / label_map.name.removesuffix(".nii.gz")


def empty_folder(folder: Path) -> Path:
    """A folder for maps, without the maps that were in it and with its own folders; returns it.

    Raises
    ------
    RunError
        If it cannot be made.
    """
    _remove_files(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{folder}: cannot be created: {error.strerror or error}; make room there") from error
    return folder


def prune(label_map: Path, newest: Path) -> None:
    """Remove the oldest maps beside those of a prediction until all are within the limit.

    Parameters
    ----------
    label_map : Path. Label map of the prediction.
    newest : Path. A folder whose maps stay.
    """
    found = []
    for folder in (path for path in (label_map.parent / FOLDER).rglob("*") if path.is_dir()):
        with contextlib.suppress(OSError):
            record, size = folder / RECORD, sum(file.stat().st_size for file in _files(folder))
            found.append((record.stat().st_mtime if record.is_file() else 0.0, size, folder))
    total = sum(size for _, size, _ in found)
    for _, size, folder in sorted(found):
        if total <= MAX_BYTES:
            break
        if folder != newest:
            _remove_files(folder)
            total -= size


def _files(folder: Path) -> list[Path]:
    """The files of a folder, its record first: without it there are no maps."""
    try:
        return sorted((path for path in folder.iterdir() if not path.is_dir()), key=lambda path: path.name != RECORD)
    except OSError:
        return []


def _remove_files(folder: Path) -> None:
    """Remove the files of a folder, and the folder if it has nothing else."""
    for file in _files(folder):
        with contextlib.suppress(OSError):
            file.unlink()
    with contextlib.suppress(OSError):
        folder.rmdir()
