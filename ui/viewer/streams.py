"""Serves large volumes to the browser in slabs: a few slices along an axis, read from disk when they are looked at.

``GET /api/streams/<token>`` gives, as JSON, ``{"progress": share}`` while the volume is prepared, then ``{"facts":
{...}}``, or ``{"error": text}``. Beside the progress, ``"preview": {"slice", "slices", "ratio"}`` says that
``?preview=1`` gives a picture of a slice, of that width as a multiple of its height. The voxels follow on request:
``?slab=<channel>,<axis>,<first>,<count>`` gives slices, ``?sample=<channel>`` evenly spaced voxels,
``?at=<number>,<number>`` intensities, numbered channel after channel, k fastest.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from core.errors import UserError
from core.files import atomic_replace, atomic_write
from core.imaging.display import Channel, encode_label, encode_part, part_channel
from core.imaging.geometry import Geometry
from core.imaging.headers import Header
from core.imaging.mapped_volume import Box, MappedVolume, SlicePlace, uncompressed
from core.labels import IGNORE_INDEX
from core.types import Size3
from ui.shared.addresses import API
from ui.viewer import volumes
from ui.viewer.sampling_grid import content_box, extent, sample_box, union
from ui.viewer.slice_preview import Preview, picture_of

PREFIX = f"{API}streams/"
MAX_STREAMS = 512  # known at a time, kept epochs too; the least recently used are forgotten until their page runs again
MAX_SLICES = 32  # of one request
COMPRESSION_LEVEL = 1
FORGOTTEN = "this volume is no longer available: load the page again"
PREVIEW_SHARES = (
    1 / 2,
    3 / 8,
    1 / 4,
    1 / 8,
)  # of the slices, in the order of the file: those of which pictures are shown
ALL = slice(None)

_streams: OrderedDict[str, Stream] = OrderedDict()
_lock = threading.Lock()
_images, _labels = threading.Lock(), threading.Lock()  # one of each kind is prepared at a time
_reading = threading.BoundedSemaphore(4)  # slabs that are read at a time


class Stream(ABC):
    """A volume that is prepared in the background, then read in slabs.

    Attributes
    ----------
    shape : tuple of int. Voxels along i, j, k, canonical order.
    channels : int. Number of channels.
    progress : float. Share of the preparation that is done.
    facts : dict or None. What the viewer has to know; ``None`` before the end of the preparation.
    error : str. Why the preparation failed.
    preview : Preview or None. A picture for the time of the preparation.
    waits : bool. Whether the preparation begins with the first request.
    cached : tuple of Path. Its files in the cache, which are in use as long as it is read.
    """

    def __init__(self, shape: Size3, channels: int) -> None:
        self.shape, self.channels = shape, channels
        self.progress = 0.0
        self.facts: dict[str, Any] | None = None
        self.error = ""
        self.preview: Preview | None = None
        self.waits = False
        self.cached: tuple[Path, ...] = ()

    def start(self) -> None:
        """Begin the preparation."""
        threading.Thread(target=self._run, name="stream", daemon=True).start()

    def _run(self) -> None:
        try:
            self.facts = self.prepare()
        except UserError as error:
            self.error = str(error)
        except OSError as error:
            self.error = f"{error.filename}: {error.strerror}; is there room on the disk?"

    def mark_use(self) -> None:
        """Set the time of its files in the cache to now: the least recently used are removed first."""
        for path in self.cached:
            with contextlib.suppress(OSError):
                os.utime(path)

    @abstractmethod
    def prepare(self) -> dict[str, Any]:
        """Make the volume readable; returns its facts."""

    @abstractmethod
    def slab(self, channel: int, box: Box) -> bytes:
        """The voxels of a box, i fastest."""

    def sample(self, channel: int) -> bytes:
        """Evenly spaced voxels of a channel."""
        return self.slab(channel, sample_box(self.shape))

    def intensities(self, numbers: Sequence[int]) -> bytes:
        """The intensities of voxels, little-endian float32."""
        raise ValueError("expected an image: a segmentation has no intensities")


@dataclass
class ImageStream(Stream):
    """The image of a subject.

    Attributes
    ----------
    parts : sequence of ImagePart. Its channels.
    nan_is_zero : bool. Whether NaN is read as 0.
    """

    parts: Sequence[ImagePart]
    nan_is_zero: bool = False
    _volumes: list[MappedVolume] = field(default_factory=list)
    _described: list[Channel] = field(default_factory=list)
    _places: tuple[SlicePlace, ...] = ()

    def __post_init__(self) -> None:
        super().__init__(self.parts[0].shape, len(self.parts))

    def prepare(self) -> dict[str, Any]:
        """Decompress the files, and describe the channels from a sample."""
        with _images:
            opened = open_files([part.header for part in self.parts], self._set_progress, self._keep_preview)
        described, volumes_, boxes = [], [], []
        for part in self.parts:
            path, offset = opened[part.header.path]
            volume = MappedVolume(part.header, part.geometry, path, offset, self.nan_is_zero)
            values = volume.intensities(sample_box(self.shape), part.channel)
            channel = part_channel(part.name, values, part.header.dtype, part.header.scaled)
            described.append(channel)
            volumes_.append(volume)
            boxes.append(content_box(values != np.float32(channel.background), self.shape))
        self._volumes, self._described = volumes_, described
        self.cached = tuple({path for path, _ in opened.values()} - {part.header.data_path for part in self.parts})
        return {"channels": [asdict(channel) for channel in described], "content": union(boxes), "fullest": None}

    def slab(self, channel: int, box: Box) -> bytes:
        """The stored values of a box, uint16 (:func:`core.imaging.display.encode_part`)."""
        values = self._volumes[channel].intensities(box, self.parts[channel].channel)
        return encode_part(values, self._described[channel])

    def intensities(self, numbers: Sequence[int]) -> bytes:
        """The intensities of voxels, little-endian float32."""
        found = []
        for number in numbers:
            channel, i, j, k = (int(n) for n in np.unravel_index(number, (self.channels, *self.shape)))
            box = (slice(i, i + 1), slice(j, j + 1), slice(k, k + 1))
            found.append(self._volumes[channel].intensities(box, self.parts[channel].channel).item())
        return np.array(found, "<f4").tobytes()

    def _set_progress(self, share: float) -> None:
        self.progress = share

    def _keep_preview(self, header: Header, path: Path, written: int) -> None:
        """Make a picture of the first channel: of a slice as soon as one is decompressed, at last of the middle one."""
        part = self.parts[0]
        if header.path != part.header.path:
            return
        volume = MappedVolume(part.header, part.geometry, path, part.header.offset, self.nan_is_zero)
        with contextlib.suppress(UserError):  # what is wrong with the file is said when it is read as a whole
            self._places = self._places or tuple(volume.slice_at(share, part.channel) for share in PREVIEW_SHARES)
            place = next((place for place in self._places if written >= place.end), None)
            if place is not None and (self.preview is None or self.preview.place != place):
                self.preview = picture_of(volume, part.channel, place)


@dataclass(frozen=True)
class ImagePart:
    """A channel of an image.

    Attributes
    ----------
    name : str. Modality.
    header : Header. Header of its file.
    geometry : Geometry. Geometry of the file as stored.
    channel : int. Channel of the file.
    """

    name: str
    header: Header
    geometry: Geometry
    channel: int

    @property
    def shape(self) -> Size3:
        """Voxels along i, j, k, canonical order."""
        return self.geometry.canonical.shape


@dataclass
class LabelStream(Stream):
    """A segmentation: class indices, which are computed once and kept on disk.

    Attributes
    ----------
    name : str. Key of all parameters that the content depends on.
    part : ImagePart. The file.
    to_index : callable. Class indices, uint8, of raw values.
    nan_is_zero : bool. Whether NaN is read as 0.
    """

    name: str
    part: ImagePart
    to_index: Callable[[np.ndarray], np.ndarray]
    nan_is_zero: bool = False
    _file: Path = Path()

    def __post_init__(self) -> None:
        super().__init__(self.part.shape, 1)

    def prepare(self) -> dict[str, Any]:
        """Convert the file to class indices, a few slices at a time."""
        with _images:  # the image, which is published before, comes first
            pass
        with _labels:
            return self._convert()

    def _convert(self) -> dict[str, Any]:
        self._file, _ = volumes.place(self.name, volumes.RAW_LABELS)
        self.cached = (self._file,)
        kept = self._file.with_suffix(".json")
        if self._file.is_file() and kept.is_file():
            self._file.touch()
            facts: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
            return facts
        opened = open_files([self.part.header], lambda share: None)
        path, offset = opened[self.part.header.path]
        volume = MappedVolume(self.part.header, self.part.geometry, path, offset, self.nan_is_zero)
        counts = [np.zeros(n, np.int64) for n in self.shape]
        with atomic_replace(self._file) as temporary, open(temporary, "wb") as file:
            for k in range(0, self.shape[2], MAX_SLICES):
                labels = volume.labels((ALL, ALL, slice(k, k + MAX_SLICES)))
                index = self.to_index(labels.T).T  # in the order of memory
                file.write(encode_label(index))
                labelled = (index != 0) & (index != IGNORE_INDEX)
                across = labelled.sum(2, dtype=np.uint16)  # at most MAX_SLICES
                counts[0] += across.sum(1, dtype=np.int64)
                counts[1] += across.sum(0, dtype=np.int64)
                counts[2][k : k + MAX_SLICES] = [np.count_nonzero(labelled[..., n]) for n in range(labelled.shape[2])]
                self.progress = min(1.0, (k + MAX_SLICES) / self.shape[2])
        found = all(count.any() for count in counts)
        facts = {
            "channels": [],
            "content": [extent(count > 0) for count in counts] if found else None,
            "fullest": [int(count.argmax()) for count in counts] if found else None,
        }
        atomic_write(kept, json.dumps(facts).encode())
        return facts

    def slab(self, channel: int, box: Box) -> bytes:
        """The class indices of a box, uint8."""
        mapped = np.memmap(self._file, np.uint8, "r", shape=self.shape, order="F")
        return encode_label(np.asfortranarray(mapped[box]))


def publish(name: str, make: Callable[[], Stream], on_request: bool = False) -> str:
    """The URL of a stream; it is made and prepared if it is not known, or its preparation failed.

    Parameters
    ----------
    name : str. Key of all parameters that the content depends on.
    make : callable. Makes the stream, without reading voxels.
    on_request : bool. Whether it is prepared only when a browser asks for it.
    """
    file, token = volumes.place(name, volumes.RAW_IMAGE)
    file.parent.mkdir(parents=True, exist_ok=True)
    with _lock:
        known = _streams.pop(token, None)
        stream = known if known is not None and not known.error else make()
        _streams[token] = stream
        while len(_streams) > MAX_STREAMS:
            _streams.popitem(last=False)
    if stream is not known:
        stream.waits = on_request
        if not on_request:
            stream.start()
    return PREFIX + token


def find(url: str) -> Stream | None:
    """The stream of a URL; ``None`` if it is not known."""
    with _lock:
        return _streams.get(url.removeprefix(PREFIX))


def open_files(
    headers: Sequence[Header],
    on_progress: Callable[[float], None],
    on_written: Callable[[Header, Path, int], None] = lambda header, path, count: None,
) -> dict[Path, tuple[Path, int]]:
    """For each image, a file that holds its voxels uncompressed, in the cache or where it is; and their position.

    Parameters
    ----------
    on_progress, on_written : callable. As of :func:`core.imaging.mapped_volume.uncompressed`, the share of all images
        and with the header of the one that is written.
    """
    by_path = {header.path: header for header in headers}
    opened = {}
    for n, (path, header) in enumerate(by_path.items()):
        status = header.data_path.stat()
        name = f"raw\n{header.data_path}\n{status.st_size}\n{status.st_mtime_ns}"
        target, _ = volumes.place(name, volumes.RAW_IMAGE)
        volumes.prune(target.parent)

        def report(share: float, finished: int = n) -> None:
            on_progress((finished + share) / len(by_path))

        opened[path] = uncompressed(header, target, report, partial(on_written, header))
        if opened[path][0] == target:
            target.touch()
    return opened


def stream(request: Request) -> Response:
    """The route of all streams."""
    token, query = request.path_params["token"], request.query_params
    with _lock:
        found = _streams.get(token)
        if found is not None:
            _streams.move_to_end(token)
            if found.waits:
                found.waits = False
                found.start()
    if found is None:
        return _gone()
    if "preview" in query and found.preview is not None:
        return Response(found.preview.jpeg, media_type="image/jpeg", headers={"cache-control": "no-store"})
    if not query or found.facts is None:
        return JSONResponse(_state(found), headers={"cache-control": "no-store"})
    numbers = [part for part in next(iter(query.values())).split(",") if part.isdecimal()]
    try:
        found.mark_use()
        with _reading:
            return _answer(found, next(iter(query)), [int(n) for n in numbers])
    except (UserError, FileNotFoundError) as error:
        with _lock:
            _streams.pop(token, None)  # its files have changed or are gone: the page makes it anew
        return _gone(str(error) if isinstance(error, UserError) else "")
    except (ValueError, IndexError) as error:
        return Response(f"{error}\n", 400, media_type="text/plain")


ROUTE = Route("/" + PREFIX + "{token}", stream, methods=["GET"])


def _answer(found: Stream, kind: str, numbers: Sequence[int]) -> Response:
    if kind == "at":
        if len(numbers) > volumes.MAX_ASKED:
            raise ValueError(f"expected up to {volumes.MAX_ASKED} numbers of intensities")
        return Response(found.intensities(numbers), media_type="application/octet-stream")
    if kind == "sample" and len(numbers) == 1 and numbers[0] < found.channels:
        data = found.sample(numbers[0])
    elif kind == "slab" and len(numbers) == 4 and numbers[0] < found.channels and numbers[1] < 3:
        channel, axis, first, count = numbers
        if not (first < found.shape[axis] and 0 < count <= MAX_SLICES):
            raise ValueError(f"expected 1 to {MAX_SLICES} slices of {found.shape[axis]}")
        sides = [ALL, ALL, ALL]
        sides[axis] = slice(first, first + count)
        data = found.slab(channel, (sides[0], sides[1], sides[2]))
    else:
        raise ValueError("expected slab=<channel>,<axis>,<first>,<count>, sample=<channel>, or at=<number>,...")
    headers = {"content-encoding": "gzip", "cache-control": "private, max-age=31536000, immutable"}
    data = gzip.compress(data, COMPRESSION_LEVEL, mtime=0)
    return Response(data, media_type="application/octet-stream", headers=headers)


def _state(found: Stream) -> dict[str, Any]:
    if found.error:
        return {"error": found.error}
    if found.facts is not None:
        return {"facts": found.facts}
    if found.preview is None:
        return {"progress": found.progress}
    place = found.preview.place
    preview = {"slice": place.number, "slices": found.shape[place.axis], "ratio": found.preview.ratio}
    return {"progress": found.progress, "preview": preview}


def _gone(reason: str = "") -> Response:
    return Response(f"{reason or FORGOTTEN}\n", 404, media_type="text/plain")
