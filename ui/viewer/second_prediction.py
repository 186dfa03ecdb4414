"""A second prediction as a layer of a scene: that of another model, or a segmentation file; never resampled."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from core.datasets import Dataset
from core.datasets.loading import class_mapping
from core.datasets.other_segmentation import read_other_segmentation
from core.errors import VolumeError
from core.formatting import format_list
from core.imaging.display import encode_label
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
    titles = {**scene.titles, LAYER: second.title} if second.title != LAYER else scene.titles
    with_layer = replace(scene, layers={**scene.layers, LAYER: url}, titles=titles)
    return with_layer, [str(text) for text in facts["warnings"]]


def _read(dataset: Dataset, subject: str, labels: LabelSpace, second: SecondFile) -> tuple[dict[str, Any], bytes]:
    """Warnings, and the class indices."""
    read = read_other_segmentation(dataset, subject, second.file, second.labels)
    shown = class_mapping(second.labels.names, labels.names)[read.index]
    warnings = list(read.warnings)
    hidden = [second.labels.names[n] for n in np.unique(read.index[(shown == 0) & (read.index != 0)])]
    if hidden:
        warnings.append(f"not shown, as the first prediction has no such class: {format_list(hidden)}")
    return {"warnings": warnings}, encode_label(np.ascontiguousarray(shown))
