"""What a stored prediction was made from, and what has changed since: checkpoint, files, channels, label values."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core.checkpointing.metadata import MEMBERS, POSTPROCESSING, CheckpointMetadata
from core.datasets import DataOptions, Dataset, open_dataset
from core.datasets.layouts.recipe import OF_ONE_SUBJECT
from core.errors import DatasetError, VolumeError
from core.files import file_stamp
from core.imaging.header_geometry import UNIT_MM
from core.imaging.headers import read_header
from core.imaging.image_files import files_of
from core.strict_json import plain

OTHER_CHECKPOINT = "with an earlier checkpoint of this run"
CHANGED_FILES = "from files of this subject that have changed since"
OTHER_POSTPROCESSING = "with other postprocessing than the model has now"
OTHER_FILES = "from other files, channels or label values than the data set has for this subject now"
MISREAD_GEOMETRY = "by version 0.1, which ignored the unit or the sheared axes of its files"
ORIGIN = ("inputs", "layout", "sources")  # fields of a record that hold for one place only


class CurrentState:
    """What predictions of a data set by a checkpoint depend on, at present.

    Parameters
    ----------
    metadata : CheckpointMetadata. Metadata of the checkpoint.
    folder : Path. Folder of the data set.
    opened : Dataset, optional. The data set, where it is open already.
    """

    def __init__(self, metadata: CheckpointMetadata, folder: Path, opened: Dataset | None = None) -> None:
        self._metadata, self._folder = metadata, folder
        self._identity = plain(checkpoint_identity(metadata))
        self._datasets: dict[str, Dataset | None] = {}  # by layout; None: cannot be opened
        if opened is not None:
            self._datasets[opened.layout] = opened

    def stale_reason(self, record: Mapping[str, Any]) -> str:
        """What has changed since a record was written, the postprocessing last; empty if nothing has."""
        made_by = dict(record["checkpoint"])
        if _without_postprocessing(made_by) != _without_postprocessing(self._identity):
            return OTHER_CHECKPOINT
        other_rules = OTHER_POSTPROCESSING if made_by != self._identity else ""
        if any(file_stamp(Path(name)) != (size, mtime_ns) for name, size, mtime_ns in record["inputs"]):
            return CHANGED_FILES
        sources = record.get("sources")  # records of version 0.1 have none
        if sources is None:
            return MISREAD_GEOMETRY if _version_0_1_misread(record["inputs"]) else other_rules
        now = self._sources(record["layout"], record["subject"])
        same_files = sources == now or (now and _resolved(sources) == _resolved(now))
        return other_rules if same_files else OTHER_FILES

    def _sources(self, layout: str, subject: str) -> Any:
        if layout not in self._datasets:
            try:
                options = DataOptions.from_config(self._metadata.train_config.data)
                self._datasets[layout] = open_dataset(self._folder, layout, options)
            except DatasetError:
                self._datasets[layout] = None
        dataset = self._datasets[layout]
        if dataset is None or subject not in dataset.ids:
            return None
        return plain(_sources(dataset, subject, self._metadata))


def checkpoint_identity(metadata: CheckpointMetadata) -> dict[str, Any]:
    """Metadata that differs between two states of a checkpoint file; its tensors are not read."""
    progress = metadata.progress
    identity = {
        "epoch": progress.get("epoch"),
        "step": progress.get("step"),
        "elapsed_s": progress.get("elapsed_s"),
        "labels": metadata.labels,
    }
    if metadata.postprocessing:  # records of earlier versions have none
        identity[POSTPROCESSING] = metadata.postprocessing.to_json()
    if members := metadata.inference.get(MEMBERS):
        identity[MEMBERS] = members
    return identity


def origin(dataset: Dataset, subject_id: str, metadata: CheckpointMetadata) -> dict[str, Any]:
    """What a prediction was made from: the files of the subject as they are now, and how the data set reads them."""
    values = _file_stamps(dataset, subject_id), dataset.layout, _sources(dataset, subject_id, metadata)
    return dict(zip(ORIGIN, values, strict=True))


def _without_postprocessing(identity: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in identity.items() if name != POSTPROCESSING}


def _file_stamps(dataset: Dataset, subject_id: str) -> list[list[Any]]:
    """Path, size in bytes and modification time in ns of each file of a subject."""
    subject = dataset.subject(subject_id)
    paths = [file for path in subject.files for file in files_of(path)]
    return [[os.path.abspath(path), *file_stamp(path)] for path in paths]


def _version_0_1_misread(inputs: Sequence[Sequence[Any]]) -> bool:
    """Whether version 0.1, which took every length for mm and all axes for orthogonal, mismeasured one of the files."""
    for name, *_ in inputs:
        try:
            header = read_header(name)
        except VolumeError:  # the file of voxels of a pair, or one that reading the subject refuses
            continue
        if UNIT_MM[header.unit] != 1 or header.geometry.is_sheared:
            return True
    return False


def _sources(dataset: Dataset, subject_id: str, metadata: CheckpointMetadata) -> dict[str, Any]:
    """Files and channels that a data set gives a network for a subject, its label map, and values of the classes."""
    subject = dataset.subject(subject_id)
    refs = {m: subject.images[m] for m in metadata.modalities if m in subject.images}
    mended = [kind for kind in OF_ONE_SUBJECT if subject_id in getattr(dataset.recipe, kind)]
    names = metadata.label_space.names
    return {
        "images": {modality: [os.path.abspath(ref.path), ref.channel] for modality, ref in refs.items()},
        "label": None if subject.label is None else os.path.abspath(subject.label),
        "values": {c.name: c.raw for c in dataset.labels.classes if c.name in names},
        **({"merged": [list(pair) for pair in sorted(dataset.value_map.items())]} if dataset.value_map else {}),
        **({"segments": [list(pair) for pair in sorted(dataset.segments.items())]} if dataset.segments else {}),
        **({"mended": mended} if mended else {}),
        "ignore": dataset.labels.ignore.raw if dataset.labels.ignore is not None else None,
    }


def _resolved(sources: Mapping[str, Any]) -> dict[str, Any]:
    """Sources with the links in their paths followed: a folder may be opened under several names."""
    images = {modality: [os.path.realpath(path), channel] for modality, (path, channel) in sources["images"].items()}
    label = sources["label"]
    return {**sources, "images": images, "label": None if label is None else os.path.realpath(label)}
