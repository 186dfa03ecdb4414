"""Reads the text in front of NRRD and MetaImage files: its fields, and the files that hold the voxels.

A header may name any path; only files in its own folder are accepted, so that an uploaded header cannot have another
file of the machine read as an image.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from core.errors import VolumeError
from core.imaging.bounded_io import open_regular_file

MAX_HEADER_BYTES = 2**18
NRRD_MAGIC = re.compile(rb"NRRD000[1-6]\r?\n")


@dataclass(frozen=True)
class TextHeader:
    """Header of an NRRD or MetaImage file.

    Attributes
    ----------
    fields : dict of str. Values by name, both in lower case but for names of files.
    data_files : tuple of Path. Files of the voxels; empty where they follow the header.
    """

    fields: dict[str, str]
    data_files: tuple[Path, ...] = ()

    def integers(self, name: str) -> tuple[int, ...]:
        """A field of whole numbers; empty if it is absent or something else."""
        try:
            return tuple(int(word) for word in self.fields.get(name, "").split())
        except ValueError:
            return ()


def read_nrrd_header(path: Path) -> TextHeader:
    """Read the header of an NRRD file (https://teem.sourceforge.net/nrrd/format.html).

    Raises
    ------
    VolumeError
        If the file cannot be opened, has no such header, or names a file elsewhere.
    """
    raw = _read(path)
    if not NRRD_MAGIC.match(raw):
        raise VolumeError(f"{path}: expected an NRRD header, got none; the file is damaged or of another format")
    end = re.search(rb"\r?\n\r?\n", raw)
    lines = (raw[: end.start()] if end else raw).decode("utf-8", "replace").splitlines()[1:]
    fields: dict[str, str] = {}
    for line in lines:
        name, separator, value = line.partition(":")
        if separator and not line.startswith("#") and not value.startswith("="):
            name = re.sub(r"[\s_-]+", "", name.lower())
            fields[name] = value.strip() if name == "datafile" else value.strip().lower()
    if "datafile" not in fields and end is None:
        raise VolumeError(f"{path}: expected voxels after its header, got the end of the file; it is cut off")
    return TextHeader(fields, _data_files(path, fields["datafile"]) if "datafile" in fields else ())


def nrrd_key_values(path: Path) -> dict[str, str]:
    """The ``key:=value`` pairs of an NRRD header, as 3D Slicer writes them; empty for a file that is no NRRD."""
    raw = _read(path)
    if not NRRD_MAGIC.match(raw):
        return {}
    end = re.search(rb"\r?\n\r?\n", raw)
    lines = (raw[: end.start()] if end else raw).decode("utf-8", "replace").splitlines()[1:]
    pairs = (line.partition(":=") for line in lines if not line.startswith("#"))
    return {key: value.strip() for key, separator, value in pairs if separator}


def read_metaimage_header(path: Path) -> TextHeader:
    """Read the header of a MetaImage, .mha or .mhd (https://itk.org/Wiki/ITK/MetaIO/Documentation).

    Raises
    ------
    VolumeError
        If the file cannot be opened, has no such header, or names a file elsewhere.
    """
    fields: dict[str, str] = {}
    for line in _read(path).split(b"\n"):
        name, separator, value = line.decode("utf-8", "replace").partition("=")
        if not separator or ":" in name:  # a colon separates too: the rest would be read differently by ITK
            break
        key = re.sub(r"\s+", "", name.lower())
        fields[key] = value.strip() if key == "elementdatafile" else value.strip().lower()
        if key == "elementdatafile":
            break
    if "ndims" not in fields or "elementdatafile" not in fields:
        raise VolumeError(
            f"{path}: expected a MetaImage header with NDims and ElementDataFile, got none; the file is damaged or of "
            "another format"
        )
    name = fields["elementdatafile"]
    return TextHeader(fields, () if name.upper() == "LOCAL" else _data_files(path, name))


def _data_files(path: Path, name: str) -> tuple[Path, ...]:
    """The file that a header names, which must lie beside it."""
    if name.upper().split()[:1] == ["LIST"] or "%" in name:
        raise VolumeError(
            f"{path}: expected its voxels in one file, got a list of files ({name[:60]}); write it as one file, "
            "from 3D Slicer or with SimpleITK"
        )
    name = name.removeprefix("./")
    if not name or "\0" in name or Path(name).name != name or "\\" in name or name in (".", ".."):
        raise VolumeError(
            f"{path}: expected the name of a file in its own folder for its voxels, got {name[:80]!r}; put the file "
            "beside the header, and its name alone into the header"
        )
    file = path.parent / name
    if file.is_symlink() and file.resolve().parent != path.parent.resolve():
        raise VolumeError(f"{file}: expected the voxels of {path.name}, got a link to another folder; copy the file")
    open_regular_file(file).close()
    return (file,)


def _read(path: Path) -> bytes:
    with open_regular_file(path) as file:
        try:
            return file.read(MAX_HEADER_BYTES)
        except OSError as error:
            raise VolumeError(f"{path}: cannot be read: {error}") from error
