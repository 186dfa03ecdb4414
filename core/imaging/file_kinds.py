"""What a file is that is not NIfTI or Analyze, by its content: a pointer, a web page, another format."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

NIFTI_SUFFIXES = (".nii", ".nii.gz", ".hdr", ".hdr.gz", ".img", ".img.gz")
PREFIX_BYTES = 512  # of the content, enough to recognise every kind

CONVERT = "convert it to NIfTI"
FETCH_LFS = "fetch its content with `git lfs pull`"
FETCH_ANNEX = "fetch its content with `git annex get` or `datalad get`"
UNPACK = "unpack it"


@dataclass(frozen=True)
class FileKind:
    """What a file is.

    Attributes
    ----------
    name : str. Noun phrase that completes "got".
    remedy : str. What to do.
    format : str. The :data:`core.imaging.image_files.ForeignFormat` that it is; empty for what is not read.
    """

    name: str
    remedy: str
    format: str = ""


TEXT = FileKind("a text file", "name the image itself, or download it again")


# Kinds by their first bytes, or a test of them; the first that fits counts.
_KINDS: tuple[tuple[bytes | re.Pattern[bytes] | Callable[[bytes], bool], FileKind], ...] = (
    (b"version https://git-lfs.github.com/spec/", FileKind("a Git LFS pointer", FETCH_LFS)),
    (re.compile(rb"[^\0\n]{0,512}[/\\]annex[/\\]objects[/\\]"), FileKind("a git-annex pointer", FETCH_ANNEX)),
    (
        re.compile(
            rb"(\xef\xbb\xbf)?\s*(<!--.*?-->\s*)?<(!doctype\s+html|html|head|body)\b", re.IGNORECASE | re.DOTALL
        ),
        FileKind("a web page (HTML)", "download the file itself; the link may need a login"),
    ),
    (
        re.compile(rb"(\xef\xbb\xbf)?\s*<(\?xml|Error|ListBucketResult)\b"),
        FileKind("an XML text", "download the file itself; the server may have sent an error message"),
    ),
    (
        re.compile(rb"(\xef\xbb\xbf)?\s*\{\s*[\"}]"),
        FileKind("a JSON text", "name or download the image itself; the server may have sent an error message"),
    ),
    (
        re.compile(rb"(\s*(#|Comment\b)[^\n]*\n)*\s*(ObjectType|NDims)\s*=", re.IGNORECASE),
        FileKind("a MetaImage", "name it .mha, or .mhd where its voxels are in another file", "metaimage"),
    ),
    (
        re.compile(rb"NRRD000\d"),
        FileKind("an NRRD file", "name it .nrrd, or .nhdr where its voxels are in another file", "nrrd"),
    ),
    (
        lambda start: is_dicom(start),
        FileKind("a DICOM file", "name it .dcm, or convert its series with dcm2niix", "dicom"),
    ),
    (
        lambda start: _is_mgh(start),
        FileKind("a FreeSurfer MGH file", "name it .mgh, or .mgz where it is gzipped", "mgh"),
    ),
    (re.compile(rb"PK(\x03\x04|\x05\x06)"), FileKind("a ZIP archive", UNPACK)),
    (b"7z\xbc\xaf\x27\x1c", FileKind("a 7z archive", UNPACK)),
    (b"Rar!\x1a\x07", FileKind("a RAR archive", UNPACK)),
    (lambda start: start[257:262] == b"ustar", FileKind("a tar archive", UNPACK)),
    (b"\x1f\x8b", FileKind("gzip data inside gzip", "decompress it once")),
    (re.compile(rb"BZh[1-9]1AY&SY"), FileKind("bzip2 data", "decompress it, or compress it with gzip")),
    (b"\xfd7zXZ\0", FileKind("xz data", "decompress it, or compress it with gzip")),
    (b"\x28\xb5\x2f\xfd", FileKind("zstd data", "decompress it, or compress it with gzip")),
    (b"\x93NUMPY", FileKind("a NumPy array (.npy)", "write it as NIfTI with its affine")),
    (b"\x89HDF\r\n\x1a\n", FileKind("an HDF5 file (also MINC 2 and MATLAB 7.3)", CONVERT)),
    (re.compile(rb"CDF[\x01\x02\x05]"), FileKind("a netCDF file (also MINC 1)", CONVERT)),
    (b"MATLAB 5.0 MAT-file", FileKind("a MATLAB file", CONVERT)),
    (b"# vtk DataFile", FileKind("a VTK file", CONVERT)),
    (re.compile(rb"II\*\0|MM\0\*|II\+\0|MM\0\+"), FileKind("a TIFF file", CONVERT)),
    (b"\x89PNG\r\n\x1a\n", FileKind("a PNG picture", CONVERT)),
    (b"\xff\xd8\xff", FileKind("a JPEG picture", CONVERT)),
    (re.compile(rb"GIF8[79]a"), FileKind("a GIF picture", CONVERT)),
    (b"%PDF-", FileKind("a PDF document", "replace it by the image")),
    (re.compile(rb"ENVI\s"), FileKind("an ENVI header", CONVERT)),
    (re.compile(rb"\s*!?INTERFILE", re.IGNORECASE), FileKind("an Interfile header", CONVERT)),
    (re.compile(rb"\s*type\s*=\s*(string|integer|float)-attribute"), FileKind("an AFNI header", CONVERT)),
    (b"MATRIX7", FileKind("an ECAT file", CONVERT)),
    (
        b"\x00\x05\x16\x07",
        FileKind("a companion file of macOS ('._' in front of the name)", "name the image without '._'"),
    ),
    (lambda start: not start, FileKind("an empty file", "the file is cut off, copy it again")),
    (
        lambda start: len(start) >= 4 and not start.strip(b"\0"),
        FileKind("only zero bytes", "copy it again; the copy was cut off, or the file is still in the cloud"),
    ),
    (lambda start: _is_text(start), TEXT),
)


def identify(start: bytes) -> FileKind | None:
    """What a file is that is not NIfTI or Analyze; ``None`` if that is not known.

    Parameters
    ----------
    start : bytes. Beginning of the uncompressed content, ``PREFIX_BYTES`` or all of it.
    """
    for mark, kind in _KINDS:
        if isinstance(mark, bytes):
            found = start.startswith(mark)
        elif isinstance(mark, re.Pattern):
            found = mark.match(start) is not None
        else:
            found = mark(start)
        if found:
            return kind
    return None


def kind_of_format(format: str) -> FileKind:
    """What the files of a :data:`core.imaging.image_files.ForeignFormat` are."""
    return next(kind for _, kind in _KINDS if kind.format == format)


def identify_dangling_link(path: Path) -> FileKind | None:
    """What a symbolic link is whose target does not exist; ``None`` for another path."""
    try:
        target = os.readlink(path)
    except OSError:
        return None
    if re.search(r"[/\\]annex[/\\]objects[/\\]", target):
        return FileKind("a git-annex link whose content is not here", FETCH_ANNEX)
    return FileKind(f"a link to {target}, which does not exist", "copy the file itself, or correct the link")


def is_dicom(start: bytes) -> bool:
    """Whether content begins as a DICOM file, with or without the preamble of 128 bytes."""
    return re.match(rb".{128}DICM|[\x02\x08]\0[\0-\x20]\0[A-Z]{2}", start, re.DOTALL) is not None


def _is_mgh(start: bytes) -> bool:
    """Whether an MGH header begins: version 1, four dimensions and a known type, big-endian."""
    words = [int.from_bytes(start[n : n + 4], "big") for n in range(0, 24, 4)]
    return len(start) >= 24 and words[0] == 1 and all(1 <= n < 2**16 for n in words[1:5]) and words[5] <= 10


def _is_text(start: bytes) -> bool:
    """Whether there are some bytes, all of them printable ASCII or white space."""
    return len(start) >= 8 and all(32 <= byte < 127 or byte in b"\t\r\n" for byte in start)
