"""Reads and validates the raw header of an image file before any voxel is read.

The bytes are not read through nibabel, which accepts zero dimensions, singular affines and NaN slopes, and assumes an
orientation for Analyze files. Formats: NIfTI-1, NIfTI-2 (https://nifti.nimh.nih.gov), Analyze
7.5; one file or a ``.hdr``/``.img`` pair; either may be gzipped, under any name; extensions in any case. Other
formats are decoded first (:mod:`core.imaging.foreign_files`).

Geometry is in millimetres for every unit of length. The values used are not always those of the header:
docs/data.md lists which fields are understood, and the notes of a :class:`Header` say what was decided.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from core.errors import VolumeError
from core.formatting import format_size
from core.imaging.bounded_io import is_gzip, open_regular_file, read_prefix, refuse_too_large
from core.imaging.file_kinds import CONVERT, NIFTI_SUFFIXES, PREFIX_BYTES, identify
from core.imaging.foreign_files import decode
from core.imaging.geometry import Geometry, corner_distance_mm, format_mm
from core.imaging.header_geometry import (
    UNIT_MM,
    Format,
    LengthUnit,
    geometries,
    length_unit,
    orientation_values,
    plausible_sizes,
    validated_affine,
)
from core.imaging.image_files import (
    PAIR_SUFFIXES,
    VOLUME_SUFFIXES,
    VOXEL_SUFFIXES,
    ForeignFormat,
    foreign_format,
    partner_names,
    partner_of,
)
from core.imaging.segments import SegmentTable
from core.types import Size3

ByteOrder = Literal["<", ">"]

DTYPES = {
    2: "uint8", 4: "int16", 8: "int32", 16: "float32", 64: "float64", 256: "int8", 512: "uint16", 768: "uint32",
    1024: "int64", 1280: "uint64",
}  # fmt: skip
UNSUPPORTED_DTYPES = {
    1: "binary", 32: "complex64", 128: "RGB colour", 1536: "float128", 1792: "complex128", 2304: "RGBA colour",
}  # fmt: skip
SUFFIXES = (*NIFTI_SUFFIXES, *VOLUME_SUFFIXES)  # of files that are an image each; a DICOM series is a folder
NIFTI1_BYTES, NIFTI2_BYTES = 348, 540
NO_UNIT = "no unit of length is stated: millimetres are assumed"
SFORM_USED = ": the sform is used, as in most programs; correct the header if that is wrong"
PIXDIM_TOLERANCE = 0.01  # relative difference of voxel sizes between pixdim and sform that is reported


@dataclass(frozen=True)
class Header:
    """Validated header of an image file.

    Attributes
    ----------
    path : Path. The file given to :func:`read_header`.
    data_path : Path. The file that holds the voxels; of a pair, the ``.img``; of another format, a file of the cache.
    shape : tuple of int. Voxels along i, j, k, in stored order.
    channels : int. Size of the fourth dimension; 1 for a 3-D image.
    dtype : str. numpy name of the stored type.
    geometry : Geometry. Geometry in stored order, in mm.
    format : str. "nifti1", "nifti2", "analyze", or a :data:`core.imaging.image_files.ForeignFormat`.
    nbytes : int. Uncompressed size of the voxels in bytes.
    slope, intercept : float. Intensity = slope * stored value + intercept.
    offset : int. Position of the first voxel in the uncompressed ``data_path``, in bytes.
    byte_order : "<" (little-endian) or ">".
    unit : str. Unit of length that the file states: "metre", "mm", "micron", or "unknown", which is read as mm.
    qform : Geometry or None. Geometry of the qform where the sform is used although the file has both and they differ.
    notes : tuple of str. What is unusual and harmless, each as a clause about the file.
    warnings : tuple of str. What may make a result wrong, each as a clause about the file with a remedy.
    segments : SegmentTable or None. What stored values mean, where they are named segments (DICOM SEG, RTSTRUCT).
    """

    path: Path
    data_path: Path
    shape: Size3
    channels: int
    dtype: str
    geometry: Geometry
    format: Format
    nbytes: int
    slope: float
    intercept: float
    offset: int
    byte_order: ByteOrder
    unit: LengthUnit = "mm"
    qform: Geometry | None = None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    segments: SegmentTable | None = None

    @property
    def scaled(self) -> bool:
        """Whether intensities differ from the stored values."""
        return self.slope != 1 or self.intercept != 0

    def in_unit(self, unit: LengthUnit) -> Header:
        """The header with its lengths read in another unit than it states."""
        if unit == self.unit:
            return self
        scale = UNIT_MM[unit] / UNIT_MM[self.unit]
        qform = None if self.qform is None else self.qform.scaled(scale)
        notes = tuple(note for note in self.notes if note != NO_UNIT)
        return replace(self, unit=unit, geometry=self.geometry.scaled(scale), qform=qform, notes=notes)

    def in_qform(self) -> Header:
        """The header with the geometry of the qform, where there is one beside a sform that differs."""
        if self.qform is None:
            return self
        note = "its qform is used, although it has a sform"
        warnings = tuple(warning for warning in self.warnings if not warning.endswith(SFORM_USED))
        return replace(self, geometry=self.qform, qform=None, notes=(*self.notes, note), warnings=warnings)


@np.errstate(all="ignore")  # values of damaged headers overflow; each is checked explicitly
def read_header(path: str | Path) -> Header:
    """Read and validate the header of an image file without reading voxels.

    Raises
    ------
    VolumeError
        If the file is missing, unreadable or of another format; if its dimensions, type, scaling, affine or voxel size
        are impossible; or if it exceeds ``SEGMENTARIUM_MAX_BYTES`` (default 8 GiB) when decoded to float32.
    """
    path = Path(path)
    foreign = foreign_format(path)
    if foreign is not None:
        return _decoded_header(path, foreign)
    header_path, data_path = _header_and_data_paths(path)
    fields, format, byte_order = read_fields(path)
    paired = header_path != data_path
    if format != "analyze":
        if (bytes(fields["magic"])[1:2] == b"i") != paired:
            kind, other = ("a .hdr/.img pair", "a .nii file") if paired else ("a .nii file", "a .hdr/.img pair")
            raise VolumeError(f"{path}: expected the header of {kind}, got that of {other}; rename or convert the file")
    elif not paired:
        raise VolumeError(
            f"{path}: expected a NIfTI file, got no NIfTI signature; is it damaged, or of another format?"
        )
    shape, channels = _dimensions(path, fields)
    dtype = _dtype(path, fields)
    slope, intercept = _scaling(path, fields, format)
    unit = length_unit(fields, format)
    geometry, qform = geometries(path, fields, format, shape)
    voxels = shape[0] * shape[1] * shape[2] * channels
    nbytes = voxels * np.dtype(dtype).itemsize
    refuse_too_large(path, max(nbytes, voxels * 4), f"{format_size(shape)}, {channels} channels")
    offset = _offset(path, fields, format, paired)
    if paired:
        open_regular_file(data_path).close()
    return Header(
        path,
        data_path,
        shape,
        channels,
        dtype,
        geometry,
        format,
        nbytes,
        slope,
        intercept,
        offset,
        byte_order,
        unit,
        qform,
        _notes(header_path, fields, format, geometry),
        _warnings(fields, format, geometry, qform),
    )


@np.errstate(all="ignore")
def orientation_fields(path: Path) -> dict[str, Any]:
    """The valid sform and qform of a NIfTI file, by the standard's field names and in the file's unit of length, to be
    copied into another header.

    Empty for an Analyze file, and for other formats than NIfTI.

    Raises
    ------
    VolumeError
        If the file cannot be read or its header has another format.
    """
    if foreign_format(path) is not None:
        return {}
    fields, format, _ = read_fields(path)
    return orientation_values(path, fields, format)


def _decoded_header(path: Path, format: ForeignFormat) -> Header:
    """Header of a file of another format, which is decoded unless it has been."""
    image, voxels = decode(path, format)
    if image.dtype not in DTYPES.values():
        raise VolumeError(f"{path}: expected one number per voxel ({', '.join(DTYPES.values())}), got {image.dtype}")
    affine = validated_affine(path, np.array(image.affine), format, 1.0)
    count = image.shape[0] * image.shape[1] * image.shape[2] * image.channels
    geometry = Geometry(image.shape, affine, image.oriented)
    sheared = (_shear_note(geometry),) if geometry.is_sheared else ()
    return Header(
        path,
        voxels,
        image.shape,
        image.channels,
        image.dtype,
        geometry,
        format,
        count * np.dtype(image.dtype).itemsize,
        image.slope,
        image.intercept,
        offset=0,
        byte_order="<",
        notes=(*image.notes, *sheared),
        warnings=image.warnings,
        segments=image.segments,
    )


def _header_and_data_paths(path: Path) -> tuple[Path, Path]:
    """The files that hold the header and the voxels: one for .nii, two for a pair."""
    name = path.name.lower()
    if not name.endswith(NIFTI_SUFFIXES):
        kind = identify(read_prefix(path, PREFIX_BYTES)) if path.is_file() else None
        named, remedy = (f", {kind.name}", kind.remedy) if kind else ("", CONVERT)
        raise VolumeError(
            f"{path}: expected an image ending in {', '.join(SUFFIXES)}; got another kind of file{named}; {remedy}"
        )
    if not name.endswith(PAIR_SUFFIXES):
        return path, path
    open_regular_file(path).close()
    other = partner_of(path)
    if other is None:
        expected = partner_names(path.name)[0]
        raise VolumeError(f"{path}: expected its other half {expected} in the same folder, found none; copy both files")
    return (other, path) if name.endswith(VOXEL_SUFFIXES) else (path, other)


def read_fields(path: Path) -> tuple[Any, Format, ByteOrder]:
    """Read the unvalidated header.

    Returns
    -------
    fields : numpy record with the standard's field names.
    format : "nifti1", "nifti2" or "analyze".
    byte_order : "<" or ">".

    Raises
    ------
    VolumeError
        If the file cannot be read or its header has another format.
    """
    from nibabel.nifti1 import header_dtype as nifti1
    from nibabel.nifti2 import header_dtype as nifti2

    header_path = _header_and_data_paths(path)[0]
    raw = read_prefix(header_path, NIFTI2_BYTES)
    if not _has_header_size(raw):
        kind = identify(raw)
        if kind is not None:
            raise VolumeError(f"{header_path}: expected a NIfTI or Analyze image, got {kind.name}; {kind.remedy}")
    if len(raw) < NIFTI1_BYTES:
        raise VolumeError(
            f"{path}: expected a header of {NIFTI1_BYTES} bytes, got only {len(raw)}; the file is cut off"
        )
    byte_orders: tuple[ByteOrder, ByteOrder] = ("<", ">")
    for byte_order in byte_orders:
        size = int(np.frombuffer(raw, byte_order + "i4", 1)[0])
        if size == NIFTI2_BYTES and raw[4:8] in (b"n+2\0", b"ni2\0"):
            if len(raw) < NIFTI2_BYTES:
                raise VolumeError(f"{path}: expected a header of 540 bytes, got only {len(raw)}; the file is cut off")
            record = np.frombuffer(raw[:NIFTI2_BYTES], nifti2.newbyteorder(byte_order))[0]
            return record, "nifti2", byte_order
        if size == NIFTI1_BYTES:
            record = np.frombuffer(raw[:NIFTI1_BYTES], nifti1.newbyteorder(byte_order))[0]
            known = raw[344:348] in (b"n+1\0", b"ni1\0")
            return record, "nifti1" if known else "analyze", byte_order
    raise VolumeError(f"{path}: expected a NIfTI or Analyze header, got none; the file is damaged or of another format")


def _has_header_size(raw: bytes) -> bool:
    """Whether content begins with the size of a NIfTI or Analyze header, in either byte order."""
    return any(int.from_bytes(raw[:4], order) in (NIFTI1_BYTES, NIFTI2_BYTES) for order in ("little", "big"))


def _dimensions(path: Path, fields: Any) -> tuple[Size3, int]:
    dim = [int(n) for n in fields["dim"]]
    if not 1 <= dim[0] <= 7:
        raise VolumeError(f"{path}: expected 3 or 4 dimensions, got {dim[0]}; the header is damaged")
    sizes = dim[1 : dim[0] + 1]
    text = format_size(sizes)
    if any(n < 1 for n in sizes):
        raise VolumeError(f"{path}: expected every dimension to be at least 1, got {text}; the header is damaged")
    further = [n for n in sizes[3:] if n > 1]  # a vector image of ITK has the sizes i, j, k, 1, channels
    if len(sizes) < 3 or len(further) > 1:
        raise VolumeError(
            f"{path}: expected a 3-D image, or 4-D with channels last; got {len(sizes)} dimensions ({text})"
        )
    i, j, k = sizes[:3]
    return (i, j, k), further[0] if further else 1


def _dtype(path: Path, fields: Any) -> str:
    code = int(fields["datatype"])
    if code not in DTYPES:
        stored_type = UNSUPPORTED_DTYPES.get(code, f"unknown type {code}")
        raise VolumeError(
            f"{path}: expected one number per voxel ({', '.join(DTYPES.values())}), got {stored_type}; convert it"
        )
    return DTYPES[code]


def _scaling(path: Path, fields: Any, format: Format) -> tuple[float, float]:
    """Slope and intercept; a slope of 0 or NaN means unscaled. Analyze as SPM: a slope in that field, no intercept."""
    slope = float(fields["scl_slope"])
    intercept = 0.0 if format == "analyze" else float(fields["scl_inter"])
    if np.isinf(slope) or np.isinf(intercept):
        raise VolumeError(
            f"{path}: expected a finite intensity scaling, got scl_slope {slope:g} and scl_inter {intercept:g}; "
            "write the file again with slope 1 and intercept 0"
        )
    if slope == 0 or np.isnan(slope):
        return 1.0, 0.0
    return slope, 0.0 if np.isnan(intercept) else intercept


def _offset(path: Path, fields: Any, format: Format, paired: bool) -> int:
    offset = float(fields["vox_offset"])
    first = 0 if paired else {"nifti1": 352, "nifti2": 544}.get(format, 0)
    if offset == 0:
        return first
    if not np.isfinite(offset) or offset != int(offset) or not first <= offset <= 2**31:
        raise VolumeError(f"{path}: expected voxels to begin at byte {first} or later, got vox_offset {offset:g}")
    return int(offset)


def _notes(path: Path, fields: Any, format: Format, geometry: Geometry) -> tuple[str, ...]:
    """What is unusual in a header and harmless."""
    notes = []
    if is_gzip(path) and not path.name.lower().endswith(".gz"):
        notes.append("gzipped, although the name does not end in .gz: other programs may refuse it")
    elif path.name.lower().endswith(".gz") and not is_gzip(path):
        notes.append("not gzipped, although the name ends in .gz: other programs may refuse it")
    unit = length_unit(fields, format)
    if unit == "unknown":
        notes.append(NO_UNIT)
    elif unit != "mm":
        notes.append(f"lengths are stated in {unit}: voxels of {format_mm(geometry.spacing_mm)} mm")
    slope = float(fields["scl_slope"])
    if np.isnan(slope):
        notes.append("scl_slope is NaN: values are taken as stored")
    elif slope != 0 and format != "analyze" and np.isnan(float(fields["scl_inter"])):
        notes.append("scl_inter is NaN: nothing is added to the values")
    if geometry.is_sheared:
        notes.append(_shear_note(geometry))
    return tuple(notes)


def _shear_note(geometry: Geometry) -> str:
    return (
        f"the voxel axes are not at right angles ({geometry.tilt}): volumes and distances take that into account, "
        "slices are shown as if they were"
    )


def _warnings(fields: Any, format: Format, geometry: Geometry, qform: Geometry | None) -> tuple[str, ...]:
    """What in a header may make a result wrong."""
    if format == "analyze" or int(fields["sform_code"]) <= 0:
        return ()
    if qform is not None:
        codes = ["".join(g.axis_codes) for g in (geometry, qform)]
        turned = f" and turn it differently ({codes[0]} and {codes[1]})" if codes[0] != codes[1] else ""
        return (f"sform and qform lie up to {corner_distance_mm(geometry, qform):.3g} mm apart{turned}{SFORM_USED}",)
    sizes = np.abs(np.asarray(fields["pixdim"][1:4], np.float64)) * UNIT_MM[length_unit(fields, format)]
    ratio = sizes / geometry.spacing_mm
    if plausible_sizes(sizes) and not geometry.is_sheared and np.abs(ratio - 1).max() > PIXDIM_TOLERANCE:
        stated = f"{format_mm(sizes)} mm, the sform of {format_mm(geometry.spacing_mm)} mm"
        return (f"pixdim states voxels of {stated}{SFORM_USED}",)
    return ()
