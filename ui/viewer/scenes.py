"""Scenes of the viewer: a subject's image, its truth and a prediction, published as volumes for the browser."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from core.datasets import Dataset, LoadedSubject, load_subject, open_dataset
from core.datasets.loading import class_mapping
from core.errors import VolumeError
from core.imaging.display import Channel, Grid, channels, encode_image, encode_label
from core.imaging.volume import read_label
from core.labels import LabelSpace
from ui.shared import formatting
from ui.shared.hashes import files_hash
from ui.viewer import volumes


@dataclass(frozen=True)
class Scene:
    """A volume and its segmentations.

    Attributes
    ----------
    grid : Grid. Grid of all volumes of the scene, axes in canonical (RAS) order.
    channels : tuple of Channel. Modalities of the image with their intensity ranges.
    image : str. URL of the image (:func:`core.imaging.display.encode_image`).
    classes : tuple of mapping. ``{"name", "colour"}`` of the classes 1, 2, ...; the background (0) is left out.
    layers : mapping. URL of each segmentation (:func:`core.imaging.display.encode_label`) by its name: "truth",
        "prediction", or any other.
    """

    grid: Grid
    channels: tuple[Channel, ...]
    image: str
    classes: tuple[Mapping[str, str], ...] = ()
    layers: Mapping[str, str] = field(default_factory=dict)


def subject_scene(
    folder: Path, subject: str, labels: LabelSpace | None = None, prediction: Path | None = None
) -> Scene:
    """The scene of a subject of a data set: its image, its truth if it has one, and a prediction.

    Parameters
    ----------
    folder : Path. Folder of the data set.
    subject : str. Id of the subject.
    labels : LabelSpace, optional. Classes to show; other classes of the truth become background. By default those of
        the data set.
    prediction : Path, optional. Label map with the raw values of ``labels``, on the subject's grid.

    Raises
    ------
    UserError
        If a file cannot be read, or the prediction has another size than the image.
    """
    dataset = open_dataset(folder)
    label_space = labels or dataset.labels
    load = cache(lambda: load_subject(dataset, subject))  # not called if all volumes are published already
    files = _subject_hash(dataset, subject)
    facts, image = volumes.publish(f"image\n{files}", lambda: _image(load(), dataset.modalities))
    layers = {}
    if dataset.subject(subject).label is not None:
        mapping = json.dumps([label_space.names, dataset.labels.to_json()])
        _, layers["truth"] = volumes.publish(f"truth\n{files}\n{mapping}", lambda: _truth(load(), dataset, label_space))
    return _scene(files, facts, image, layers, label_space, prediction)


def image_scene(
    files: Sequence[Path],
    load: Callable[[], LoadedSubject],
    modalities: Sequence[str],
    labels: LabelSpace,
    prediction: Path | None = None,
    channels_key: str = "",
) -> Scene:
    """The scene of images that belong to no data set, and a prediction.

    Parameters
    ----------
    files : sequence of Path. Image files; a changed file is published again.
    load : callable. Reads the images; not called if they are published already.
    modalities : sequence of str. Names of the channels of the loaded image.
    labels : LabelSpace. Classes of the prediction.
    prediction : Path, optional. Label map with the raw values of ``labels``, on the images' grid.
    channels_key : str. Text that changes with the channels read from the files.
    """
    hashed = files_hash("\n".join([*modalities, channels_key]), files)
    facts, image = volumes.publish(f"image\n{hashed}", lambda: _image(load(), modalities))
    return _scene(hashed, facts, image, {}, labels, prediction)


def _scene(
    files: str,
    facts: Mapping[str, Any],
    image: str,
    layers: dict[str, str],
    labels: LabelSpace,
    prediction: Path | None,
) -> Scene:
    """A scene from the facts of its published image; the prediction is published as a further layer."""
    grid = _grid(facts["grid"])
    if prediction is not None:
        name = f"prediction\n{files}\n{files_hash('', [prediction])}\n{json.dumps(labels.to_json())}"
        _, layers["prediction"] = volumes.publish(name, lambda: _prediction(prediction, labels, grid))
    ranges = tuple(Channel(c["name"], c["low"], c["high"], tuple(c["window"])) for c in facts["channels"])
    classes = tuple({"name": c.name, "colour": c.colour} for c in labels.foreground)
    return Scene(grid, ranges, image, classes, layers)


def _grid(facts: Mapping[str, Any]) -> Grid:
    affine = facts["affine"]
    rows = None if affine is None else tuple(tuple(row) for row in affine)
    return Grid(tuple(facts["shape"]), tuple(facts["spacing_mm"]), rows)


def _image(loaded: LoadedSubject, names: Sequence[str]) -> tuple[dict[str, Any], bytes]:
    ranges = channels(loaded.image, names)
    facts = {"grid": asdict(Grid.from_geometry(loaded.geometry)), "channels": [asdict(c) for c in ranges]}
    return facts, encode_image(loaded.image, ranges)


def _truth(loaded: LoadedSubject, dataset: Dataset, labels: LabelSpace) -> tuple[dict[str, Any], bytes]:
    assert loaded.label is not None, "only called for a subject with a label"
    return {}, encode_label(class_mapping(dataset.labels.names, labels.names)[loaded.label])


def _prediction(file: Path, labels: LabelSpace, grid: Grid) -> tuple[dict[str, Any], bytes]:
    """Class indices of a label map; its orientation is known or unknown as that of its image."""
    index = labels.to_index(read_label(file).data[0])
    if index.shape != grid.shape:
        raise VolumeError(
            f"{file}: expected a segmentation of {formatting.size(grid.shape)} voxels like the image, found "
            f"{formatting.size(index.shape)}; segment the image again"
        )
    return {}, encode_label(np.ascontiguousarray(index))


def _subject_hash(dataset: Dataset, subject: str) -> str:
    """A hash that changes with the modalities, channels and files of a subject."""
    record = dataset.subject(subject)
    refs = [record.images[m] for m in dataset.modalities if m in record.images]
    prefix = json.dumps([dataset.modalities, [ref.channel for ref in refs]])
    return files_hash(prefix, [*(ref.path for ref in refs), *([record.label] if record.label else [])])
