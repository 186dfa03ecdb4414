"""Surfaces that are kept beside a stored prediction (:mod:`core.evaluation.surface_file`).

``surfaces/<subject>.bin`` in the folder of the predictions holds the surfaces of the reference and of the prediction,
with a key made of the content of both: it is of no use once one of them is another, and is then made again. The oldest
files are removed where all of a folder take more than ``MAX_BYTES``. Two processes may write at the same time: files
are replaced whole, and those of the same content are equal.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.compute.machine_memory import free_memory
from core.datasets import Dataset
from core.errors import RunError, VolumeError
from core.evaluation.compared_subject import ComparedSubject, read_compared
from core.evaluation.surface_file import VERSION, SurfaceFile, SurfaceFileError, decode, encode
from core.evaluation.surface_meshes import (
    ALL_FACES,
    StepsCallback,
    Structure,
    case_surfaces,
    faces_per_surface,
    structures_of,
)
from core.evaluation.surface_picture import surface_picture
from core.files import atomic_write
from core.formatting import format_bytes, format_size
from core.imaging.headers import read_header
from core.imaging.mesh_files import MeshCaption, encode_ply, encode_stl
from core.labels import LabelSpace
from core.regions import RegionSpace
from core.runs.predictions import Prediction, safe_file_name

FOLDER = "surfaces"
ARCHIVE = ".zip"
MAX_BYTES = 2**30  # of all surfaces of a data set by a model
VOXEL_BYTES, CHANNEL_BYTES = 8, 8  # of memory a voxel: label maps and masks; a channel as stored, and in 32 bits


@dataclass(frozen=True)
class KeptSurfaces:
    """Surfaces in a file.

    Attributes
    ----------
    file : Path.
    content : SurfaceFile.
    """

    file: Path
    content: SurfaceFile


def keep_surfaces(
    dataset: Dataset,
    labels: LabelSpace,
    regions: RegionSpace | None,
    kept: Prediction,
    progress: StepsCallback | None = None,
) -> KeptSurfaces:
    """The surfaces of a case, made and kept unless they are kept already.

    Parameters
    ----------
    dataset : Dataset. The data set of the case.
    labels : LabelSpace. Classes of the prediction.
    regions : RegionSpace or None. Unions of classes that get surfaces too.
    kept : Prediction. The kept prediction.
    progress : callable, optional. Called with (structures done, all structures).

    Raises
    ------
    UserError
        If a file of the case cannot be read, the memory does not suffice, or the surfaces cannot be written.
    """
    _check_memory(dataset, kept)
    compared = read_compared(dataset, kept.subject, labels, kept.file)
    structures = structures_of(compared, regions)
    file, key = surfaces_file(kept.file), _key(compared, structures)
    found = read_surfaces(file)
    if found is not None and found.content.key == key:
        return found
    surfaces = case_surfaces(compared, structures, progress)
    content = encode(surfaces, key, surface_picture(surfaces))
    try:
        file.parent.mkdir(exist_ok=True)
        atomic_write(file, content)
    except OSError as error:
        raise RunError(f"{file}: cannot be written: {error.strerror or error}; make room there") from error
    _prune(file)
    return KeptSurfaces(file, decode(content))


def surfaces_file(label_map: Path) -> Path:
    """The file of the surfaces of the prediction whose label map is given; it need not exist."""
    return label_map.parent / FOLDER / f"{label_map.name.removesuffix('.nii.gz')}.bin"


def read_surfaces(file: Path) -> KeptSurfaces | None:
    """The surfaces in a file; ``None`` where there are none that this version reads."""
    try:
        return KeptSurfaces(file, decode(file.read_bytes()))
    except (OSError, SurfaceFileError):
        return None


def write_meshes(found: SurfaceFile, place: Path, ending: str, subject: str) -> list[Path]:
    """Write each surface as a file of its own, ``SUBJECT-CLASS-reference.stl``.

    Parameters
    ----------
    found : SurfaceFile. The surfaces.
    place : Path. A folder, created if missing; or a file ending in .zip, which holds all of them.
    ending : str. ".stl" or ".ply".
    subject : str. Id of the case, for names and titles.

    Returns
    -------
    list of Path. The files, in the order of the surfaces; or the one archive.

    Raises
    ------
    VolumeError
        If one cannot be written.
    """
    try:
        if place.name.lower().endswith(ARCHIVE):
            _write_archive(place, encode_meshes(found, ending, subject))
            return [place]
        place.mkdir(parents=True, exist_ok=True)
        written = []
        for name, content in encode_meshes(found, ending, subject):
            atomic_write(place / name, content)
            written.append(place / name)
    except OSError as error:
        raise VolumeError(f"{place}: cannot be written: {error.strerror or error}; choose another folder") from error
    return written


def encode_meshes(found: SurfaceFile, ending: str, subject: str) -> Iterator[tuple[str, bytes]]:
    """Name and content of a file for each surface; parameters as for :func:`write_meshes`."""
    surfaces = found.surfaces
    for surface in surfaces.surfaces:
        structure = surfaces.structures[surface.structure]
        side = "reference" if surface.side == "truth" else "prediction"
        caption = MeshCaption(f"{subject} {structure.name} {side}", surfaces.oriented, structure.colour)
        name = f"{safe_file_name(subject)}-{safe_file_name(structure.name)}-{side}{ending}"
        if ending == ".stl":
            yield name, encode_stl(surface.mesh, caption)
        else:
            yield name, encode_ply(surface.mesh, caption, surface.distance_mm)


def _write_archive(file: Path, contents: Iterator[tuple[str, bytes]]) -> None:
    """Write a ZIP archive atomically; its bytes depend on the contents alone.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as target:
        for name, content in contents:
            info = zipfile.ZipInfo(name)
            info.external_attr = 0o644 << 16  # else nobody may read what is unpacked
            target.writestr(info, content, zipfile.ZIP_DEFLATED, 1)
    atomic_write(file, archive.getvalue())


def _check_memory(dataset: Dataset, kept: Prediction) -> None:
    """Refuse a case that does not fit into the memory, before the kernel ends the process."""
    shape = read_header(kept.file).shape
    needed = math.prod(shape) * (VOXEL_BYTES + CHANNEL_BYTES * len(dataset.modalities))
    free = free_memory()
    if needed > free:
        raise VolumeError(
            f"{kept.subject}: not enough memory: its surfaces, of {format_size(shape)} voxels, take at least "
            f"{format_bytes(needed)}, {format_bytes(free)} are free; end other programs, or make them on a machine "
            "with more memory"
        )


def _key(compared: ComparedSubject, structures: tuple[Structure, ...]) -> str:
    """A hash of all that the surfaces depend on."""
    geometry = compared.loaded.geometry
    described = [[s.name, s.colour, s.classes, s.is_region] for s in structures]
    faces = [faces_per_surface(len(structures)), ALL_FACES]
    facts = [VERSION, geometry.shape, geometry.oriented, described, faces]
    digest = hashlib.sha256(json.dumps(facts).encode())
    digest.update(np.ascontiguousarray(geometry.affine, np.float64).tobytes())
    for index in (compared.truth, compared.prediction):
        digest.update(b"none" if index is None else np.ascontiguousarray(index).tobytes())
    return digest.hexdigest()


def _prune(newest: Path) -> None:
    """Remove the oldest files beside this one until all are within the limit."""
    found = []
    for file in newest.parent.glob("*.bin"):
        with contextlib.suppress(OSError):
            stat = file.stat()
            found.append((stat.st_mtime, stat.st_size, file))
    total = sum(size for _, size, _ in found)
    for _, size, file in sorted(found):
        if total <= MAX_BYTES:
            break
        if file != newest:
            with contextlib.suppress(OSError):
                file.unlink()
            total -= size
