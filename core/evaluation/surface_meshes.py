"""Surfaces of the classes of a case as triangle meshes: of reference and prediction, with their signed distances.

Coordinates are those of the image's affine: RAS mm, or mm along the voxel axes where the file states no orientation.
A distance is that of a vertex to the surface of the same class in the other segmentation before decimation, positive
outside of it. It is not a number where the other one lacks the class, and beside voxels with the ignore label.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from core.evaluation.compared_subject import ComparedSubject
from core.evaluation.mesh_distance import signed_distances
from core.imaging.mesh import MaskMesh, Mesh, mesh_of_mask
from core.labels import IGNORE_INDEX
from core.regions import RegionSpace

SIDES = ("truth", "prediction")
FACES = 40_000  # of one surface
ALL_FACES = 320_000  # of all surfaces of a case: what a browser turns fluently
VOLUME_TOLERANCE = 0.1  # relative difference of the volumes of mesh and voxels that is reported

# Of signed distances: inside the other surface, on it, outside; safe for colour-blind readers.
DISTANCE_COLOURS = ("#2166ac", "#f3f3f1", "#b2182b")
NO_DISTANCE_COLOUR = "#8d93a0"
RANGES_MM, RANGE_MM = (1.0, 2.0, 5.0, 10.0, 20.0), 2.0  # ends of the colour bar, the same for all cases

StepsCallback = Callable[[int, int], None]


@dataclass(frozen=True)
class Structure:
    """What has a surface: a class, or a union of classes.

    Attributes
    ----------
    name : str.
    colour : str. ``#rrggbb``.
    classes : tuple of int. Class indices.
    is_region : bool. Whether it is a union.
    """

    name: str
    colour: str
    classes: tuple[int, ...]
    is_region: bool = False


@dataclass(frozen=True)
class Surface:
    """The surface of a structure in one segmentation.

    Attributes
    ----------
    structure : int. Index of the structure.
    side : str. "truth" or "prediction".
    mesh : Mesh. In mm.
    distance_mm : ndarray, float32, shape (vertices,), or None. Signed distances to the other surface; ``None`` without
        a second segmentation.
    volume_ml : float. Volume of the voxels.
    coarsening, left_out : as in :class:`core.imaging.mesh.MaskMesh`.
    """

    structure: int
    side: str
    mesh: Mesh
    distance_mm: np.ndarray | None
    volume_ml: float
    coarsening: int = 1
    left_out: int = 0

    @property
    def mesh_ml(self) -> float:
        """Volume that the mesh encloses."""
        return self.mesh.volume_mm3 / 1000

    @property
    def volume_differs(self) -> bool:
        """Whether the mesh encloses another volume than the voxels have although no part is left out: it is rugged, or
        only a few voxels wide."""
        return not self.left_out and abs(self.mesh_ml - self.volume_ml) > VOLUME_TOLERANCE * self.volume_ml


@dataclass(frozen=True)
class CaseSurfaces:
    """The surfaces of a case.

    Attributes
    ----------
    structures : tuple of Structure. Classes, then regions.
    surfaces : tuple of Surface. Those that are not empty, in the order of the structures, the reference first.
    oriented : bool. Whether coordinates are RAS; else they run along the voxel axes.
    has_truth : bool. Whether there is a reference.
    """

    structures: tuple[Structure, ...]
    surfaces: tuple[Surface, ...]
    oriented: bool
    has_truth: bool

    def find(self, structure: int, side: str) -> Surface | None:
        """The surface of a structure on a side; ``None`` if it is empty there."""
        return next((s for s in self.surfaces if s.structure == structure and s.side == side), None)


def structures_of(compared: ComparedSubject, regions: RegionSpace | None) -> tuple[Structure, ...]:
    """The classes of a case, and the unions of classes in the colour of their first class."""
    labels = compared.labels
    classes = [Structure(c.name, c.colour, (labels.names.index(c.name),)) for c in labels.foreground]
    unions = []
    for region in () if regions is None or regions.unions is None else regions.unions.regions:
        indices = tuple(labels.names.index(name) for name in region.classes)
        unions.append(Structure(region.name, classes[indices[0] - 1].colour, indices, is_region=True))
    return (*classes, *unions)


def case_surfaces(
    compared: ComparedSubject,
    structures: Sequence[Structure],
    progress: StepsCallback | None = None,
) -> CaseSurfaces:
    """The surfaces of a case.

    Parameters
    ----------
    compared : ComparedSubject. The case; without a reference there are surfaces of the prediction only.
    structures : sequence of Structure. What surfaces are made of.
    progress : callable, optional. Called with (structures done, all structures).
    """
    geometry = compared.loaded.geometry
    affine = np.asarray(geometry.affine, np.float64)
    sides = {"prediction": compared.prediction}
    if compared.truth is not None:
        sides = {"truth": compared.truth, **sides}
    budget = _FaceBudget(faces_per_surface(len(structures)), _surfaces(structures, list(sides.values())))
    beside_ignored = _Ignored(compared.truth, affine)
    surfaces = []
    for number, structure in enumerate(structures):
        if progress is not None:
            progress(number, len(structures))
        found: dict[str, MaskMesh] = {}
        voxels = {}
        for side, index in sides.items():
            mask = np.isin(index, structure.classes)
            made = mesh_of_mask(mask, affine, budget.faces, budget.most)
            if made is not None:
                budget.take(len(made.mesh.faces))
                found[side], voxels[side] = made, int(np.count_nonzero(mask))
        for side, made in found.items():
            other = found.get(SIDES[1 - SIDES.index(side)])
            distance = None if len(sides) < 2 else _distances(made.mesh, other, beside_ignored)
            volume_ml = voxels[side] * geometry.voxel_volume_mm3 / 1000
            surfaces.append(Surface(number, side, made.mesh, distance, volume_ml, made.coarsening, made.left_out))
    if progress is not None:
        progress(len(structures), len(structures))
    return CaseSurfaces(tuple(structures), tuple(surfaces), geometry.oriented, compared.truth is not None)


def faces_per_surface(structures: int) -> int:
    """Number of faces of each surface, so that those of all structures, each on two sides, are not too many for a
    browser."""
    return min(FACES, ALL_FACES // (2 * max(1, structures)))


def _surfaces(structures: Sequence[Structure], segmentations: Sequence[np.ndarray]) -> int:
    """Number of structures that are not empty, over all segmentations."""
    classes = {c for structure in structures for c in structure.classes}
    present = [{c for c in classes if (index == c).any()} for index in segmentations]
    return sum(not found.isdisjoint(structure.classes) for found in present for structure in structures)


class _FaceBudget:
    """The faces of all surfaces of a case, :data:`ALL_FACES` together: a rugged surface may have more than the others
    where these leave some.

    Parameters
    ----------
    faces : int. Faces of each surface.
    surfaces : int. Number of surfaces.
    """

    def __init__(self, faces: int, surfaces: int) -> None:
        self.faces = faces
        self._left, self._to_come = ALL_FACES, surfaces

    @property
    def most(self) -> int:
        """Most faces of the next surface: an equal share of those that are left."""
        return max(self.faces, self._left // max(1, self._to_come))

    def take(self, faces: int) -> None:
        """Count the faces of a surface."""
        self._left -= faces
        self._to_come -= 1


def _distances(mesh: Mesh, other: MaskMesh | None, ignored: _Ignored) -> np.ndarray:
    """Signed distances of the vertices to another surface, float32; not a number where there is nothing to compare."""
    if other is None:
        return np.full(len(mesh.vertices), np.nan, np.float32)
    distances = signed_distances(mesh.vertices, other.full).astype(np.float32)
    distances[ignored.beside(mesh.vertices)] = np.nan
    return distances


class _Ignored:
    """The voxels with the ignore label, and their neighbours.

    Parameters
    ----------
    truth : ndarray or None. Class indices of the reference.
    affine : ndarray, shape (4, 4). Voxel indices to mm.
    """

    def __init__(self, truth: np.ndarray | None, affine: np.ndarray) -> None:
        from scipy import ndimage

        self._inverse = np.linalg.inv(affine)
        ignored = None if truth is None else truth == IGNORE_INDEX
        self._near = (
            None if ignored is None or not ignored.any() else ndimage.binary_dilation(ignored, np.ones((3, 3, 3), bool))
        )

    def beside(self, points: np.ndarray) -> np.ndarray:
        """Whether points in mm lie in such a voxel, bool, shape (n,)."""
        if self._near is None:
            return np.zeros(len(points), bool)
        voxels = np.rint(points @ self._inverse[:3, :3].T + self._inverse[:3, 3]).astype(np.int64)
        i, j, k = np.clip(voxels, 0, np.array(self._near.shape) - 1).T
        return np.asarray(self._near[i, j, k])
