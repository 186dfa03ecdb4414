"""What lies in a folder of DICOM files, read once in the process of ``core.imaging.decoder`` and kept until a file
changes: series of images, and segmentations (SEG) and contours (RTSTRUCT) with the series that they refer to."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.errors import VolumeError
from core.imaging.dicom_index import INDEX_FILE, DicomSeries, FolderIndex, LabelObject
from core.imaging.foreign_files import BYTES_PER_S, FILE_S, decoded_cache, make_entry
from core.imaging.image_files import folder_stamp
from core.imaging.segments import Segment

INDEX_VERSION = 6  # raise it when the same folder is indexed differently
FOLDER_S = 30.0  # longest processor time for a folder; longer by its files, and by the bytes of segmentations


def index_folder(folder: Path) -> FolderIndex:
    """What lies in a folder of DICOM files.

    Raises
    ------
    VolumeError
        If the folder cannot be listed or read within memory and time, or pydicom is not installed.
    """
    stamp = folder_stamp(folder)
    if not stamp:
        raise VolumeError(f"{folder}: cannot be listed; check the path and its permissions")
    text = f"index {INDEX_VERSION} {folder.absolute()} {stamp}"
    key = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]
    cache = decoded_cache()
    entry = cache.get(key)
    if entry is not None:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            return _read(entry)
        cache.remove(key)
    files = [p.stat() for p in folder.iterdir() if p.is_file()]
    limit_s = FOLDER_S + FILE_S * len(files) + sum(s.st_size for s in files) / BYTES_PER_S
    entry = make_entry(cache, key, folder, "dicom-index", limit_s)
    try:
        return _read(entry)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise VolumeError(f"{folder}: its index cannot be read: {error}; try again") from error


def _read(entry: Path) -> FolderIndex:
    content: Mapping[str, Any] = json.loads((entry / INDEX_FILE).read_text("utf-8"))
    series = tuple(DicomSeries(**{**item, "instances": tuple(item["instances"])}) for item in content["series"])
    labels = tuple(_label(item) for item in content["labels"])
    return FolderIndex(series, labels, tuple(content["problems"]), tuple(content["damaged"]))


def _label(item: Mapping[str, Any]) -> LabelObject:
    tuples = {name: tuple(item[name]) for name in ("series", "images", "frames_of_reference")}
    return LabelObject(**{**item, **tuples, "segments": tuple(Segment(**s) for s in item["segments"])})
