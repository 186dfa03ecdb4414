"""Reads and validates the raw header of an image file before any voxel is read.

The bytes are not read through nibabel, which accepts zero dimensions, singular affines and NaN slopes, and assumes an
orientation for Analyze files. Formats: NIfTI-1, NIfTI-2 (https://nifti.nimh.nih.gov), Analyze
7.5; one file or a ``.hdr``/``.img`` pair; either may be gzipped; extensions in any case.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from core.errors import VolumeError
from core.formatting import format_bytes
from core.imaging.bounded_io import max_image_bytes, open_regular_file, read_prefix
from core.imaging.geometry import Geometry
from core.types import Affine, Size3

Format = Literal["nifti1", "nifti2", "analyze"]
ByteOrder = Literal["<", ">"]

DTYPES = {
    2: "uint8", 4: "int16", 8: "int32", 16: "float32", 64: "float64", 256: "int8", 512: "uint16", 768: "uint32",
    1024: "int64", 1280: "uint64",
}  # fmt: skip
UNSUPPORTED_DTYPES = {
    1: "binary", 32: "complex64", 128: "RGB colour", 1536: "float128", 1792: "complex128", 2304: "RGBA colour",
}  # fmt: skip
SUFFIXES = (".nii", ".nii.gz", ".hdr", ".hdr.gz", ".img", ".img.gz")
NIFTI1_BYTES, NIFTI2_BYTES = 348, 540
SMALLEST_MM, LARGEST_MM = 1e-6, 1e6  # outside this range a voxel size or position is a damaged one


@dataclass(frozen=True)
class Header:
    """Validated header of an image file.

    Attributes
    ----------
    path : Path. The file given to :func:`read_header`.
    data_path : Path. The file that holds the voxels; of a pair, the ``.img``.
    shape : tuple of int. Voxels along i, j, k, in stored order.
    channels : int. Size of the fourth dimension; 1 for a 3-D image.
    dtype : str. numpy name of the stored type.
    geometry : Geometry. Geometry in stored order.
    format : "nifti1", "nifti2" or "analyze".
    nbytes : int. Uncompressed size of the voxels in bytes.
    slope, intercept : float. Intensity = slope * stored value + intercept.
    offset : int. Position of the first voxel in the uncompressed ``data_path``, in bytes.
    byte_order : "<" (little-endian) or ">".
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

    @property
    def scaled(self) -> bool:
        """Whether intensities differ from the stored values."""
        return self.slope != 1 or self.intercept != 0


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
    geometry = _geometry(path, fields, format, shape)
    voxels = shape[0] * shape[1] * shape[2] * channels
    nbytes = voxels * np.dtype(dtype).itemsize
    limit = max_image_bytes()
    if max(nbytes, voxels * 4) > limit:
        raise VolumeError(
            f"{path}: expected at most {format_bytes(limit)} of voxels, got {format_bytes(max(nbytes, voxels * 4))} "
            f"({'x'.join(map(str, shape))}, {channels} channels); if this is right, raise SEGMENTARIUM_MAX_BYTES"
        )
    offset = _offset(path, fields, format, paired)
    header = Header(
        path, data_path, shape, channels, dtype, geometry, format, nbytes, slope, intercept, offset, byte_order
    )
    if paired:
        open_regular_file(data_path).close()
    return header


@np.errstate(all="ignore")
def orientation_fields(path: Path) -> dict[str, Any]:
    """The valid sform and qform fields of a NIfTI file by the standard's names, to be copied into another header.

    Empty for an Analyze file.

    Raises
    ------
    VolumeError
        If the file cannot be read or its header has another format.
    """
    fields, format, _ = read_fields(path)
    orientation: dict[str, Any] = {}
    if format == "analyze":
        return orientation
    if int(fields["sform_code"]) > 0:
        orientation["sform_code"] = _orientation_code(fields["sform_code"])
        orientation |= {name: fields[name] for name in ("srow_x", "srow_y", "srow_z")}
    sizes = np.abs(np.asarray(fields["pixdim"][1:4], np.float64))
    if int(fields["qform_code"]) > 0 and _plausible_sizes(sizes):
        try:
            _validated_affine(path, _qform_affine(path, fields, sizes), "qform")
        except VolumeError:
            return orientation  # the sform takes precedence; an invalid qform is not copied
        orientation["qform_code"] = _orientation_code(fields["qform_code"])
        names = (*(f"quatern_{axis}" for axis in "bcd"), *(f"qoffset_{axis}" for axis in "xyz"))
        orientation |= {name: fields[name] for name in names}
        orientation["pixdim"] = [-1 if float(fields["pixdim"][0]) < 0 else 1, *sizes, 1, 1, 1, 1]
    return orientation


def _header_and_data_paths(path: Path) -> tuple[Path, Path]:
    """The files that hold the header and the voxels: one for .nii, two for a pair."""
    name = path.name.lower()
    suffix = next((s for s in sorted(SUFFIXES, key=len, reverse=True) if name.endswith(s)), None)
    if suffix is None:
        raise VolumeError(f"{path}: expected an image ending in {', '.join(SUFFIXES)}; got another kind of file")
    if suffix.startswith(".nii"):
        return path, path
    open_regular_file(path).close()
    stem = path.name[: len(path.name) - len(suffix)]
    partner = ".img" if suffix.startswith(".hdr") else ".hdr"
    spellings = (partner, partner.upper(), partner + ".gz", partner.upper() + ".GZ", partner.title())
    other = next((p for p in (path.with_name(stem + s) for s in spellings) if p.exists()), None)
    if other is None:
        raise VolumeError(
            f"{path}: expected its other half {stem}{partner} in the same folder, found none; copy both files"
        )
    return (path, other) if partner == ".img" else (other, path)


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

    raw = read_prefix(_header_and_data_paths(path)[0], NIFTI2_BYTES)
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


def _dimensions(path: Path, fields: Any) -> tuple[Size3, int]:
    dim = [int(n) for n in fields["dim"]]
    if not 1 <= dim[0] <= 7:
        raise VolumeError(f"{path}: expected 3 or 4 dimensions, got {dim[0]}; the header is damaged")
    sizes = dim[1 : dim[0] + 1]
    text = "x".join(map(str, sizes))
    if any(n < 1 for n in sizes):
        raise VolumeError(f"{path}: expected every dimension to be at least 1, got {text}; the header is damaged")
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes.pop()
    if not 3 <= len(sizes) <= 4:
        raise VolumeError(
            f"{path}: expected a 3-D image, or 4-D with channels last; got {len(sizes)} dimensions ({text})"
        )
    i, j, k = sizes[:3]
    return (i, j, k), sizes[3] if len(sizes) == 4 else 1


def _dtype(path: Path, fields: Any) -> str:
    code = int(fields["datatype"])
    if code not in DTYPES:
        stored_type = UNSUPPORTED_DTYPES.get(code, f"unknown type {code}")
        raise VolumeError(
            f"{path}: expected one number per voxel ({', '.join(DTYPES.values())}), got {stored_type}; convert it"
        )
    return DTYPES[code]


def _scaling(path: Path, fields: Any, format: Format) -> tuple[float, float]:
    """Slope and intercept; a slope of 0 means unscaled. Analyze as SPM: a slope in the same field, no intercept."""
    slope = float(fields["scl_slope"])
    intercept = 0.0 if format == "analyze" else float(fields["scl_inter"])
    if not (np.isfinite(slope) and np.isfinite(intercept)):
        raise VolumeError(
            f"{path}: expected a finite intensity scaling, got scl_slope {slope:g} and scl_inter {intercept:g}; "
            "write the file again with slope 1 and intercept 0"
        )
    return (slope, intercept) if slope != 0 else (1.0, 0.0)


def _offset(path: Path, fields: Any, format: Format, paired: bool) -> int:
    offset = float(fields["vox_offset"])
    first = 0 if paired else {"nifti1": 352, "nifti2": 544}.get(format, 0)
    if offset == 0:
        return first
    if not np.isfinite(offset) or offset != int(offset) or not first <= offset <= 2**31:
        raise VolumeError(f"{path}: expected voxels to begin at byte {first} or later, got vox_offset {offset:g}")
    return int(offset)


def _geometry(path: Path, fields: Any, format: Format, shape: Size3) -> Geometry:
    """sform, else qform, else an unknown orientation with the voxel sizes (methods 3, 2, 1 of the NIfTI-1 standard)."""
    pixdim = [float(v) for v in fields["pixdim"]]
    if format != "analyze" and int(fields["sform_code"]) > 0:
        affine = np.eye(4)
        affine[:3] = [fields[name] for name in ("srow_x", "srow_y", "srow_z")]
        return Geometry(shape, _validated_affine(path, affine, "sform"))
    sizes = np.abs(pixdim[1:4])
    if not (np.isfinite(sizes).all() and (sizes > 0).all()):
        raise VolumeError(f"{path}: expected voxel sizes above 0 mm, got {', '.join(f'{v:g}' for v in pixdim[1:4])}")
    if format != "analyze" and int(fields["qform_code"]) > 0:
        return Geometry(shape, _validated_affine(path, _qform_affine(path, fields, sizes), "qform"))
    return Geometry(shape, np.diag([*sizes, 1.0]), oriented=False)


def _qform_affine(path: Path, fields: Any, sizes: np.ndarray) -> Affine:
    from nibabel.quaternions import fillpositive, quat2mat

    quaternion = np.array([fields[f"quatern_{axis}"] for axis in "bcd"], np.float64)
    try:
        rotation = quat2mat(fillpositive(quaternion, w2_thresh=-1e-5))
    except ValueError:
        raise VolumeError(f"{path}: expected a unit quaternion in the qform, got {quaternion.tolist()}") from None
    qfac = -1.0 if float(fields["pixdim"][0]) < 0 else 1.0
    affine = np.eye(4)
    affine[:3, :3] = rotation * (sizes * [1, 1, qfac])
    affine[:3, 3] = [fields[f"qoffset_{axis}"] for axis in "xyz"]
    return affine


def _validated_affine(path: Path, affine: Affine, source: str) -> Affine:
    affine = np.asarray(affine, np.float64)
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or np.abs(affine).max() > LARGEST_MM:
        raise VolumeError(
            f"{path}: expected finite numbers in the {source} affine, got NaN, infinity or more than a million"
        )
    if not _plausible_sizes(sizes) or abs(np.linalg.det(affine[:3, :3] / sizes)) < 1e-2:
        rows = "; ".join(" ".join(f"{v:g}" for v in row) for row in affine[:3])
        raise VolumeError(
            f"{path}: expected an invertible {source} affine, got a singular one [{rows}]; correct the header"
        )
    return affine


def _plausible_sizes(sizes: np.ndarray) -> bool:
    """Whether voxel sizes are finite and between ``SMALLEST_MM`` and ``LARGEST_MM``."""
    return bool(np.isfinite(sizes).all() and (sizes > SMALLEST_MM).all() and (sizes < LARGEST_MM).all())


def _orientation_code(code: Any) -> int:
    """A code of the standard (1 to 5); other positive codes count as 1, scanner coordinates."""
    return int(code) if int(code) <= 5 else 1
