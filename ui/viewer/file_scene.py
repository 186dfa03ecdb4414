"""The scene of a case of files: its images, the reference and the segmentation; never resampled."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from core.datasets import Dataset
from core.datasets.file_case import REFERENCE, SEGMENTATION, FileCase, read_segmentation
from core.errors import VolumeError
from core.imaging.display import encode_label
from ui.shared.hashes import files_hash
from ui.viewer import volumes
from ui.viewer.scenes import Scene, described, image_scene
from ui.viewer.streamed_scenes import StreamedSubject

LAYERS = {REFERENCE: "truth", SEGMENTATION: "prediction"}  # names in the viewer by role


def file_scene(case: FileCase) -> Scene:
    """The images of a case, and each of its segmentations as the layer "truth" or "prediction".

    Raises
    ------
    DatasetError
        If a segmentation is not on the grid of the images, or holds a value without a class.
    VolumeError
        If a file cannot be read.
    """
    images = case.images
    refs = images.subjects[0].images.values()
    files = list(dict.fromkeys(ref.path for ref in refs))
    channels = json.dumps([[str(ref.path), ref.channel] for ref in refs] + [images.nan_is_zero])
    scene = image_scene(files, images, images.modalities, case.labels, channels_key=channels)
    layers = {
        LAYERS[role]: _publish(dataset, case, files, scene.streamed) for role, dataset in case.segmentations.items()
    }
    ignore = described(case.labels.ignore) if case.labels.ignore is not None else None
    return replace(scene, layers=layers, ignore=ignore)


def _publish(dataset: Dataset, case: FileCase, files: Sequence[Path], streamed: bool) -> str:
    """URL of the segmentation of a data set in the classes of the case."""
    label = dataset.subjects[0].label
    assert label is not None, "a data set of a segmentation"
    key = [dataset.labels.to_json(), sorted(dataset.value_map.items()), dataset.nan_is_zero]
    hashed = files_hash(json.dumps(key), [*files, label])
    if not streamed:
        return volumes.publish(
            f"file segmentation\n{hashed}", lambda: ({}, encode_label(read_segmentation(dataset)[0]))
        )[1]
    large = StreamedSubject.of(dataset, case.id, hashed)
    if large is None:
        raise VolumeError(f"{label}: expected a label map of numbers for an image of this size, got named segments")
    return large.publish_truth(case.labels)
