"""A second prediction as a layer of a scene: that of another model, or a segmentation file; never resampled."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from core.datasets import Dataset
from core.datasets.loading import align_label, class_mapping
from core.errors import VolumeError
from core.formatting import format_list
from core.imaging.display import encode_label
from core.imaging.headers import Header
from core.imaging.segments import SegmentValues, segment_key
from core.imaging.volume import read_label
from core.labels import LabelSpace
from ui.shared.hashes import files_hash
from ui.viewer import volumes
from ui.viewer.scenes import Scene, subject_hash

VERSION = 3  # of what is published for a file
LAYER = "second prediction"  # name of the layer, as in second.js


@dataclass(frozen=True)
class SecondFile:
    """A label map of the case beside its prediction.

    Attributes
    ----------
    file : Path.
    labels : LabelSpace. Its classes and their raw values.
    """

    file: Path
    labels: LabelSpace


def with_second(
    scene: Scene, dataset: Dataset, subject: str, labels: LabelSpace, second: SecondFile
) -> tuple[Scene, list[str]]:
    """The scene of a subject with a second prediction, and warnings: what was assumed about the file.

    Parameters
    ----------
    labels : LabelSpace. Classes of the scene; other classes of the second prediction become background.
    second : SecondFile. The second prediction.

    Raises
    ------
    VolumeError
        If its voxels are not those of the image, it cannot be read, or the image is so large that it is streamed.
    DatasetError
        If it has values without a class.
    """
    if scene.streamed:
        raise VolumeError(f"{subject}: this image is too large for a second prediction beside the first one")
    merged = sorted(dataset.value_map.items())
    classes = [second.labels.to_json(), labels.names, merged]
    key = [VERSION, files_hash("", [second.file]), *classes, dataset.labels_follow_images]
    name = f"second\n{subject_hash(dataset, subject)}\n{json.dumps(key)}"
    facts, url = volumes.publish(name, lambda: _read(dataset, subject, labels, second))
    return replace(scene, layers={**scene.layers, LAYER: url}), [str(text) for text in facts["warnings"]]


def _read(dataset: Dataset, subject: str, labels: LabelSpace, second: SecondFile) -> tuple[dict[str, Any], bytes]:
    """Warnings, and the class indices."""
    header = align_label(dataset, dataset.subject(subject), second.file)
    raw = read_label(second.file, geometry=header.geometry, segments=_segment_values(header, dataset, second.labels))
    of_dataset = second.labels == dataset.labels  # values that are merged into a class may occur
    index = dataset.to_index(raw.data[0]) if of_dataset else second.labels.to_index(raw.data[0])
    shown = class_mapping(second.labels.names, labels.names)[index]
    warnings = [*header.warnings, *raw.warnings]
    hidden = [second.labels.names[n] for n in np.unique(index[(shown == 0) & (index != 0)])]
    if hidden:
        warnings.append(f"not shown, as the first prediction has no such class: {format_list(hidden)}")
    return {"warnings": warnings}, encode_label(np.ascontiguousarray(shown))


def _segment_values(header: Header, dataset: Dataset, labels: LabelSpace) -> SegmentValues | None:
    """Values of named segments (DICOM), by the names of the classes; ``None`` for a file of numbers.

    Raises
    ------
    VolumeError
        If no segment has the name of a class.
    """
    if header.segments is None:
        return None
    values = {**dataset.segments, **{segment_key(c.name): c.raw for c in labels.foreground}}
    if not {segment_key(name) for name in header.segments.names} & values.keys():
        classes = format_list([c.name for c in labels.foreground])
        raise VolumeError(
            f"{header.path}: expected segments named as classes ({classes}), got {format_list(header.segments.names)}"
        )
    return SegmentValues(values, dataset.later_mask_wins)
