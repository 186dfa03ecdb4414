"""Decodes MGH, NRRD and MetaImage files with nibabel and SimpleITK; only in the process of ``core.imaging.decoder``.

What the libraries assume where a file is silent (an orientation, a unit of length) is taken from the file itself.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np

from core.errors import VolumeError
from core.formatting import format_size
from core.imaging.bounded_io import is_gzip, read_prefix
from core.imaging.decoded_image import LPS_TO_RAS, DecodedImage, LimitMemory, check_decoded_size
from core.imaging.text_header import TextHeader, read_metaimage_header, read_nrrd_header

MGH_HEADER_BYTES = 284
MGH_TAIL_BYTES = 64 * 2**20  # scan parameters, command lines and colour tables behind the voxels
NRRD_UNITS_MM = {"mm": 1.0, "millimeter": 1.0, "millimeters": 1.0, "cm": 10.0, "m": 1e3, "um": 1e-3, "µm": 1e-3,
                 "microns": 1e-3, "micron": 1e-3}  # fmt: skip
# Spaces whose directions ITK converts to left, posterior, superior; others say nothing of left and right.
NRRD_SPACES = {
    f"{space}{time}" for time in ("", "-time") for space in (
        "right-anterior-superior", "ras", "left-anterior-superior", "las", "left-posterior-superior", "lps"
    )
}  # fmt: skip
META_UNITS_MM = {"": 1.0, "?": 1.0, "mm": 1.0, "um": 1e-3, "cm": 10.0}
NRRD_TYPES = {
    "signedchar": 1, "int8": 1, "int8_t": 1, "uchar": 1, "unsignedchar": 1, "uint8": 1, "uint8_t": 1, "short": 2,
    "shortint": 2, "signedshort": 2, "signedshortint": 2, "int16": 2, "int16_t": 2, "ushort": 2, "unsignedshort": 2,
    "unsignedshortint": 2, "uint16": 2, "uint16_t": 2, "int": 4, "signedint": 4, "int32": 4, "int32_t": 4, "uint": 4,
    "unsignedint": 4, "uint32": 4, "uint32_t": 4, "longlong": 8, "longlongint": 8, "signedlonglong": 8,
    "signedlonglongint": 8, "int64": 8, "int64_t": 8, "ulonglong": 8, "unsignedlonglong": 8, "unsignedlonglongint": 8,
    "uint64": 8, "uint64_t": 8, "float": 4, "double": 8,
}  # fmt: skip
META_TYPES = {
    "met_char": 1, "met_uchar": 1, "met_short": 2, "met_ushort": 2, "met_int": 4, "met_uint": 4, "met_long": 4,
    "met_ulong": 4, "met_long_long": 8, "met_ulong_long": 8, "met_float": 4, "met_double": 8,
}  # fmt: skip


def read_mgh(path: Path, limit_memory: LimitMemory) -> tuple[DecodedImage, np.ndarray]:
    """Decode an MGH or MGZ file of FreeSurfer.

    Returns
    -------
    DecodedImage, and ndarray of shape (channel, k, j, i).

    Raises
    ------
    VolumeError
        If the file is no valid MGH file.
    """
    from nibabel.freesurfer.mghformat import MGHHeader

    raw = read_prefix(path, MGH_HEADER_BYTES)
    if len(raw) < MGH_HEADER_BYTES:
        raise VolumeError(f"{path}: expected a header of {MGH_HEADER_BYTES} bytes, got {len(raw)}; the file is cut off")
    header = MGHHeader(raw, check=False)
    if int(header["version"]) != 1:
        raise VolumeError(f"{path}: expected an MGH header of version 1, got {int(header['version'])}; it is damaged")
    try:
        dtype = np.dtype(header.get_data_dtype())
    except (KeyError, TypeError, ValueError):
        raise VolumeError(f"{path}: expected one number per voxel, got unknown type {int(header['type'])}") from None
    dims = tuple(int(n) for n in header["dims"])
    compressed = is_gzip(path)
    nbytes = check_decoded_size(path, dims, dtype.itemsize, path.stat().st_size, compressed)
    limit_memory(3 * nbytes + 2 * MGH_TAIL_BYTES)
    content = _mgh_voxels(path, nbytes, compressed)
    voxels = np.frombuffer(content, dtype.newbyteorder(">")).reshape(dims[::-1])
    oriented = int.from_bytes(raw[28:30], "big") == 1  # nibabel fills in what is not stated
    stated = np.frombuffer(raw[30:42], ">f4").astype(float)
    spacing = stated if (stated > 0).all() and np.isfinite(stated).all() else np.ones(3)
    warnings = () if oriented else ("states no orientation (goodRASFlag is 0): left and right are unknown",)
    affine = np.asarray(header.get_affine(), float) if oriented else np.diag([*spacing, 1.0])
    i, j, k, channels = dims
    name = np.dtype(dtype).newbyteorder("=").name
    image = DecodedImage(
        shape=(i, j, k),
        channels=channels,
        dtype=name,
        affine=affine.tolist(),
        oriented=oriented,
        warnings=warnings,
    )
    return image, voxels


def read_nrrd(path: Path, limit_memory: LimitMemory) -> tuple[DecodedImage, np.ndarray]:
    """Decode an NRRD file, one file or a ``.nhdr`` with its data file; as :func:`read_mgh`."""
    header = read_nrrd_header(path)
    sizes, itemsize = header.integers("sizes"), NRRD_TYPES.get(header.fields.get("type", "").replace(" ", ""))
    if itemsize is None:
        raise VolumeError(
            f"{path}: expected one number per voxel as type, got {header.fields.get('type', 'none')[:40]}; convert it"
        )
    compressed = header.fields.get("encoding") not in ("raw", "txt", "text", "ascii", "hex")
    scale = _nrrd_unit_mm(path, header)
    oriented = header.fields.get("space") in NRRD_SPACES and "spacedirections" in header.fields
    return _read_with_itk(path, header, (sizes, itemsize, compressed), (oriented, scale), limit_memory)


def read_metaimage(path: Path, limit_memory: LimitMemory) -> tuple[DecodedImage, np.ndarray]:
    """Decode a MetaImage, ``.mha`` or ``.mhd`` with its data file; as :func:`read_mgh`."""
    header = read_metaimage_header(path)
    itemsize = META_TYPES.get(header.fields.get("elementtype", ""))
    if itemsize is None:
        raise VolumeError(
            f"{path}: expected one number per voxel as ElementType, got "
            f"{header.fields.get('elementtype', 'none')[:40]}; convert it"
        )
    channels = header.integers("elementnumberofchannels") or (1,)
    compressed = header.fields.get("compresseddata") == "true"
    oriented = any(name in header.fields for name in ("transformmatrix", "rotation", "orientation"))
    unit = header.fields.get("distanceunits", "")
    if unit not in META_UNITS_MM:
        raise VolumeError(f"{path}: expected mm, um or cm as DistanceUnits, got {unit[:40]}; correct it")
    scaling = [header.fields.get(f"elementtointensityfunction{name}") for name in ("slope", "offset")]
    if scaling[0] not in (None, "1", "1.0") or scaling[1] not in (None, "0", "0.0"):  # ITK reads the values unscaled
        raise VolumeError(
            f"{path}: expected values without ElementToIntensityFunctionSlope and -Offset, got "
            f"{scaling[0] or 1} and {scaling[1] or 0}; write it again with the scaled values"
        )
    facts = (*header.integers("dimsize"), *channels), itemsize, compressed
    return _read_with_itk(path, header, facts, (oriented, META_UNITS_MM[unit]), limit_memory)


def _mgh_voxels(path: Path, nbytes: int, compressed: bool) -> bytes:
    """The voxels; what follows them is read to its end, for the checksum, and dropped."""
    with open(path, "rb") as raw:
        if not compressed:
            raw.seek(MGH_HEADER_BYTES)
            content = raw.read(nbytes)
        else:
            try:
                with gzip.GzipFile(fileobj=raw) as file:
                    content = file.read(MGH_HEADER_BYTES + nbytes)[MGH_HEADER_BYTES:]
                    if len(content) == nbytes and len(file.read(MGH_TAIL_BYTES)) == MGH_TAIL_BYTES:
                        raise VolumeError(f"{path}: expected the end of the file after its voxels, got far more data")
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise VolumeError(f"{path}: expected gzip data, got damaged ones ({error}); copy it again") from None
    if len(content) != nbytes:
        raise VolumeError(
            f"{path}: expected {nbytes} bytes of voxels according to its header, got {len(content)}; the file is cut "
            "off, copy it again"
        )
    return content


def _nrrd_unit_mm(path: Path, header: TextHeader) -> float:
    """Millimetres of the unit of length that an NRRD header states; 1 where it states none."""
    units = {u for u in header.fields.get("spaceunits", "").replace('"', " ").split() if u not in ("none", "???")}
    unknown = [u for u in units if u not in NRRD_UNITS_MM]
    if unknown or len(units) > 1:
        raise VolumeError(
            f"{path}: expected space units of length, such as mm, got {' and '.join(sorted(units))[:60]}; correct them"
        )
    return NRRD_UNITS_MM[units.pop()] if units else 1.0


def _read_with_itk(
    path: Path,
    header: TextHeader,
    stated: tuple[tuple[int, ...], int, bool],
    place: tuple[bool, float],
    limit_memory: LimitMemory,
) -> tuple[DecodedImage, np.ndarray]:
    """Decode with SimpleITK.

    Parameters
    ----------
    stated : tuple. Sizes of all axes, bytes of a voxel, and whether the voxels are compressed, as the header states.
    place : tuple. Whether the file states an orientation, and millimetres of its unit of length.
    """
    import SimpleITK as sitk

    shape, itemsize, compressed = stated
    files = header.data_files or (path,)
    # A text encoding takes at least two characters for a voxel.
    nbytes = check_decoded_size(path, shape, itemsize, sum(f.stat().st_size for f in files), compressed)
    if header.data_files and not compressed and "byteskip" not in header.fields and "headersize" not in header.fields:
        found = files[0].stat().st_size
        if found > nbytes and header.fields.get("encoding", "raw") == "raw":
            raise VolumeError(
                f"{files[0]}: expected {nbytes} bytes as {path.name} states, got {found}; which is right?"
            )
    limit_memory(5 * nbytes)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO("NrrdImageIO" if path.suffix.lower() in (".nrrd", ".nhdr") else "MetaImageIO")
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise VolumeError(f"{path}: cannot be decoded by SimpleITK: {_itk_reason(error)}; copy or convert it") from None
    voxels = sitk.GetArrayFromImage(image)
    if voxels.size != int(np.prod(shape)) or voxels.dtype.kind not in "iuf":
        raise VolumeError(
            f"{path}: expected {format_size(shape)} numbers, got {format_size(voxels.shape[::-1])} of "
            f"type {voxels.dtype}; write it again as a 3-D image"
        )
    spatial = image.GetDimension()
    if spatial not in (3, 4) or (spatial == 4 and image.GetNumberOfComponentsPerPixel() > 1):
        raise VolumeError(f"{path}: expected a 3-D image, or 4-D with channels; got {spatial} dimensions and more")
    if image.GetNumberOfComponentsPerPixel() > 1:
        voxels = np.moveaxis(voxels, -1, 0)
    elif spatial == 3:
        voxels = voxels[None]
    oriented, unit_mm = place
    spacing = np.array(image.GetSpacing()[:3]) * unit_mm
    affine = np.diag([*spacing, 1.0])
    if oriented:
        direction = np.array(image.GetDirection()).reshape(spatial, spatial)[:3, :3]
        affine[:3, :3] = direction * spacing
        affine[:3, 3] = np.array(image.GetOrigin()[:3]) * unit_mm
        affine = LPS_TO_RAS @ affine
    channels, k, j, i = voxels.shape
    warnings = () if oriented else ("states no orientation: left and right are unknown",)
    image = DecodedImage(
        shape=(i, j, k),
        channels=channels,
        dtype=voxels.dtype.name,
        affine=affine.tolist(),
        oriented=oriented,
        warnings=warnings,
    )
    return image, voxels


def _itk_reason(error: RuntimeError) -> str:
    """The last line of an error of ITK, which says what failed, without addresses and places in its source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rpartition("): ")[2][:160] if lines else "unknown error"
