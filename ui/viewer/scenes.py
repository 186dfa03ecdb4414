"""Scenes of the viewer: a subject's image, its truth and a prediction, published as volumes for the browser."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from core.datasets import DataOptions, Dataset, LoadedSubject, load_subject, open_dataset
from core.datasets.loading import class_mapping
from core.datasets.registry import DEFAULT_OPTIONS
from core.errors import VolumeError
from core.imaging.display import Channel, Grid, channels, encode_image, encode_label
from core.imaging.volume import read_label
from core.labels import LabelClass, LabelSpace
from ui.shared import formatting
from ui.shared.hashes import files_hash
from ui.viewer import volumes
from ui.viewer.heat import HeatFile, HeatLayer
from ui.viewer.heat import publish as publish_heat
from ui.viewer.streamed_scenes import StreamedSubject

ENCODING = 3  # of images; part of the names of published ones, which a cache keeps


@dataclass(frozen=True)
class EpochLayer:
    """A segmentation of the case by an epoch that a run has kept.

    Attributes
    ----------
    name : str. Which epoch it is.
    url : str. URL of the class indices.
    dice : float or None. Mean Dice; ``None`` without a reference.
    """

    name: str
    url: str
    dice: float | None


@dataclass(frozen=True)
class Scene:
    """A volume and its segmentations.

    Attributes
    ----------
    grid : Grid. Grid of all volumes of the scene, axes in canonical (RAS) order.
    channels : tuple of Channel. Modalities of the image with their intensity ranges; empty if it is streamed.
    image : str. URL of the image (:func:`core.imaging.display.encode_image`).
    classes : tuple of mapping. ``{"name", "colour"}`` of the classes 1, 2, ...; the background (0) is left out.
    intensities : str. URL of the intensities (:func:`ui.viewer.volumes.publish_intensities`), channels one after
        another, k fastest, from which the readout asks for those that the image holds rounded; empty if it holds all
        exactly.
    layers : mapping. URL of each segmentation (:func:`core.imaging.display.encode_label`) by its name: "truth",
        "prediction", or any other.
    ignore : mapping, optional. ``{"name", "colour"}`` of the ignore label, whose voxels are hatched.
    streamed : bool. Whether all URLs are those of streams (:mod:`ui.viewer.streams`).
    heat : tuple of HeatLayer. Numbers per voxel that can be shown in colours, in the order of their buttons.
    epochs : tuple of EpochLayer. Segmentations by kept epochs, in the order of training (:mod:`ui.viewer.epochs`).
    titles : mapping. What layers are called on screen, by name; the others are called as they are named.
    changes : str. URL of the numbers of voxels in which the first or the second prediction is right
        (:mod:`ui.viewer.second_counts`), where streamed layers have to be counted; empty otherwise.
    """

    grid: Grid
    channels: tuple[Channel, ...]
    image: str
    classes: tuple[Mapping[str, str], ...] = ()
    layers: Mapping[str, str] = field(default_factory=dict)
    intensities: str = ""
    ignore: Mapping[str, str] | None = None
    streamed: bool = False
    heat: tuple[HeatLayer, ...] = ()
    epochs: tuple[EpochLayer, ...] = ()
    titles: Mapping[str, str] = field(default_factory=dict)
    changes: str = ""


def described(label: LabelClass) -> dict[str, str]:
    """A class as the viewer and other components take it: ``{"name", "colour"}``."""
    return {"name": label.name, "colour": label.colour}


def subject_scene(
    folder: Path,
    subject: str,
    labels: LabelSpace | None = None,
    prediction: Path | None = None,
    options: DataOptions = DEFAULT_OPTIONS,
    heat: Sequence[HeatFile] = (),
) -> Scene:
    """The scene of a subject of a data set: its image, its truth if it has one, and a prediction.

    Parameters
    ----------
    folder : Path. Folder of the data set.
    subject : str. Id of the subject.
    labels : LabelSpace, optional. Classes to show; other classes of the truth become background. By default those of
        the data set. Without truth if it lacks any of them.
    prediction : Path, optional. Label map with the raw values of ``labels``, on the subject's grid.
    options : DataOptions. Options of reading the data set.
    heat : sequence of HeatFile. Files of heat layers, on the subject's grid.

    Raises
    ------
    UserError
        If a file cannot be read, or the prediction has another size than the image.
    """
    dataset = open_dataset(folder, options=options)
    label_space = labels or dataset.labels
    files = subject_hash(dataset, subject)
    large = StreamedSubject.of(dataset, subject, files)
    if large is not None:
        streamed = _streamed_scene(large, dataset, label_space, prediction)
        return replace(streamed, heat=tuple(one.layer(large.publish_heat(one)) for one in heat))
    load = cache(lambda: load_subject(dataset, subject))  # not called if all volumes are published already
    image = _publish_image(files, load, dataset.modalities)
    layers = {}
    if dataset.subject(subject).label is not None and not missing_classes(label_space, dataset):
        mapping = json.dumps([label_space.names, dataset.labels.to_json()])
        _, layers["truth"] = volumes.publish(f"truth\n{files}\n{mapping}", lambda: _truth(load(), dataset, label_space))
    scene = _with_segmentations(image, files, layers, label_space, prediction)
    return _with_ignore(_with_heat(scene, files, heat), dataset)


def image_scene(
    files: Sequence[Path],
    images: Dataset,
    modalities: Sequence[str],
    labels: LabelSpace,
    prediction: Path | None = None,
    channels_key: str = "",
) -> Scene:
    """The scene of images that belong to no data set, and a prediction.

    Parameters
    ----------
    files : sequence of Path. Image files; a changed file is published again.
    images : Dataset. A data set of one subject, without label map, with the images in these files.
    modalities : sequence of str. Modalities to show, in order.
    labels : LabelSpace. Classes of the prediction.
    prediction : Path, optional. Label map with the raw values of ``labels``, on the images' grid.
    channels_key : str. Text that changes with the channels read from the files.
    """
    hashed = files_hash("\n".join([*modalities, channels_key]), files)
    (subject,) = images.ids
    large = StreamedSubject.of(images, subject, hashed, modalities)
    if large is not None:
        return _streamed_scene(large, images, labels, prediction)
    image = _publish_image(hashed, cache(lambda: load_subject(images, subject, modalities)), modalities)
    return _with_segmentations(image, hashed, {}, labels, prediction)


def _streamed_scene(large: StreamedSubject, dataset: Dataset, labels: LabelSpace, prediction: Path | None) -> Scene:
    image, layers = large.publish_image(), {}
    if large.has_truth and not missing_classes(labels, dataset):
        layers["truth"] = large.publish_truth(labels)
    if prediction is not None:
        layers["prediction"] = large.publish_prediction(prediction, labels)
    classes = tuple(described(c) for c in labels.foreground)
    return _with_ignore(Scene(large.grid, (), image, classes, layers, intensities=image, streamed=True), dataset)


def _with_ignore(scene: Scene, dataset: Dataset) -> Scene:
    """The scene of a subject with the ignore label of its truth."""
    ignore = dataset.labels.ignore
    return replace(scene, ignore=described(ignore)) if ignore is not None and "truth" in scene.layers else scene


def missing_classes(labels: LabelSpace, dataset: Dataset) -> list[str]:
    """Names of classes that a data set does not have: its label maps say nothing of them."""
    return [c.name for c in labels.foreground if c.name not in dataset.labels.names]


def _publish_image(files: str, load: Callable[[], LoadedSubject], names: Sequence[str]) -> Scene:
    """A scene of the image only; ``files`` is the hash of its files, and ``load`` may be called twice."""
    facts, url = volumes.publish(f"image {ENCODING}\n{files}", lambda: _image(load(), names))
    ranges = tuple(Channel(**c | {"window": tuple(c["window"])}) for c in facts["channels"])
    intensities = ""
    if not all(channel.exact for channel in ranges):
        intensities = volumes.publish_intensities(
            f"intensities\n{files}", lambda: load().image.astype("<f4", copy=False).tobytes()
        )
    return Scene(_grid(facts["grid"]), ranges, url, intensities=intensities)


def _with_segmentations(
    scene: Scene, files: str, layers: dict[str, str], labels: LabelSpace, prediction: Path | None
) -> Scene:
    """The scene with layers; the prediction is published as a further layer."""
    if prediction is not None:
        name = f"prediction\n{files}\n{files_hash('', [prediction])}\n{json.dumps(labels.to_json())}"
        _, layers["prediction"] = volumes.publish(name, lambda: ({}, encode_prediction(prediction, labels, scene.grid)))
    return replace(scene, classes=tuple(described(c) for c in labels.foreground), layers=layers)


def _with_heat(scene: Scene, files: str, heat: Sequence[HeatFile]) -> Scene:
    """The scene with heat layers, which are read when they are first shown."""
    shape = scene.grid.shape
    urls = [publish_heat(f"{one.key}\n{files}", partial(one.read, shape)) for one in heat]
    return replace(scene, heat=tuple(one.layer(url) for one, url in zip(heat, urls, strict=True)))


def _grid(facts: Mapping[str, Any]) -> Grid:
    affine = facts["affine"]
    rows = None if affine is None else tuple(tuple(row) for row in affine)
    file_axes = tuple((axis, reverse) for axis, reverse in facts["file_axes"])
    return Grid(tuple(facts["shape"]), tuple(facts["spacing_mm"]), rows, file_axes)


def _image(loaded: LoadedSubject, names: Sequence[str]) -> tuple[dict[str, Any], bytes]:
    encoded = encode_image(loaded.image, channels(loaded.image, names))
    grid = Grid.from_geometry(loaded.geometry, loaded.stored)
    return {"grid": asdict(grid), "channels": [asdict(c) for c in encoded.channels]}, encoded.data


def _truth(loaded: LoadedSubject, dataset: Dataset, labels: LabelSpace) -> tuple[dict[str, Any], bytes]:
    assert loaded.label is not None, "only called for a subject with a label"
    return {}, encode_label(class_mapping(dataset.labels.names, labels.names)[loaded.label])


def encode_prediction(file: Path, labels: LabelSpace, grid: Grid) -> bytes:
    """Class indices of a label map for the browser; its orientation is known or unknown as that of its image.

    Parameters
    ----------
    file : Path. Label map with the raw values of ``labels``.
    grid : Grid. Grid of its image.

    Raises
    ------
    UserError
        If it cannot be read, or has another size than the image.
    """
    index = labels.to_index(read_label(file).data[0])
    if index.shape != grid.shape:
        raise VolumeError(
            f"{file}: expected a segmentation of {formatting.size(grid.shape)} voxels like the image, found "
            f"{formatting.size(index.shape)}; segment the image again"
        )
    return encode_label(np.ascontiguousarray(index))


def subject_hash(dataset: Dataset, subject: str) -> str:
    """A hash that changes with the modalities, channels and files of a subject, and with how they are read."""
    record = dataset.subject(subject)
    refs = [record.images[m] for m in dataset.modalities if m in record.images]
    prefix = json.dumps([dataset.modalities, [ref.channel for ref in refs], dataset.nan_is_zero])
    if dataset.value_map:
        prefix += json.dumps(sorted(dataset.value_map.items()))
    if dataset.segments:
        prefix += json.dumps([sorted(dataset.segments.items()), dataset.later_mask_wins])
    if dataset.labels_follow_images:
        prefix += "labels follow images"
    prefix += dataset.recipe.digest
    labels = [*record.masks] or ([record.label] if record.label else [])
    return files_hash(prefix, [*(ref.path for ref in refs), *labels])
