"""The format of an image by its name or content, and the files that are one image: a pair of header and voxels, a text
header with the file that it names, a DICOM series.

A pair is ``.hdr`` with ``.img``, either of them gzipped (``.hdr.gz``, ``.img.gz``), in lower or upper case.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Literal, get_args

from core.errors import VolumeError
from core.imaging.file_kinds import NIFTI_SUFFIXES, PREFIX_BYTES, is_dicom
from core.imaging.text_header import read_metaimage_header, read_nrrd_header

ForeignFormat = Literal["mgh", "nrrd", "metaimage", "dicom"]
FOREIGN_FORMATS: tuple[str, ...] = get_args(ForeignFormat)

VOLUME_SUFFIXES: dict[str, ForeignFormat] = {
    ".mgh": "mgh", ".mgz": "mgh", ".mgh.gz": "mgh", ".nrrd": "nrrd", ".nhdr": "nrrd", ".mha": "metaimage",
    ".mhd": "metaimage",
}  # fmt: skip
DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
DICOM_LABELS = {  # SOP classes of label maps on the grid of other images
    "1.2.840.10008.5.1.4.1.1.66.4": "a segmentation (DICOM SEG)",
    "1.2.840.10008.5.1.4.1.1.66.7": "a segmentation (DICOM SEG, label map)",
    "1.2.840.10008.5.1.4.1.1.481.3": "contours (RTSTRUCT)",
}
TRIED = 20  # files of a folder whose content is looked at
MAX_BESIDE_LABEL = 1000  # files without a suffix in a folder that stands for the label map in it
_META_BYTES = 2048  # of a DICOM file, which hold its class
# Length of the class in the meta information; without that, as in files of older systems, in the data set.
_CLASS = re.compile(rb"\x02\x00\x02\x00UI(..)", re.DOTALL)
_CLASS_WITHOUT_META = re.compile(rb"\x08\x00\x16\x00(?:UI(?=..)|(?=..\0\0))(..)(?:\0\0)?", re.DOTALL)
_FRAMES_BYTES, _FRAME_BYTES = 4 * 2**20, 64  # of a DICOM file: before its number of frames, and each of their headers
_NUMBER_OF_FRAMES = re.compile(rb"\x28\x00\x08\x00(?:IS..|..\0\0) *(\d{1,9})", re.DOTALL)
PAIR_SUFFIXES = tuple(s for s in NIFTI_SUFFIXES if not s.startswith(".nii"))  # of images of two files
VOXEL_SUFFIXES = tuple(s for s in PAIR_SUFFIXES if s.startswith(".img"))  # of the one that holds the voxels


def foreign_format(path: Path) -> ForeignFormat | None:
    """The format of a file by its name, or DICOM by the content of a file or the files of a folder; ``None`` for
    others."""
    name = path.name.lower()
    if name.endswith(NIFTI_SUFFIXES):
        return None
    found = next((format for suffix, format in VOLUME_SUFFIXES.items() if name.endswith(suffix)), None)
    if found is not None:
        return found
    if name.endswith(DICOM_SUFFIXES):
        return "dicom"
    with contextlib.suppress(OSError, ValueError):
        if path.is_dir():
            return "dicom" if _holds_dicom(path) else None
        # DICOM files often have no suffix, or a number in its place.
        if (not path.suffix or path.suffix[1:].isdigit()) and _starts_as_dicom(path):
            return "dicom"
    return None


def is_dicom_file(path: Path) -> bool:
    """Whether a file is DICOM by its suffix, or by its content if it has none."""
    if path.name.lower().endswith(DICOM_SUFFIXES):
        return True
    return may_be_dicom(path.name) and _starts_as_dicom(path)


def may_be_dicom(name: str) -> bool:
    """Whether a file is DICOM by the suffix of its name, or has none, or a number in its place."""
    suffix = Path(name).suffix
    return name.lower().endswith(DICOM_SUFFIXES) or ((not suffix or suffix[1:].isdigit()) and not name.startswith("."))


def holds_dicom_images(folder: Path, names: Iterable[str], or_labels: bool = False) -> bool:
    """Whether a folder holds a DICOM series of images, by the first of its files that may be DICOM.

    Parameters
    ----------
    names : iterable of str. Names of its files.
    or_labels : bool. Whether segmentations or contours count too.
    """
    visible = sorted(n for n in names if not n.startswith(".") and n != "DICOMDIR")
    named = [n for n in visible if n.lower().endswith(DICOM_SUFFIXES)]
    unnamed = [n for n in visible if "." not in n or n.rpartition(".")[2].isdigit()]
    tried = (folder / n for n in named[:TRIED] or unnamed[:TRIED])
    return any(is_dicom_file(file) and (or_labels or dicom_class(file) not in DICOM_LABELS) for file in tried)


def dicom_class(path: Path) -> str:
    """The SOP class of a DICOM file by its first bytes; empty if they do not state one."""
    try:
        with open(path, "rb") as file:
            start = file.read(_META_BYTES)
    except OSError:
        return ""
    if not is_dicom(start) and not path.name.lower().endswith(DICOM_SUFFIXES):
        return ""
    found = _CLASS.search(start) or _CLASS_WITHOUT_META.search(start)
    if found is None:
        return ""
    value = start[found.end() : found.end() + int.from_bytes(found[1], "little")]
    return value.rstrip(b"\0 ").decode("ascii", "replace")


def frame_count(path: Path) -> int:
    """Frames that a DICOM file states, no more than its size has room for; 1 for others, and for a folder."""
    with contextlib.suppress(OSError):
        if path.is_file():
            with open(path, "rb") as file:
                start, size = file.read(_FRAMES_BYTES), os.fstat(file.fileno()).st_size
            found = _NUMBER_OF_FRAMES.search(start) if is_dicom(start) else None
            return max(1, min(int(found[1]), size // _FRAME_BYTES)) if found is not None else 1
    return 1


def label_object(path: Path) -> Path | None:
    """The DICOM SEG or RTSTRUCT that a file is, or that is the only DICOM file of a folder; ``None`` for images."""
    with contextlib.suppress(OSError):
        if path.is_dir():
            return _only_label(path)
        return path if dicom_class(path) in DICOM_LABELS else None
    return None


def folder_stamp(folder: Path) -> str:
    """Text that changes with the name, size and time of any file in a folder; empty if it cannot be listed."""
    try:
        return stamp_of(sorted(p for p in folder.iterdir() if p.is_file()))
    except OSError:
        return ""


def stamp_of(files: Iterable[Path]) -> str:
    """Text that changes with the name, size and time of any of some files.

    Raises
    ------
    OSError
        If one is missing.
    """
    digest = hashlib.sha256()
    for file in files:
        status = os.stat(file)
        digest.update(f"{file.name} {status.st_size} {status.st_mtime_ns} {status.st_ino}\n".encode("utf-8", "replace"))
    return digest.hexdigest()[:32]


def exact_stamp(file: Path) -> tuple[int, ...]:
    """What changes also where a file is exchanged for another one of the same size and time, as slices of a series are;
    empty for a missing file. Comparable while a process runs."""
    try:
        status = os.stat(file)
    except OSError:
        return ()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def files_of(path: Path) -> tuple[Path, ...]:
    """The files of an image, itself first; only itself where a header is damaged or a partner missing; of a folder all
    files."""
    with contextlib.suppress(VolumeError, OSError):
        format: ForeignFormat | None = "dicom" if path.is_dir() else foreign_format(path)
        if format is not None:
            return foreign_files_of(path, format)
        partner = partner_of(path)
        return (path,) if partner is None else (path, partner)
    return (path,)


def foreign_files_of(path: Path, format: ForeignFormat) -> tuple[Path, ...]:
    """The files of an image of another format, itself first, then those that its header names, or all files in the
    folder of a DICOM series.

    Raises
    ------
    VolumeError
        If its header cannot be read, or its folder cannot be listed.
    """
    if format == "dicom":
        folder = path if path.is_dir() else path.parent
        try:
            return (path, *sorted(p for p in folder.iterdir() if p.is_file()))
        except OSError as error:
            raise VolumeError(f"{folder}: cannot be listed: {error.strerror or error}") from None
    if format == "nrrd":
        return (path, *read_nrrd_header(path).data_files)
    return (path, *read_metaimage_header(path).data_files) if format == "metaimage" else (path,)


def partner_names(name: str) -> tuple[str, ...]:
    """Names that the other file of a pair may have, the usual one first; empty for a file that is not one of a pair."""
    suffix = max((s for s in PAIR_SUFFIXES if name.lower().endswith(s)), key=len, default="")
    if not suffix:
        return ()
    stem = name[: len(name) - len(suffix)]
    partner = ".hdr" if suffix in VOXEL_SUFFIXES else ".img"
    return tuple(
        stem + s for s in (partner, partner.upper(), partner + ".gz", partner.upper() + ".GZ", partner.title())
    )


def partner_of(path: Path) -> Path | None:
    """The other file of a pair; ``None`` if it is missing, and for a file that is not one of a pair."""
    return next((p for p in map(path.with_name, partner_names(path.name)) if os.path.lexists(p)), None)


def is_second_half(name: str, names: Collection[str]) -> bool:
    """Whether a file holds the voxels of a header among others, which stands for the pair.

    Parameters
    ----------
    name : str. Name or path of the file.
    names : collection of str. Names or paths of all files, written in the same way.
    """
    return name.lower().endswith(VOXEL_SUFFIXES) and any(partner in names for partner in partner_names(name))


def _holds_dicom(folder: Path) -> bool:
    """Whether one of the first files of a folder is DICOM."""
    try:
        files = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))[:TRIED]
    except OSError:
        return False
    return any(_starts_as_dicom(file) for file in files)


def _only_label(folder: Path) -> Path | None:
    """The segmentation or contours that are the only DICOM file of a folder, looked for in some of its files."""
    files = sorted(p for p in folder.iterdir() if may_be_dicom(p.name) and p.is_file())
    named = [p for p in files if p.name.lower().endswith(DICOM_SUFFIXES)]
    if len(named) > 1 or len(files) > MAX_BESIDE_LABEL:
        return None
    found = list(itertools.islice(filter(is_dicom_file, files), 2))
    return label_object(found[0]) if len(found) == 1 else None


def _starts_as_dicom(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            return is_dicom(file.read(PREFIX_BYTES))
    except OSError:
        return False
