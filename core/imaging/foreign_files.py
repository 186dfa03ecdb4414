"""Files of other formats than NIfTI and Analyze: MGH, NRRD, MetaImage, DICOM series and label maps.

They are decoded once, in a child process whose memory and time are limited, into plain voxels in a cache; from there on
they are read like NIfTI. A file that changes is decoded again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
from pathlib import Path

from core.disk_cache import DiskCache
from core.errors import ConfigError, VolumeError
from core.imaging.bounded_io import max_image_bytes, read_prefix
from core.imaging.decoded_image import HEADER_FILE, VOXEL_FILE, DecodedImage
from core.imaging.decoder import BASE_BYTES, Request
from core.imaging.file_kinds import PREFIX_BYTES, TEXT, identify, kind_of_format
from core.imaging.image_files import (
    ForeignFormat,
    folder_stamp,
    foreign_files_of,
    frame_count,
    label_object,
    stamp_of,
)
from core.library_versions import installed_versions
from core.paths import cache_folder
from core.processes import JsonLinesChild, LimitExceededError, ProcessLimits, start_json_lines_module

DECODER_VERSION = 3  # raise it when the same file is decoded to something else
DECODING_LIBRARIES = ("nibabel", "SimpleITK", "pydicom")  # another version of them may decode a file to something else
# Longest processor time: to start the process, and for a file, which may take longer by its size,
START_S, CPU_S, BYTES_PER_S = 20.0, 5.0, 10e6
FILE_S = 0.1  # by each further file, such as the slices of a series, whose headers are read first,
FRAME_S = 0.01  # by each frame of a DICOM file, which has a header of its own,
REFERENCE_S = 20.0  # and where it is a label map whose images are looked for in the folders near it.


def decode(path: Path, format: ForeignFormat) -> tuple[DecodedImage, Path]:
    """The image of a file and the file of its voxels, decoded now unless that has been done.

    Raises
    ------
    VolumeError
        If the file is missing or damaged, needs more memory or time than it may, the library that reads it is not
        installed, the cache cannot be written, or its limit is not a number.
    """
    _refuse_other_kind(path, format)
    cache = decoded_cache()
    key = _key(path, format)
    entry = cache.get(key)
    if entry is not None:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            image = DecodedImage.read(entry)
            table = image.segments
            if table is None or folder_stamp(Path(table.reference)) == table.reference_stamp:
                return image, entry / VOXEL_FILE
        cache.remove(key)
    files = foreign_files_of(path, format)
    is_label = format == "dicom" and label_object(path) is not None
    limit_s = CPU_S + sum(os.stat(file).st_size for file in files) / BYTES_PER_S + FILE_S * (len(files) - 1)
    limit_s += FRAME_S * frame_count(path) if format == "dicom" else 0.0
    limit_s += REFERENCE_S if is_label else 0.0
    entry = make_entry(cache, key, path, format, limit_s)
    if not (entry / HEADER_FILE).is_file():
        cache.remove(key)
        raise VolumeError(f"{path}: cannot be decoded: its reader wrote nothing")
    try:
        return DecodedImage.read(entry), entry / VOXEL_FILE
    except (OSError, ValueError) as error:
        raise VolumeError(f"{path}: its decoded voxels cannot be read: {error}; try again") from error


def make_entry(cache: DiskCache, key: str, path: Path, kind: str, limit_s: float) -> Path:
    """An entry of the cache that the process of ``core.imaging.decoder`` writes.

    Parameters
    ----------
    key : str. Name of the entry.
    path : Path. File or folder to read.
    kind : str. What is read, as in :class:`core.imaging.decoder.Request`.
    limit_s : float. Longest processor time that it may take.

    Raises
    ------
    VolumeError
        If the file cannot be read within memory and time, or the cache cannot be written.
    """

    def write(folder: Path) -> None:
        # The process has a working directory of its own.
        ask_decoder({"path": str(path.absolute()), "kind": kind, "folder": str(folder)}, limit_s)

    try:
        return cache.add(key, write)
    except ConfigError as error:
        raise VolumeError(f"{path}: cannot be decoded: {error}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise VolumeError(
            f"{path}: expected room to decode it in {cache.folder}, got: {reason}; free some space, or choose another "
            "place with SEGMENTARIUM_CHECKPOINTS"
        ) from error


def decoded_cache() -> DiskCache:
    """The cache of decoded voxels."""
    return DiskCache(cache_folder() / "decoded")


def _refuse_other_kind(path: Path, format: ForeignFormat) -> None:
    """Raise if a file is recognised as something else than its format: a pointer, a web page, another format."""
    if path.is_dir():
        return
    kind = identify(read_prefix(path, PREFIX_BYTES))
    # A header in text may begin with any field.
    if kind is not None and kind is not TEXT and kind.format != format:
        raise VolumeError(f"{path}: expected {kind_of_format(format).name}, got {kind.name}; {kind.remedy}")


def _key(path: Path, format: ForeignFormat) -> str:
    """Name of a file's entry in the cache: changes with place, size and time of any file that belongs to it, and with
    the libraries that decode it."""
    code = f"{DECODER_VERSION} {' '.join(installed_versions(*DECODING_LIBRARIES))}"
    digest = hashlib.sha256(f"{code} {format} {path.absolute()}\n".encode("utf-8", "surrogateescape"))
    try:
        digest.update(stamp_of(foreign_files_of(path, format)).encode())
    except OSError as error:
        named = error.filename or path
        raise VolumeError(f"{named}: cannot be opened: {error.strerror or error}; check the path") from None
    return digest.hexdigest()[:32]


def ask_decoder(request: Request, limit_s: float) -> None:
    """Have the process of ``core.imaging.decoder`` do something within memory and time.

    Raises
    ------
    VolumeError
        If it cannot be done, or not within the limits.
    """

    def limits(starts: bool) -> ProcessLimits:
        return ProcessLimits(5 * max_image_bytes() + BASE_BYTES, limit_s, START_S if starts else 0.0)

    try:
        response = _decoder.ask(request, limits)
    except LimitExceededError as error:
        why = "its disk does not answer, or this machine is overloaded: try again" if error.limit.is_waiting else ""
        raise VolumeError(f"{request['path']}: decoding it takes {error}; {why or 'is it damaged?'}") from None
    if response is None:
        raise VolumeError(f"{request['path']}: its reader crashed; is it damaged?")
    if "error" in response:
        raise VolumeError(response["error"])


def _start_decoder() -> subprocess.Popen[str]:
    # Further threads would take address space, which is limited, and time from training.
    threads = {"ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
    return start_json_lines_module("core.imaging.decoder", threads, stderr=subprocess.DEVNULL)


_decoder = JsonLinesChild(_start_decoder)
