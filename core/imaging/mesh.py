"""Triangle meshes of masks: marching cubes, smoothing that keeps the volume, decimation.

The surface runs halfway between the centres of the voxels of a mask and their neighbours; beyond the edge of the volume
there is nothing, so a structure that touches it is closed there. Meshes are closed, and their triangles run
counter-clockwise when seen from outside, whatever the affine: also where voxel axes are mirrored or sheared.

scikit-image, scipy and fast-simplification are imported on first use.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

SMOOTHING_STEPS = 10
SHRINK, GROW = 0.5, -0.53  # of Taubin's filter: a step that shrinks, then one that grows
LARGEST_MOVE = 0.5  # voxels along an axis, by which smoothing moves a vertex at most
SMALL_FACES = 200  # components of fewer faces are neither smoothed nor decimated, which would shrink them
MAX_FACES = 4_000_000  # of a mesh before decimation; a mask with a larger surface is made coarser
MAX_VOXELS = 100_000_000  # of the box around a mask, as marching cubes takes it: four bytes each
FACES_PER_SIDE = 2.0  # triangles per side of a voxel on a surface, about
VOLUME_TOLERANCE = 0.02  # relative change of the volume by decimation
DOUBLINGS = 2  # of the number of faces, while the volume changes more
LEVEL = 0.4999  # no vertex lies on a voxel centre of a coarser grid, where triangles would have no area


@dataclass(frozen=True)
class Mesh:
    """A closed surface of triangles.

    Attributes
    ----------
    vertices : ndarray, float64, shape (n, 3). In mm.
    faces : ndarray, int32, shape (m, 3). Indices of vertices, counter-clockwise seen from outside.
    """

    vertices: np.ndarray
    faces: np.ndarray

    @property
    def corners(self) -> np.ndarray:
        """The corners of each face, float64, shape (m, 3, 3)."""
        return np.asarray(self.vertices[self.faces])

    @property
    def volume_mm3(self) -> float:
        """Enclosed volume; that of cavities is left out."""
        return float(_signed_volumes(self.corners).sum())

    @property
    def is_closed(self) -> bool:
        """Whether each edge of a face is, in the other direction, one of a neighbour."""
        ways = [self.faces[:, [a, b]].astype(np.int64) for a, b in ((0, 1), (1, 2), (2, 0))]
        edges = np.concatenate(ways)
        count = len(self.vertices)
        return bool(np.array_equal(np.sort(edges @ [count, 1]), np.sort(edges @ [1, count])))


@dataclass(frozen=True)
class MaskMesh:
    """The mesh of a mask.

    Attributes
    ----------
    mesh : Mesh. In mm, decimated.
    full : Mesh. Before decimation.
    coarsening : int. Sides of the blocks of voxels that were averaged first; 1 if none were.
    left_out : int. Components that are not in the decimated mesh, the smallest ones, because they alone have more faces
        than it may have.
    """

    mesh: Mesh
    full: Mesh
    coarsening: int = 1
    left_out: int = 0


def mesh_of_mask(mask: np.ndarray, affine: np.ndarray, faces: int, most: int | None = None) -> MaskMesh | None:
    """The surface of a mask in the coordinates of an affine.

    Parameters
    ----------
    mask : ndarray, bool, shape (i, j, k).
    affine : ndarray, float64, shape (4, 4). From voxel indices to mm; voxel centres have whole indices.
    faces : int. Number of faces of the decimated mesh. A rugged surface, which would lose volume, keeps more of them;
        with the most that it may keep it may enclose another volume.
    most : int, optional. Most faces of a rugged surface; by default, and at most, four times ``faces``.

    Returns
    -------
    MaskMesh or None. ``None`` for an empty mask.

    Raises
    ------
    ValueError
        If the mask has not three axes, or the affine cannot be inverted.
    """
    matrix = np.asarray(affine, np.float64)
    if mask.ndim != 3 or matrix.shape != (4, 4) or not abs(np.linalg.det(matrix[:3, :3])) > 0:
        raise ValueError(f"expected a mask with three axes and an affine that can be inverted, got {mask.shape}")
    box = _bounding_box(mask)
    if box is None:
        return None
    inner = mask[box]
    step = _coarsening(inner)
    field = _block_means(inner, step)
    vertices, triangles = _marching_cubes(field)
    vertices = _smoothed(vertices, triangles)
    first = np.array([side.start for side in box], np.float64)
    vertices = (vertices * step + (step - 1) / 2 + first) @ matrix[:3, :3].T + matrix[:3, 3]
    if np.linalg.det(matrix[:3, :3]) < 0:
        triangles = triangles[:, ::-1]
    full = Mesh(vertices, np.ascontiguousarray(triangles))
    limit = faces << DOUBLINGS
    mesh, left_out = _decimated(full, faces, limit if most is None else max(faces, min(most, limit)))
    return MaskMesh(mesh, full, step, left_out)


def vertex_normals(mesh: Mesh) -> np.ndarray:
    """Outward unit vectors at the vertices, weighted by the area of their faces, float64, shape (n, 3)."""
    corners = mesh.corners
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.stack(
        [
            np.bincount(mesh.faces.ravel(), np.repeat(across[:, axis], 3), minlength=len(mesh.vertices))
            for axis in range(3)
        ],
        axis=1,
    )
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.asarray(np.divide(normals, lengths, out=np.zeros_like(normals), where=lengths > 0))


def _bounding_box(mask: np.ndarray) -> tuple[slice, ...] | None:
    box = []
    for axis in range(3):
        found = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        if not len(found):
            return None
        box.append(slice(int(found[0]), int(found[-1]) + 1))
    return tuple(box)


def _coarsening(mask: np.ndarray) -> int:
    """Sides of the blocks of voxels that keep the mesh of a mask within the limits."""
    sides = sum(
        int(np.count_nonzero(mask[(slice(None),) * a + (slice(1, None),)] != mask[(slice(None),) * a + (slice(-1),)]))
        for a in range(3)
    )
    by_faces = math.ceil(math.sqrt(FACES_PER_SIDE * sides / MAX_FACES))
    by_voxels = math.ceil((mask.size / MAX_VOXELS) ** (1 / 3))
    return max(1, by_faces, by_voxels)


def _block_means(mask: np.ndarray, step: int) -> np.ndarray:
    """Means of cubes of voxels with nothing around them, float32; the voxels themselves for a step of 1."""
    if step == 1:
        return np.pad(mask, 1).astype(np.float32)
    filled = np.pad(mask, [(0, -size % step) for size in mask.shape])
    i, j, k = (size // step for size in filled.shape)
    means = np.zeros((i + 2, j + 2, k + 2), np.float32)
    for a in range(step):  # plane by plane: the mask is large
        plane = filled[a::step].reshape(i, j, step, k, step)
        means[1:-1, 1:-1, 1:-1] += plane.sum(axis=(2, 4), dtype=np.float32)
    return means / np.float32(step**3)


def _marching_cubes(field: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vertices in indices of the field without its margin, and triangles."""
    from skimage.measure import marching_cubes

    if float(field.max()) <= LEVEL:  # blocks of less than half: they are drawn as whole ones, so that none gets lost
        field = (field > 0).astype(np.float32)
    vertices, triangles, _, _ = marching_cubes(field, LEVEL, gradient_direction="ascent", allow_degenerate=False)
    return vertices.astype(np.float64) - 1, triangles.astype(np.int32)


def _smoothed(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Vertices without the steps of the voxels: Taubin's filter, then moved along the normals until the enclosed volume
    of each component is as before. Small components are left as they are."""
    from scipy import sparse

    count = len(vertices)
    component, sizes = _components(count, triangles)
    is_large = sizes[component[triangles[:, 0]]] >= SMALL_FACES
    chosen = triangles[is_large]
    if not len(chosen):
        return vertices
    ends = np.concatenate([chosen[:, [0, 1]], chosen[:, [1, 2]], chosen[:, [2, 0]]])
    rows, columns = np.concatenate([ends, ends[:, ::-1]]).T
    neighbours = sparse.csr_matrix((np.ones(len(rows), np.float64), (rows, columns)), (count, count))
    neighbours.data[:] = 1.0  # an edge of two faces counts once
    degree = np.asarray(neighbours.sum(axis=1)).ravel()
    moved = degree > 0
    share = np.divide(1.0, degree, out=np.zeros(count), where=moved)[:, None]
    now = vertices.copy()
    for _ in range(SMOOTHING_STEPS):
        for factor in (SHRINK, GROW):
            now += factor * np.where(moved[:, None], share * (neighbours @ now) - now, 0.0)
    now = vertices + np.clip(now - vertices, -LARGEST_MOVE, LARGEST_MOVE)
    return _with_volumes(now, vertices, chosen, component)


def _with_volumes(now: np.ndarray, before: np.ndarray, triangles: np.ndarray, component: np.ndarray) -> np.ndarray:
    """Vertices moved along their normals until each component encloses the volume that it had before."""
    owner, number = component[triangles[:, 0]], int(component.max()) + 1

    def volumes(vertices: np.ndarray) -> np.ndarray:
        return np.bincount(owner, _signed_volumes(vertices[triangles]), minlength=number)

    wanted = volumes(before)
    for _ in range(2):
        corners = now[triangles]
        across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        areas = np.bincount(owner, 0.5 * np.linalg.norm(across, axis=1), minlength=number)
        missing = wanted - volumes(now)
        step = np.divide(missing, areas, out=np.zeros(number), where=areas > 0)
        now = now + step[component][:, None] * vertex_normals(Mesh(now, triangles))
    return now


def _decimated(mesh: Mesh, faces: int, most: int) -> tuple[Mesh, int]:
    """A mesh of about so many faces, of ``most`` if it is rugged, and the number of its smallest components that had to
    be left out."""
    if len(mesh.faces) <= faces:
        return mesh, 0
    component, sizes = _components(len(mesh.vertices), mesh.faces)
    owner = component[mesh.faces[:, 0]]
    small = (sizes > 0) & (sizes < SMALL_FACES)
    room = faces if not (sizes >= SMALL_FACES).any() else faces // 2  # half of it is kept for large components
    kept, left_out = small.copy(), 0
    if sizes[small].sum() > room:
        largest_first = np.flatnonzero(small)[np.argsort(-sizes[small], kind="stable")]
        out = largest_first[np.cumsum(sizes[largest_first]) > room]
        kept[out] = False
        left_out = len(out)
    few = mesh.faces[kept[owner]]
    many = mesh.faces[(sizes >= SMALL_FACES)[owner]]
    parts = [_used(mesh.vertices, few)]
    if len(many):
        parts.append(_simplified(*_used(mesh.vertices, many), max(4, faces - len(few)), max(4, most - len(few))))
    vertices = np.concatenate([points for points, _ in parts])
    triangles = np.concatenate([parts[0][1], *(t + len(parts[0][0]) for _, t in parts[1:])])
    return Mesh(vertices, np.ascontiguousarray(triangles, np.int32)), left_out


def _simplified(vertices: np.ndarray, triangles: np.ndarray, faces: int, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and triangles with quadric errors as small as possible (Garland and Heckbert 1997); with more faces than
    asked for, ``most`` at most, where the volume would change by more than :data:`VOLUME_TOLERANCE`."""
    from fast_simplification import simplify

    whole = float(_signed_volumes(vertices[triangles]).sum())
    best: tuple[bool, float] = (True, math.inf)  # of the nearest so far: whether it is open, and its change of volume
    nearest = Mesh(vertices, triangles)
    for target in dict.fromkeys(min(faces << n, most) for n in range(DOUBLINGS + 1)):
        if target >= len(triangles):
            return vertices, triangles
        points, simplified = simplify(vertices, triangles, target_count=target)
        mesh = Mesh(np.asarray(points, np.float64), np.asarray(simplified, np.int32))
        found = (not mesh.is_closed, abs(mesh.volume_mm3 - whole) / abs(whole))
        if found < best:
            best, nearest = found, mesh
        if best <= (False, VOLUME_TOLERANCE):
            break
    return nearest.vertices, nearest.faces


def _used(vertices: np.ndarray, triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The vertices that triangles have, and the triangles with their new indices."""
    used, flat = np.unique(triangles, return_inverse=True)
    return vertices[used], flat.reshape(-1, 3).astype(np.int32)


def _components(vertices: int, triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The number of the connected component of each vertex, and the number of faces of each component."""
    from scipy import sparse
    from scipy.sparse.csgraph import connected_components

    rows, columns = triangles[:, [0, 1]].ravel(), triangles[:, [1, 2]].ravel()
    edges = sparse.coo_matrix((np.ones(len(rows), np.int8), (rows, columns)), (vertices, vertices))
    number, component = connected_components(edges, directed=False)
    return component, np.bincount(component[triangles[:, 0]], minlength=number)


def _signed_volumes(corners: np.ndarray) -> np.ndarray:
    """Volumes of the tetrahedra between the faces and the first corner, which add up to the enclosed volume."""
    a, b, c = (corners[:, n] - corners[0, 0] for n in range(3)) if len(corners) else (corners[:, n] for n in range(3))
    return np.asarray((np.cross(a, b) * c).sum(axis=1) / 6)
