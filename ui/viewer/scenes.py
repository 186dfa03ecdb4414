"""Subjects and their segmentations as scenes for the viewer: read once, sent once."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
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
from ui.viewer import volumes


@dataclass(frozen=True)
class Scene:
    """A volume and its segmentations for the viewer.

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
    """A subject of a data set: its image, its truth where it has one, and a prediction of it.

    Parameters
    ----------
    labels : the classes to show; those of the truth that are not among them become background. ``None``: the data
        set's own.
    prediction : a label map with the raw values of ``labels``, on the subject's grid.

    Raises
    ------
    UserError
        If a file cannot be read, or the prediction does not lie where the subject does.
    """
    dataset = open_dataset(folder)
    space = labels or dataset.labels
    loaded = _Once(lambda: load_subject(dataset, subject))
    stamp = _stamp(dataset, subject)
    facts, image = volumes.publish(f"image\n{stamp}", lambda: _image(loaded(), dataset.modalities))
    layers = {}
    if dataset.subject(subject).label is not None:
        shown = json.dumps([space.names, dataset.labels.to_json()])
        _, layers["truth"] = volumes.publish(f"truth\n{stamp}\n{shown}", lambda: _truth(loaded(), dataset, space))
    if prediction is not None:
        grid = _grid(facts["grid"])
        name = f"prediction\n{stamp}\n{_file_stamp(prediction)}\n{json.dumps(space.to_json())}"
        _, layers["prediction"] = volumes.publish(name, lambda: _prediction(prediction, space, grid))
    return _scene(facts, image, layers, space)


def image_scene(
    files: Sequence[Path], load: Callable[[], LoadedSubject], modalities: Sequence[str], labels: LabelSpace,
    prediction: Path | None = None, more: str = "",
) -> Scene:  # fmt: skip
    """Images that belong to no data set, and a prediction of them.

    Parameters
    ----------
    files : that are read, for a name of the content.
    load : reads them (:func:`core.datasets.loading.load_subject` or the like); called only if they are not kept.
    more : whatever else the content depends on: which channels of the files.
    """
    loaded = _Once(load)
    stamp = "\n".join([*map(_file_stamp, files), *modalities, more])
    facts, image = volumes.publish(f"image\n{stamp}", lambda: _image(loaded(), modalities))
    layers = {}
    if prediction is not None:
        grid = _grid(facts["grid"])
        name = f"prediction\n{stamp}\n{_file_stamp(prediction)}\n{json.dumps(labels.to_json())}"
        _, layers["prediction"] = volumes.publish(name, lambda: _prediction(prediction, labels, grid))
    return _scene(facts, image, layers, labels)


class _Once:
    """A subject that is read at most once, and only if needed."""

    def __init__(self, load: Callable[[], LoadedSubject]) -> None:
        self._load = load
        self._loaded: LoadedSubject | None = None

    def __call__(self) -> LoadedSubject:
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded


def _scene(facts: Mapping[str, Any], image: str, layers: Mapping[str, str], labels: LabelSpace) -> Scene:
    ranges = tuple(Channel(c["name"], c["low"], c["high"], tuple(c["window"])) for c in facts["channels"])
    classes = tuple({"name": c.name, "colour": c.colour} for c in labels.foreground)
    return Scene(_grid(facts["grid"]), ranges, image, classes, layers)


def _grid(facts: Mapping[str, Any]) -> Grid:
    affine = facts["affine"]
    rows = None if affine is None else tuple(tuple(row) for row in affine)
    return Grid(tuple(facts["shape"]), tuple(facts["spacing_mm"]), rows)


def _image(loaded: LoadedSubject, names: Sequence[str]) -> tuple[dict[str, Any], bytes]:
    ranges = channels(loaded.image, names)
    facts = {"grid": asdict(Grid.from_geometry(loaded.geometry)), "channels": [asdict(c) for c in ranges]}
    return facts, encode_image(loaded.image, ranges)


def _truth(loaded: LoadedSubject, dataset: Dataset, shown: LabelSpace) -> tuple[dict[str, Any], bytes]:
    assert loaded.label is not None, "only a subject with a label has a truth to show"
    return {}, encode_label(class_mapping(dataset.labels.names, shown.names)[loaded.label])


def _prediction(file: Path, labels: LabelSpace, grid: Grid) -> tuple[dict[str, Any], bytes]:
    """A label map on the grid of its image; it states its orientation or does not, as the image does."""
    index = labels.to_index(read_label(file).data[0])
    if index.shape != grid.shape:
        raise VolumeError(
            f"{file}: expected a segmentation of {formatting.size(grid.shape)} voxels as the image has, found "
            f"{formatting.size(index.shape)}; segment the image again"
        )
    return {}, encode_label(np.ascontiguousarray(index))


def _stamp(dataset: Dataset, subject: str) -> str:
    """What the content of a subject's files depends on."""
    found = dataset.subject(subject)
    refs = [found.images[m] for m in dataset.modalities if m in found.images]
    files = [*(f"{ref.channel} {_file_stamp(ref.path)}" for ref in refs), _file_stamp(found.label)]
    return "\n".join([*dataset.modalities, *files])


def _file_stamp(path: Path | None) -> str:
    """A file's name, size and time of change; of an Analyze header its data file's too."""
    if path is None:
        return "none"
    stamps = []
    for part in (path, path.with_suffix(".img") if path.suffix == ".hdr" else None):
        if part is not None:
            try:
                facts = part.stat()
                stamps.append(f"{part} {facts.st_size} {facts.st_mtime_ns}")
            except OSError:
                stamps.append(f"{part} missing")
    return " ".join(stamps)
