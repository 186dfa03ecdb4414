"""A second prediction as a layer of a scene: that of another model, or a segmentation file; never resampled."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from core.datasets import Dataset
from core.datasets.loading import class_mapping, read_first_geometry
from core.errors import VolumeError
from core.imaging.display import encode_label
from core.imaging.geometry import geometry_difference
from core.imaging.volume import read_header, read_label
from core.labels import LabelSpace
from ui.shared.hashes import files_hash
from ui.viewer import volumes
from ui.viewer.scenes import Scene, subject_hash

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


def with_second(scene: Scene, dataset: Dataset, subject: str, labels: LabelSpace, second: SecondFile) -> Scene:
    """The scene of a subject with a second prediction.

    Parameters
    ----------
    labels : LabelSpace. Classes of the scene; other classes of the second prediction become background.
    second : SecondFile. The second prediction.

    Raises
    ------
    VolumeError
        If its voxels are not those of the image, it cannot be read, or the image is so large that it is streamed.
    DatasetError
        If it has values that are none of its classes.
    """
    if scene.streamed:
        raise VolumeError(f"{subject}: this image is too large for a second prediction beside the first one")
    key = [files_hash("", [second.file]), second.labels.to_json(), labels.names]
    name = f"second\n{subject_hash(dataset, subject)}\n{json.dumps(key)}"
    _, url = volumes.publish(name, lambda: ({}, _read(dataset, subject, labels, second)))
    return replace(scene, layers={**scene.layers, LAYER: url})


def _read(dataset: Dataset, subject: str, labels: LabelSpace, second: SecondFile) -> bytes:
    image = read_first_geometry(dataset, dataset.subject(subject)).canonical
    difference = geometry_difference(image, read_header(second.file).geometry.canonical)
    if difference is not None:
        raise VolumeError(f"{second.file}: expected a segmentation on the grid of the image of {subject}: {difference}")
    index = second.labels.to_index(read_label(second.file).data[0])
    return encode_label(np.ascontiguousarray(class_mapping(second.labels.names, labels.names)[index]))
