"""A second prediction as a layer of a scene: that of another model, or a segmentation file; never resampled."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from core.datasets import Dataset
from core.datasets.loading import align_label, class_mapping
from core.datasets.other_segmentation import other_index, read_other_segmentation
from core.formatting import format_list
from core.imaging.display import encode_label
from core.labels import LabelSpace
from ui.shared.hashes import files_hash
from ui.viewer import volumes
from ui.viewer.scenes import Scene, subject_hash
from ui.viewer.second_counts import publish_changes
from ui.viewer.streamed_scenes import StreamedSubject

VERSION = 3  # of what is published for a file
LAYER = "second prediction"  # name of the layer, as in second.js


@dataclass(frozen=True)
class SecondFile:
    """A label map of the case beside its prediction.

    Attributes
    ----------
    file : Path.
    labels : LabelSpace. Its classes and their raw values.
    title : str. What the viewer calls it.
    """

    file: Path
    labels: LabelSpace
    title: str = LAYER


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
        If its voxels are not those of the image, or it cannot be read; beside an image that is streamed, if it has
        several channels or named segments. Its voxels are then read by the stream, whose answer their errors are.
    DatasetError
        If it has values without a class.
    """
    merged = sorted(dataset.value_map.items())
    classes = [second.labels.to_json(), labels.names, merged]
    key = [VERSION, files_hash("", [second.file]), *classes]
    files = subject_hash(dataset, subject)
    name = f"second\n{files}\n{json.dumps(key)}"
    large = StreamedSubject.of(dataset, subject, files) if scene.streamed else None
    if large is not None:
        header = align_label(dataset, dataset.subject(subject), second.file)
        url = large.publish_aligned(name, header, partial(_shown_index, dataset, labels, second))
        warnings = [*header.warnings, *_not_shown([c.name for c in second.labels.foreground], labels)]
    else:
        facts, url = volumes.publish(name, lambda: _read(dataset, subject, labels, second))
        warnings = [str(text) for text in facts["warnings"]]
    layers = {**scene.layers, LAYER: url}
    counted = large is not None and {"truth", "prediction"} <= set(layers)
    changes = publish_changes(layers["truth"], layers["prediction"], url) if counted else ""
    titles = {**scene.titles, LAYER: second.title} if second.title != LAYER else scene.titles
    return replace(scene, layers=layers, titles=titles, changes=changes), warnings


def _shown_index(dataset: Dataset, shown: LabelSpace, second: SecondFile, raw: np.ndarray) -> np.ndarray:
    """Indices among the classes that are shown of raw values."""
    index = other_index(dataset, second.file, second.labels, raw)
    mapped: np.ndarray = class_mapping(second.labels.names, shown.names)[index]
    return mapped


def _not_shown(found: Sequence[str], shown: LabelSpace) -> list[str]:
    """A warning that names the classes of the second prediction that are not shown, if there are any."""
    hidden = [name for name in found if name not in shown.names]
    return [f"not shown, as the first prediction has no such class: {format_list(hidden)}"] if hidden else []


def _read(dataset: Dataset, subject: str, labels: LabelSpace, second: SecondFile) -> tuple[dict[str, Any], bytes]:
    """Warnings, and the class indices."""
    read = read_other_segmentation(dataset, subject, second.file, second.labels)
    shown = class_mapping(second.labels.names, labels.names)[read.index]
    found = [second.labels.names[n] for n in np.unique(read.index[(shown == 0) & (read.index != 0)])]
    warnings = [*read.warnings, *_not_shown(found, labels)]
    return {"warnings": warnings}, encode_label(np.ascontiguousarray(shown))
