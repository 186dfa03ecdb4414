"""Headers of the slices of DICOM files, and which slices belong to one image.

Read with pydicom, only in the process of ``core.imaging.decoder``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import VolumeError
from core.files import StampedCache
from core.formatting import format_count, format_list
from core.imaging.geometry import format_mm
from core.imaging.image_files import DICOM_LABELS, exact_stamp

MAX_FILES = 20_000
KEPT_PLANES = 20_000  # slices whose headers are kept, about 1.5 kB each
DIRECTION_DIGITS = 3  # of direction cosines that slices of one volume share
CONVERT = "convert it with dcm2niix"
NOT_IMAGES = {
    **DICOM_LABELS,
    "1.2.840.10008.5.1.4.1.1.481.2": "a dose (RTDOSE)",
    "1.2.840.10008.5.1.4.1.1.66": "raw data",
}
# Header elements that are read of every file; pixels are not.
ELEMENTS = (
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SeriesDescription", "SeriesNumber",
    "InstanceNumber", "Modality", "ImageType", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "BitsAllocated",
    "PixelSpacing", "PhotometricInterpretation", "ImagePositionPatient", "ImageOrientationPatient", "SliceThickness",
    "SpacingBetweenSlices", "TemporalPositionIdentifier", "EchoNumbers", "AcquisitionNumber", "TriggerTime",
    "AcquisitionTime", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "FloatPixelData",
)  # fmt: skip


@dataclass(frozen=True)
class Plane:
    """One slice.

    Attributes
    ----------
    file : Path. Its file.
    frame : int. Frame of the file, from 0.
    rows, columns : int. Pixels.
    bits : int. Allocated bits of a pixel.
    spacing_mm : tuple of float. Distance of rows, and of columns.
    directions : ndarray, shape (2, 3), or None. Unit vectors in LPS along a row (column index grows), down a column.
    position : ndarray, shape (3,), or None. Centre of the first pixel in LPS, mm.
    thickness_mm : float or None. Stated distance to the next slice, else thickness.
    order : tuple. Orders slices at one position: time, echo, acquisition, number.
    series, description, uid : str. UID and description of the series; UID of the instance.
    frame_of_reference : str. UID of the coordinates in which positions are stated.
    inverted : bool. Whether the least value is white (MONOCHROME1).
    """

    file: Path
    frame: int
    rows: int
    columns: int
    bits: int
    spacing_mm: tuple[float, float]
    directions: np.ndarray | None
    position: np.ndarray | None
    thickness_mm: float | None
    order: tuple[float, ...]
    series: str
    description: str
    uid: str
    frame_of_reference: str
    inverted: bool

    @property
    def group(self) -> tuple[object, ...]:
        """What slices of one volume have in common."""
        turned = () if self.directions is None else tuple(np.round(self.directions, DIRECTION_DIGITS).ravel() + 0.0)
        return (self.series, self.rows, self.columns, *np.round(self.spacing_mm, 4), *turned)


@dataclass(frozen=True)
class _Content:
    """What a DICOM file holds: slices, or what it is instead; and whether its header is damaged."""

    planes: tuple[Plane, ...]
    kind: str = ""
    is_damaged: bool = False


def find_planes(path: Path) -> tuple[list[Plane], list[str], list[str]]:
    """The slices of the only image in a folder, or of the image to which a file belongs, notes, and warnings.

    Raises
    ------
    VolumeError
        If there is no image, or a folder holds several: the error names a file of each.
    """
    folder = path if path.is_dir() else path.parent
    skipped, others, damaged = 0, [], list[str]()
    planes: list[Plane] = []
    for file in visible_files(folder):
        content = _contents.get(partial(_read_content, file, file == path), file)
        if content is None:
            _contents.forget(file)  # it may be unreadable only now
            skipped += 1
            continue
        if content.kind:
            if content.is_damaged:
                damaged.append(file.name)
            if file == path:
                raise VolumeError(f"{path}: expected an image, got {content.kind}; name the folder of the image itself")
            others.append(content.kind)
            continue
        planes += content.planes
    notes = [f"{format_count(skipped, 'file')} other than DICOM left out"] if skipped else []
    warnings = (
        [f"{format_count(len(damaged), 'damaged DICOM file')} left out, as {damaged[0]}; copy again"] if damaged else []
    )
    if not planes:
        raise _no_image(path, folder, skipped, others)
    groups: dict[tuple[object, ...], list[Plane]] = {}
    for plane in planes:
        groups.setdefault(plane.group, []).append(plane)
    own = {plane.group for plane in planes if plane.file == path}
    if len(own or groups) > 1:
        raise VolumeError(_several(path, groups, bool(own)))
    chosen = groups[own.pop()] if own else next(iter(groups.values()))
    unique = {(plane.uid or str(plane.file), plane.frame): plane for plane in chosen}
    if len(unique) < len(chosen):
        notes.append(f"{len(chosen) - len(unique)} files are copies of others")
    return list(unique.values()), notes, warnings


def _read_content(file: Path, required: bool) -> _Content | None:
    """What a file holds; ``None`` for another file than DICOM, which is refused if it is required."""
    header = _read_header(file, required)
    if header is None:
        return None
    kind = NOT_IMAGES.get(str(header.get("SOPClassUID", "")))
    if kind is None and "Rows" not in header:
        return _Content((), f"an object of modality {header.get('Modality', 'unknown')}", "SOPClassUID" not in header)
    return _Content(() if kind else tuple(planes_of(file, header)), kind or "")


# Label maps of one series are read one after the other, and each would read all its headers again.
_contents: StampedCache[_Content | None] = StampedCache(
    exact_stamp, KEPT_PLANES, lambda content: 1 if content is None else max(1, len(content.planes))
)


def visible_files(folder: Path) -> list[Path]:
    """Files of a folder, sorted, without hidden ones and the table of contents of a disc.

    Raises
    ------
    VolumeError
        If it cannot be listed, or holds too many.
    """
    try:
        files = sorted(
            p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".") and p.name != "DICOMDIR"
        )
    except OSError as error:
        raise VolumeError(f"{folder}: cannot be listed: {error.strerror or error}") from error
    if len(files) > MAX_FILES:
        raise VolumeError(
            f"{folder}: expected at most {MAX_FILES} files, got {len(files)}; put each series into a folder"
        )
    return files


def _read_header(file: Path, required: bool) -> Any:
    """The header of a DICOM file; ``None`` for another file, which is refused if it is required."""
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        return pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(ELEMENTS))
    except InvalidDicomError:
        pass
    except Exception as error:  # noqa: BLE001 - a damaged header may raise any exception
        if required:
            raise VolumeError(
                f"{file}: expected a DICOM file, got a damaged one ({error_text(error)}); copy it again"
            ) from None
        return None
    try:  # without the preamble of 128 bytes, as older systems write it
        header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(ELEMENTS), force=True)
        if "SOPClassUID" in header:
            return header
    except Exception:  # noqa: BLE001
        pass
    if required:
        raise VolumeError(f"{file}: expected a DICOM file, got something else; is it damaged, or of another format?")
    return None


def planes_of(file: Path, header: Any, max_frames: int = MAX_FILES, remedy: str = CONVERT) -> list[Plane]:
    """The slices of one file.

    Parameters
    ----------
    remedy : str. What to do about a file that does not state what it must.

    Raises
    ------
    VolumeError
        If its header is damaged, or states no place for each frame.
    """
    try:
        if "MOSAIC" in [str(v).upper() for v in _several_values(header.get("ImageType"))]:
            raise VolumeError(f"{file}: expected slices, got a mosaic of them in one picture; {CONVERT}")
        if int(header.get("SamplesPerPixel", 1)) != 1:
            raise VolumeError(f"{file}: expected one number per voxel, got a colour picture; it is not read")
        frames = int(header.get("NumberOfFrames") or 1)
        groups = header.get("PerFrameFunctionalGroupsSequence") or []
        shared = (header.get("SharedFunctionalGroupsSequence") or [None])[0]
        if frames == 1 and not groups:
            return [_plane(file, 0, header, (header,), remedy)]
        if len(groups) != frames or not 1 <= frames <= max_frames:
            raise VolumeError(f"{file}: expected a position for each of {frames} frames, got {len(groups)}; {remedy}")
        return [_plane(file, n, header, _macros(group, shared), remedy) for n, group in enumerate(groups)]
    except VolumeError:
        raise
    except Exception as error:  # noqa: BLE001 - damaged elements raise any exception
        raise VolumeError(
            f"{file}: expected a valid DICOM header, got a damaged one ({error_text(error)}); copy it again"
        ) from None


def _macros(group: Any, shared: Any) -> tuple[Any, ...]:
    """The items of a frame's functional groups, then of the shared ones."""
    return tuple(e.value[0] for part in (group, shared) if part is not None for e in part if e.VR == "SQ" and e.value)


def _plane(file: Path, frame: int, header: Any, sources: Sequence[Any], remedy: str) -> Plane:
    def first(*names: str) -> Any:
        return next((s[n].value for n in names for s in sources if n in s and s[n].value not in (None, "")), None)

    def numbers(name: str, count: int) -> np.ndarray | None:
        value = first(name)
        if value is None:
            return None
        values = np.array([float(v) for v in value])
        if values.shape != (count,) or not np.isfinite(values).all():
            got = format_list(list(map(str, value)), 6)
            raise VolumeError(f"{file}: expected {count} finite numbers as {name}, got {got}; {remedy}")
        return values

    orientation, position, spacing = (
        numbers("ImageOrientationPatient", 6),
        numbers("ImagePositionPatient", 3),
        numbers("PixelSpacing", 2),
    )
    if spacing is None or (spacing <= 0).any():
        found = "none" if spacing is None else f"{format_mm(spacing)} mm"
        raise VolumeError(f"{file}: expected a pixel spacing above 0 mm, got {found}; {remedy}")
    directions = None
    if orientation is not None:
        directions = orientation.reshape(2, 3)
        lengths = np.linalg.norm(directions, axis=1)
        if (np.abs(lengths - 1) > 1e-2).any() or abs(float(directions[0] @ directions[1])) > 1e-2:
            raise VolumeError(
                f"{file}: expected two directions at right angles, got ({format_mm(orientation, ', ')}); {remedy}"
            )
        directions = directions / lengths[:, None]
    thickness = first("SpacingBetweenSlices", "SliceThickness")
    time = (_number(first(n)) for n in ("TemporalPositionIndex", "TemporalPositionIdentifier", "EffectiveEchoTime",
                                        "EchoNumbers", "AcquisitionNumber", "TriggerTime"))  # fmt: skip
    return Plane(
        file=file,
        frame=frame,
        rows=int(header.Rows),
        columns=int(header.Columns),
        bits=int(header.get("BitsAllocated") or 16),
        spacing_mm=(float(spacing[0]), float(spacing[1])),
        directions=directions,
        position=position,
        thickness_mm=abs(float(thickness)) or None if thickness is not None else None,
        order=(*time, _number(header.get("InstanceNumber"))),
        series=text_of(header.get("SeriesInstanceUID")),
        description=text_of(header.get("SeriesDescription")),
        uid=text_of(header.get("SOPInstanceUID")),
        frame_of_reference=text_of(header.get("FrameOfReferenceUID")),
        inverted=str(header.get("PhotometricInterpretation", "")) == "MONOCHROME1",
    )


def _several(path: Path, groups: dict[tuple[object, ...], list[Plane]], in_one_file: bool) -> str:
    lines = []
    for planes in groups.values():
        example = planes[0]
        title = f" {example.description!r}" if example.description else ""
        lines.append(f"{len(planes)} slices{title} of {example.columns}x{example.rows}, such as {example.file.name}")
    what = "orientations or sizes in one file" if in_one_file else "images"
    remedy = CONVERT if in_one_file else "name a file of the image that is meant, or put each into a folder of its own"
    return f"{path}: expected one image, got {len(groups)} {what}: {format_list(lines, 4)}; {remedy}"


def _no_image(path: Path, folder: Path, skipped: int, others: Sequence[str]) -> VolumeError:
    if others:
        return VolumeError(f"{path}: expected an image, got only {format_list(sorted(set(others)), 3)}")
    subfolders = sorted(p.name for p in folder.iterdir() if p.is_dir())
    inside = f" and the folders {format_list(subfolders, 3)}; name the folder of a series" if subfolders else ""
    return VolumeError(f"{path}: expected DICOM files, got {skipped or 'no'} other files{inside}")


def _number(value: Any) -> float:
    try:
        return float(_several_values(value)[0])
    except (TypeError, ValueError, IndexError):
        return 0.0


def _several_values(value: Any) -> list[Any]:
    if value is None:
        return []
    return [value] if isinstance(value, (str, int, float)) or not isinstance(value, Iterable) else list(value)


def error_text(error: Exception) -> str:
    """What a library says, on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")[:120]


def text_of(value: Any) -> str:
    """An element as text: several values as they are stored, with backslashes between; control characters are
    spaces."""
    text = "\\".join(map(str, _several_values(value)))
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
