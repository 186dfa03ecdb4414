"""Scenes of subjects whose image is too large to be sent to the browser as a whole: their volumes are streamed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from core.datasets import Dataset
from core.datasets.loading import class_mapping, read_subject_headers
from core.errors import VolumeError
from core.imaging.display import Grid
from core.imaging.headers import Header, read_header
from core.labels import LabelSpace
from core.types import Size3
from ui.shared import formatting
from ui.shared.hashes import files_hash
from ui.viewer import streams
from ui.viewer.computed_stream import ComputedStream
from ui.viewer.heat import HeatFile
from ui.viewer.streams import ImagePart, ImageStream, LabelStream

WHOLE_VOXELS = 2**25  # of all channels; images with more are streamed


def is_large(shape: Size3, channels: int) -> bool:
    """Whether an image of this shape (i, j, k) and number of channels is streamed."""
    return int(np.prod(shape, dtype=np.int64)) * channels > WHOLE_VOXELS


class StreamedSubject:
    """A subject of a data set whose volumes are streamed.

    Parameters
    ----------
    dataset, subject : Dataset and str. The data set and the id of the subject.
    files : str. Hash of the files of the subject.
    parts : sequence of ImagePart. Channels of its image.
    """

    def __init__(self, dataset: Dataset, subject: str, files: str, parts: Sequence[ImagePart]) -> None:
        self._dataset, self._files, self._parts = dataset, files, parts
        self._record = dataset.subject(subject)

    @classmethod
    def of(cls, dataset: Dataset, subject: str, files: str, modalities: Sequence[str] = ()) -> StreamedSubject | None:
        """The subject, if it is large and its files can be read in parts; ``None`` otherwise.

        Parameters
        ----------
        modalities : sequence of str. Channels of the image, in order; empty for all.
        """
        record, modalities = dataset.subject(subject), tuple(modalities) or dataset.modalities
        refs = [record.images[m] for m in modalities if m in record.images]
        if not refs or not is_large(read_header(refs[0].path).shape, len(refs)):
            return None
        if dataset.absent(record, modalities) or subject in dataset.recipe.nearest_label:
            return None  # the voxels that are read differ from those in the files
        headers = read_subject_headers(dataset, record, modalities)
        label = None if record.label is None else headers.headers[record.label]
        if label is not None and (record.masks or label.channels != 1 or label.segments is not None):
            return None  # a mask or a channel for each class, or named segments
        parts = [
            ImagePart(name, headers.headers[ref.path], headers.geometries[ref.path], ref.channel)
            for name, ref in zip(modalities, refs, strict=True)
        ]
        return cls(dataset, subject, files, parts)

    @property
    def grid(self) -> Grid:
        """The grid of all volumes."""
        stored = self._parts[0].geometry
        return Grid.from_geometry(stored.canonical, stored)

    @property
    def has_truth(self) -> bool:
        """Whether the subject has a label map."""
        return self._record.label is not None

    def publish_image(self) -> str:
        """URL of the image."""
        nan_is_zero = self._dataset.nan_is_zero
        return streams.publish(f"stream\n{self._files}\n{nan_is_zero}", lambda: ImageStream(self._parts, nan_is_zero))

    def publish_truth(self, labels: LabelSpace) -> str:
        """URL of the truth in the classes of ``labels``, of a subject that has a label map."""
        path, own, nan_is_zero = self._record.label, self._dataset.labels, self._dataset.nan_is_zero
        assert path is not None, "only called for a subject with a label"
        headers = read_subject_headers(self._dataset, self._record)
        part = ImagePart("", headers.headers[path], headers.geometries[path], 0)
        mapping = class_mapping(own.names, labels.names)
        name = f"stream truth\n{self._files}\n{json.dumps([labels.names, own.to_json()])}"
        return streams.publish(
            name, lambda: LabelStream(name, part, lambda raw: mapping[self._dataset.to_index(raw)], nan_is_zero)
        )

    def publish_prediction(self, file: Path, labels: LabelSpace, on_request: bool = False) -> str:
        """URL of a prediction, a label map with the raw values of ``labels`` on the grid of the image.

        Parameters
        ----------
        on_request : bool. Whether the file is opened only when a browser asks for it, and its errors are the answer.

        Raises
        ------
        VolumeError
            If it has another shape than the image.
        """
        name = f"stream prediction\n{self._files}\n{files_hash('', [file])}\n{json.dumps(labels.to_json())}"
        if on_request:

            def opened() -> LabelStream:
                return LabelStream(name, self._part(file, "a segmentation"), labels.to_index)

            shape = self.grid.shape
            return streams.publish(
                f"{name}\non request", lambda: ComputedStream(shape, lambda: None, opened), on_request=True
            )
        part = self._part(file, "a segmentation")
        return streams.publish(name, lambda: LabelStream(name, part, labels.to_index))

    def publish_aligned(self, name: str, header: Header, to_index: Callable[[np.ndarray], np.ndarray]) -> str:
        """URL of a label map whose geometry is already that of the image.

        Parameters
        ----------
        name : str. Key of all that the class indices depend on, besides the image.
        header : Header. Header of the file, with the geometry to read it in.
        to_index : callable. Class indices, uint8, of raw values.

        Raises
        ------
        VolumeError
            If it cannot be read in parts: it has several channels, or named segments.
        """
        if header.channels != 1 or header.segments is not None:
            found = "named segments" if header.segments is not None else f"{header.channels} channels"
            raise VolumeError(
                f"{header.path}: expected a label map of numbers beside an image of this size, got {found}; write one "
                "label per voxel"
            )
        name = f"stream {name}\n{self._files}"
        part = ImagePart("", header, header.geometry, 0)
        return streams.publish(name, lambda: LabelStream(name, part, to_index))

    def publish_heat(self, heat: HeatFile) -> str:
        """URL of a heat layer, prepared when it is first shown; errors are those of :meth:`publish_prediction`."""
        name = f"stream {heat.key}\n{self._files}"
        if heat.prepare is not None:

            def opened() -> LabelStream:
                return LabelStream(name, self._part(heat.file, "a map"), heat.checked)

            shape, prepare = self.grid.shape, heat.prepare
            return streams.publish(name, lambda: ComputedStream(shape, prepare, opened), on_request=True)
        part = self._part(heat.file, "a map")
        return streams.publish(name, lambda: LabelStream(name, part, heat.checked), on_request=True)

    def _part(self, file: Path, kind: str) -> ImagePart:
        """A file of one channel on the grid of the image; ``kind`` is what it is."""
        header = read_header(file)
        part = ImagePart("", header, header.geometry, 0)
        if part.shape != self.grid.shape:
            raise VolumeError(
                f"{file}: expected {kind} of {formatting.size(self.grid.shape)} voxels like the image, found "
                f"{formatting.size(part.shape)}; segment the image again"
            )
        return part
