"""Places the slices of DICOM files: which belong together, in which order, and the affine that they have.

Every slice states its own position (Image Position and Orientation (Patient)), so a volume is not assumed to be a stack
of equal steps: missing slices, unequal distances and mixed orientations are refused, and the slope of a tilted gantry
is kept as a sheared affine. (SimpleITK's reader of series averages unequal distances and drops the slope.)

Read with pydicom, only in the process of ``core.imaging.decoder``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import VolumeError
from core.formatting import format_list

MAX_FILES = 20_000
POSITION_TOLERANCE = 0.1  # of the distance of two slices, by which one may deviate from its place
DIRECTION_DIGITS = 3  # of direction cosines that slices of one volume share
CONVERT = "convert it with dcm2niix"
NOT_IMAGES = {
    "1.2.840.10008.5.1.4.1.1.66.4": "a segmentation (DICOM SEG)",
    "1.2.840.10008.5.1.4.1.1.481.3": "contours (RTSTRUCT)",
    "1.2.840.10008.5.1.4.1.1.481.2": "a dose (RTDOSE)",
    "1.2.840.10008.5.1.4.1.1.66": "raw data",
}
# Header elements that are read of every file; pixels are not.
ELEMENTS = (
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "SeriesDescription", "SeriesNumber", "InstanceNumber",
    "Modality", "ImageType", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "BitsAllocated", "PixelSpacing",
    "PhotometricInterpretation", "ImagePositionPatient", "ImageOrientationPatient", "SliceThickness",
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
    inverted: bool

    @property
    def group(self) -> tuple[object, ...]:
        """What slices of one volume have in common."""
        turned = () if self.directions is None else tuple(np.round(self.directions, DIRECTION_DIGITS).ravel() + 0.0)
        return (self.series, self.rows, self.columns, *np.round(self.spacing_mm, 4), *turned)


@dataclass(frozen=True)
class PlacedPlanes:
    """A volume of slices.

    Attributes
    ----------
    planes : list of list of Plane. Slices by channel, in the order of the third axis.
    affine : ndarray, float64, shape (4, 4). Indices of column, row and slice to LPS mm.
    oriented : bool. Whether the files state positions.
    notes, warnings : list of str.
    """

    planes: list[list[Plane]]
    affine: np.ndarray
    oriented: bool
    notes: list[str]
    warnings: list[str]


def find_planes(path: Path) -> tuple[list[Plane], list[str]]:
    """The slices of the only image in a folder, or of the image to which a file belongs, and notes.

    Raises
    ------
    VolumeError
        If there is no image, or a folder holds several: the error names a file of each.
    """
    folder = path if path.is_dir() else path.parent
    skipped, others = 0, []
    planes: list[Plane] = []
    for file in _files(folder, path):
        header = _read_header(file, required=file == path)
        if header is None:
            skipped += 1
            continue
        kind = NOT_IMAGES.get(str(header.get("SOPClassUID", "")))
        if kind is None and "Rows" not in header:
            kind = f"an object of modality {header.get('Modality', 'unknown')}"
        if kind is not None:
            if file == path:
                raise VolumeError(f"{path}: expected an image, got {kind}; name the folder of the image itself")
            others.append(kind)
            continue
        planes += _planes_of(file, header)
    notes = [f"{skipped} files that are not DICOM are left out"] if skipped else []
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
    return list(unique.values()), notes


def place(path: Path, planes: list[Plane]) -> PlacedPlanes:
    """The order of slices, and their affine.

    Raises
    ------
    VolumeError
        If slices are missing, at unequal distances or not at the same number of each position.
    """
    notes = ["the least value is white (MONOCHROME1): values are taken as stored"] if planes[0].inverted else []
    first = planes[0]
    row_mm, column_mm = first.spacing_mm
    if first.directions is None or any(plane.position is None for plane in planes):
        planes = sorted(planes, key=lambda plane: (plane.order[-1], plane.frame))
        thickness_mm = first.thickness_mm or 1.0
        warning = (
            "its slices state no position: they are ordered by their number, and left and right are unknown; convert "
            "the original images again"
        )
        return PlacedPlanes([planes], np.diag([column_mm, row_mm, thickness_mm, 1.0]), False, notes, [warning])
    normal = np.cross(*first.directions)
    stacks = _stack(path, planes, normal)
    if len(stacks) > 1:
        notes.append(f"{len(stacks)} slices at each position are read as channels, in the order of time or number")
    positions = np.array([plane.position for plane in stacks[0]])
    step, warnings = _step(path, stacks[0], positions, normal)
    _check_channels(path, stacks, positions)
    affine = np.eye(4)
    affine[:3, 0] = first.directions[0] * column_mm
    affine[:3, 1] = first.directions[1] * row_mm
    affine[:3, 2] = step
    affine[:3, 3] = positions[0]
    return PlacedPlanes(stacks, affine, True, notes, warnings)


def _files(folder: Path, path: Path) -> Iterator[Path]:
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
    yield from files


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
                f"{file}: expected a DICOM file, got a damaged one ({_text(error)}); copy it again"
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


def _planes_of(file: Path, header: Any) -> list[Plane]:
    """The slices of one file."""
    try:
        if "MOSAIC" in [str(v).upper() for v in _several_values(header.get("ImageType"))]:
            raise VolumeError(f"{file}: expected slices, got a mosaic of them in one picture; {CONVERT}")
        if int(header.get("SamplesPerPixel", 1)) != 1:
            raise VolumeError(f"{file}: expected one number per voxel, got a colour picture; it is not read")
        frames = int(header.get("NumberOfFrames") or 1)
        groups = header.get("PerFrameFunctionalGroupsSequence") or []
        shared = (header.get("SharedFunctionalGroupsSequence") or [None])[0]
        if frames == 1 and not groups:
            return [_plane(file, 0, header, (header,))]
        if len(groups) != frames or not 1 <= frames <= MAX_FILES:
            raise VolumeError(f"{file}: expected a position for each of {frames} frames, got {len(groups)}; {CONVERT}")
        return [_plane(file, n, header, _macros(group, shared)) for n, group in enumerate(groups)]
    except VolumeError:
        raise
    except Exception as error:  # noqa: BLE001 - damaged elements raise any exception
        raise VolumeError(f"{file}: expected a valid DICOM header, got a damaged one ({_text(error)})") from None


def _macros(group: Any, shared: Any) -> tuple[Any, ...]:
    """The items of a frame's functional groups, then of the shared ones."""
    return tuple(e.value[0] for part in (group, shared) if part is not None for e in part if e.VR == "SQ" and e.value)


def _plane(file: Path, frame: int, header: Any, sources: Sequence[Any]) -> Plane:
    def first(*names: str) -> Any:
        return next((s[n].value for n in names for s in sources if n in s and s[n].value not in (None, "")), None)

    def numbers(name: str, count: int) -> np.ndarray | None:
        value = first(name)
        if value is None:
            return None
        values = np.array([float(v) for v in value])
        if values.shape != (count,) or not np.isfinite(values).all():
            raise VolumeError(f"{file}: expected {count} finite numbers as {name}, got {list(value)[:6]}")
        return values

    orientation, position, spacing = (
        numbers("ImageOrientationPatient", 6),
        numbers("ImagePositionPatient", 3),
        numbers("PixelSpacing", 2),
    )
    if spacing is None or (spacing <= 0).any():
        raise VolumeError(
            f"{file}: expected a pixel spacing above 0 mm, got {None if spacing is None else list(spacing)}"
        )
    directions = None
    if orientation is not None:
        directions = orientation.reshape(2, 3)
        lengths = np.linalg.norm(directions, axis=1)
        if (np.abs(lengths - 1) > 1e-2).any() or abs(float(directions[0] @ directions[1])) > 1e-2:
            raise VolumeError(f"{file}: expected two directions at right angles, got {list(orientation)}")
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
        series=str(header.get("SeriesInstanceUID", "")),
        description=str(header.get("SeriesDescription", "")),
        uid=str(header.get("SOPInstanceUID", "")),
        inverted=str(header.get("PhotometricInterpretation", "")) == "MONOCHROME1",
    )


def _stack(path: Path, planes: Iterable[Plane], normal: np.ndarray) -> list[list[Plane]]:
    """Slices by channel, each in the order of their positions along the normal."""
    heights = sorted(((float(plane.position @ normal), plane) for plane in planes), key=lambda pair: pair[0])
    places: list[list[Plane]] = []
    last = -np.inf
    for height, plane in heights:
        if height - last > 1e-3:
            places.append([])
            last = height
        places[-1].append(plane)
    counts = {len(group) for group in places}
    if len(counts) > 1:
        raise VolumeError(
            f"{path}: expected the same number of slices at every position, got {min(counts)} to {max(counts)}; slices "
            "are missing, or several images are in one series: export it again, or put each image into a folder"
        )
    for group in places:
        group.sort(key=lambda plane: (plane.order, plane.frame))
    return [[group[channel] for group in places] for channel in range(counts.pop())]


def _step(path: Path, planes: list[Plane], positions: np.ndarray, normal: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """The vector from a slice to the next in LPS mm, and warnings."""
    if len(positions) == 1:
        thickness_mm = planes[0].thickness_mm
        if thickness_mm is None:
            return normal, ["it is one slice without a thickness: 1 mm is assumed"]
        return normal * thickness_mm, []
    step = (positions[-1] - positions[0]) / (len(positions) - 1)
    distance_mm = float(np.linalg.norm(step))
    deviation = np.linalg.norm(positions - (positions[0] + np.outer(range(len(positions)), step)), axis=1)
    if float(deviation.max()) > POSITION_TOLERANCE * distance_mm:
        gaps = np.diff(positions @ normal)
        median, widest = float(np.median(gaps)), int(np.argmax(gaps))
        between = f"{planes[widest].file.name} and {planes[widest + 1].file.name}"
        missing = round(gaps[widest] / median) - 1
        if missing >= 1 and abs(gaps[widest] / median - missing - 1) < POSITION_TOLERANCE:
            raise VolumeError(
                f"{path}: expected slices {median:.4g} mm apart, got {gaps[widest]:.4g} mm between {between}: "
                f"{missing} slice{'s are' if missing > 1 else ' is'} missing; export or copy the series again"
            )
        raise VolumeError(
            f"{path}: expected slices at equal distances, got {gaps.min():.4g} to {gaps.max():.4g} mm; "
            f"{CONVERT}, which resamples them"
        )
    stated = planes[0].thickness_mm
    along = abs(float(step @ normal))
    if stated is not None and along > 1.5 * stated:
        warning = (
            f"its slices are {along:.4g} mm apart and {stated:.4g} mm thick: there are gaps, or every other slice is "
            "missing; compare with the original series"
        )
        return step, [warning]
    return step, []


def _check_channels(path: Path, stacks: list[list[Plane]], positions: np.ndarray) -> None:
    """Refuse slices at one height that lie beside each other: they are no channels of one image."""
    for stack in stacks[1:]:
        moved_mm = np.linalg.norm(np.array([plane.position for plane in stack]) - positions, axis=1)
        if float(moved_mm.max()) > 1e-2:
            at = int(np.argmax(moved_mm))
            raise VolumeError(
                f"{path}: expected slices of one place at each height, got {stacks[0][at].file.name} and "
                f"{stack[at].file.name}, {moved_mm[at]:.4g} mm beside each other; put each image into a folder of its "
                "own"
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


def _text(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:120]
