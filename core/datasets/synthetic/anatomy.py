"""Anatomy of a synthetic infant brain: MNI152 tissue maps under a random affine map and a random diffeomorphism.

Computed with numpy and scipy on one thread, so that the result depends only on the random generator.

Source: Arsigny et al., "A log-Euclidean framework for statistics on diffeomorphisms", MICCAI 2006 (a stationary
velocity field, integrated by scaling and squaring).
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

CSF, GM, WM = 0, 1, 2  # tissues along the first axis of scores and fractions; class indices are one more (0 is air)
WORK_SHAPE = (140, 184, 160)  # voxels of 1 mm; the rest of the file's grid is air
TISSUE_SHARES = {CSF: 0.22, GM: 0.47, WM: 0.31}  # published for the iSEG-2017 training set
ATLAS_CENTRE_MM = (0.0, -17.0, 5.0)  # position of ``Atlas.centre`` by the affine of the MNI152 template
SUBJECT_SPREAD = 0.01  # standard deviation over subjects of a tissue share and of a histogram overlap
SHARPNESS = 3.0  # exponent that turns the wide transitions of an average brain into those of one brain at 1 mm
COARSE_MM = 2  # grid of the deformation
CLOSING_MM = 9  # clefts up to twice this width are closed in the brain mask
SQUARINGS = 6
MIN_JACOBIAN = 0.05  # deformations with a lower determinant are drawn again
MARGIN = 2  # voxels of air at the border of the work grid


@dataclass(frozen=True)
class Atlas:
    """Maps in MNI152 space that subjects are derived from: 1 mm, axes (i, j, k) in RAS.

    Attributes
    ----------
    scores : ndarray, float32, shape (3, i, j, k). Log-probabilities of CSF, GM and WM.
    inside : ndarray, float32, shape (i, j, k). Smooth indicator of the brain with closed sulci; one of its level sets
        is the skull-stripped surface.
    myelin : ndarray, float32, shape (i, j, k). Maturity of white matter at six months: 0 (frontal, temporal) to 1
        (centre, back, brain stem).
    centre : ndarray, shape (3,). Centre of the brain in voxels.
    """

    scores: np.ndarray
    inside: np.ndarray
    myelin: np.ndarray
    centre: np.ndarray


@dataclass(frozen=True)
class Anatomy:
    """Anatomy of one subject; n brain voxels, in the order of the non-zeros of ``brain``.

    Attributes
    ----------
    brain : ndarray, bool, shape WORK_SHAPE. Brain mask.
    fraction : ndarray, float32, shape (3, n). Partial volumes of CSF, GM and WM; they sum to 1.
    tissue : ndarray, intp, shape (n,). Tissue with the largest score.
    myelin : ndarray, float32, shape (n,). Maturity of white matter, see :class:`Atlas`.
    min_jacobian : float. Least Jacobian determinant of the deformation; positive without folds.
    """

    brain: np.ndarray
    fraction: np.ndarray
    tissue: np.ndarray
    myelin: np.ndarray
    min_jacobian: float


def load_atlas() -> Atlas:
    """Derive the atlas from the MNI152 maps in nilearn (no download); takes about 2 s."""
    t1, gm, wm = (_read_template(kind) for kind in ("t1", "gm", "wm"))
    mask = t1 > 0
    sulci = np.clip(ndimage.gaussian_filter(t1, 2.5) - t1, 0, None) * mask * (wm < 0.5)
    csf = np.clip(1 - gm - wm, 0, 1) + 3.0 * sulci
    scores = np.stack([np.log(p + np.float32(0.02)) for p in (csf, gm, wm)])
    inside = ndimage.gaussian_filter(np.maximum(mask, _close_clefts(mask)), 3.0, mode="constant")
    deep = np.clip(ndimage.gaussian_filter(wm, 5.0) - 0.25, 0, 0.6)
    backwards = 1 / (1 + np.exp((np.arange(t1.shape[1], dtype=np.float32) - 125) / 22))
    myelin = (0.45 * backwards[None, :, None] + 0.9 * deep).astype(np.float32)
    corners = np.argwhere(mask)
    return Atlas(scores, inside, myelin, (corners.min(0) + corners.max(0)) / 2)


def draw_anatomy(atlas: Atlas, rng: np.random.Generator) -> Anatomy:
    """Draw the anatomy of one subject.

    A draw is repeated where its deformation nearly folds or its brain is too close to the border, which is rare.
    """
    while True:
        affine = _draw_affine(rng)
        displacement = integrate_velocity(_draw_velocity(rng, tuple(-(-n // COARSE_MM) + 2 for n in WORK_SHAPE)))
        jacobian = min_jacobian(displacement)
        centre = (np.array(WORK_SHAPE) - 1) / 2 + rng.uniform(-2, 2, 3)
        coordinates = _atlas_coordinates(affine, displacement, centre, atlas.centre)
        inside = ndimage.map_coordinates(atlas.inside, coordinates, order=1)
        brain = _largest_component(inside > rng.uniform(0.26, 0.36))
        if jacobian > MIN_JACOBIAN and _is_clear_of_border(brain):
            break
    coordinates = coordinates[:, brain]
    scores = np.stack([ndimage.map_coordinates(s, coordinates, order=1, mode="nearest") for s in atlas.scores])
    for tissue, amount in ((CSF, 0.42), (WM, 0.22)):
        scores[tissue] += amount * smooth_noise(rng, WORK_SHAPE, 2.0)[brain]
    _shift_to_published_shares(scores, rng)
    fraction = np.exp(SHARPNESS * (scores - scores.max(0)))
    fraction /= fraction.sum(0)
    myelin = ndimage.map_coordinates(atlas.myelin, coordinates, order=1, mode="nearest")
    return Anatomy(brain, fraction, scores.argmax(0), myelin, jacobian)


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], sigma: float) -> np.ndarray:
    """Gaussian random field of unit variance, float32.

    Parameters
    ----------
    rng : numpy Generator. Source of randomness.
    shape : tuple of int. Shape of the field.
    sigma : float. Standard deviation of the smoothing, in voxels.
    """
    step = max(1, int(sigma / 1.5))
    coarse_shape = tuple(-(-n // step) + 2 for n in shape)
    field = ndimage.gaussian_filter(rng.standard_normal(coarse_shape, dtype=np.float32), sigma / step)
    field /= field.std()
    return field[tuple(slice(n) for n in shape)] if step == 1 else upsample_linear(field, shape, step)


def upsample_linear(field: np.ndarray, shape: tuple[int, ...], step: int) -> np.ndarray:
    """Interpolate a coarse field linearly, float32.

    Parameters
    ----------
    field : ndarray. Values on a grid whose points are ``step`` voxels apart.
    shape : tuple of int. Shape of the result.
    step : int. Grid spacing of ``field`` in voxels of the result.
    """
    for axis, size in enumerate(shape):
        position = np.arange(size, dtype=np.float32) / step
        low = np.minimum(position.astype(np.intp), field.shape[axis] - 2)
        weight = (position - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(field.ndim)])
        below = np.take(field, low, axis)
        field = below + weight * (np.take(field, low + 1, axis) - below)
    return field


def integrate_velocity(velocity: np.ndarray) -> np.ndarray:
    """Displacement at time 1 of the flow of a stationary velocity; both in voxels, float32, shape (3, i, j, k)."""
    grid = np.indices(velocity.shape[1:], dtype=np.float32)
    displacement = velocity / 2**SQUARINGS
    for _ in range(SQUARINGS):
        coordinates = grid + displacement
        displacement = displacement + np.stack(
            [ndimage.map_coordinates(d, coordinates, order=1, mode="nearest") for d in displacement]
        )
    return displacement


def min_jacobian(displacement: np.ndarray) -> float:
    """Least Jacobian determinant of x + displacement(x), by central differences; positive without folds."""
    rows = [[np.gradient(displacement[a], axis=b) + (a == b) for b in range(3)] for a in range(3)]
    (a, b, c), (d, e, f), (g, h, i) = rows
    return float((a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)).min())


def _read_template(kind: str) -> np.ndarray:
    """A map of the MNI152 template at 1 mm, scaled to a maximum of 1, float32.

    Read from nilearn's file, as nilearn reads it: importing nilearn takes longer than making half a subject.

    Parameters
    ----------
    kind : str. "t1", or "gm" or "wm" for the probability of a tissue.
    """
    import nibabel

    (package,) = getattr(find_spec("nilearn"), "submodule_search_locations", None) or ("",)
    path = Path(package) / "datasets" / "data" / f"mni_icbm152_{kind}_tal_nlin_sym_09a_converted.nii.gz"
    if not path.is_file():  # another version of nilearn
        from nilearn import datasets

        name = "load_mni152_template" if kind == "t1" else f"load_mni152_{kind}_template"
        return np.asarray(getattr(datasets, name)(resolution=1).dataobj, dtype=np.float32)
    data = np.asanyarray(nibabel.load(path).dataobj).astype(np.float32)
    data /= data.max()
    return data


def _close_clefts(mask: np.ndarray) -> np.ndarray:
    """Morphological closing of a mask, float32, computed at 2 mm; closes clefts up to about 2 * CLOSING_MM wide."""
    coarse = np.pad(mask[::2, ::2, ::2], CLOSING_MM)
    dilated = ndimage.distance_transform_edt(~coarse) <= CLOSING_MM / 2
    closed = ndimage.distance_transform_edt(dilated) > CLOSING_MM / 2
    cropped = closed[(slice(CLOSING_MM, -CLOSING_MM),) * 3].astype(np.float32)
    return upsample_linear(np.pad(cropped, ((0, 1),) * 3), mask.shape, 2)


def _draw_velocity(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Velocity field in coarse voxels with two scales: lobes (22 mm) and single folds (6 mm)."""
    lobes = np.stack([smooth_noise(rng, shape, 11.0) for _ in range(3)])
    folds = np.stack([smooth_noise(rng, shape, 3.2) for _ in range(3)])
    return 0.75 * lobes + 0.75 * folds


def _draw_affine(rng: np.random.Generator) -> np.ndarray:
    """Linear map from subject to atlas, shape (3, 3): size of a six-month-old's brain, slight rotation and shear."""
    pitch, roll, yaw = np.deg2rad(rng.normal(0, (3.0, 2.0, 2.5)).clip(-7, 7))
    about_i = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    about_j = np.array([[np.cos(roll), 0, np.sin(roll)], [0, 1, 0], [-np.sin(roll), 0, np.cos(roll)]])
    about_k = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    size = (0.80 * (1 + rng.normal(0, 0.02)) * (1 + rng.normal(0, 0.02, 3))).clip(0.73, 0.87)
    shear = np.eye(3)
    shear[np.triu_indices(3, 1)] = rng.normal(0, 0.02, 3)
    return np.linalg.inv(about_i @ about_j @ about_k @ shear @ np.diag(size))


def _atlas_coordinates(
    affine: np.ndarray, displacement: np.ndarray, centre: np.ndarray, atlas_centre: np.ndarray
) -> np.ndarray:
    """Position in the atlas of every voxel of the work grid, float32, shape (3, i, j, k).

    Written as sums instead of a matrix product, because a BLAS may round differently with another number of threads.
    """
    moved = np.indices(WORK_SHAPE, dtype=np.float32)
    for axis in range(3):
        fine = upsample_linear(displacement[axis], WORK_SHAPE, COARSE_MM)
        moved[axis] += np.float32(COARSE_MM) * fine - np.float32(centre[axis])
    rows = affine.astype(np.float32)
    offset = atlas_centre.astype(np.float32)
    return np.stack(
        [r[0] * moved[0] + r[1] * moved[1] + r[2] * moved[2] + c for r, c in zip(rows, offset, strict=True)]
    )


def _largest_component(mask: np.ndarray) -> np.ndarray:
    """Largest connected component of a mask."""
    components, count = ndimage.label(mask)
    if count <= 1:
        return mask
    return np.asarray(components == 1 + np.argmax(np.bincount(components.ravel())[1:]))


def _is_clear_of_border(brain: np.ndarray) -> bool:
    """Whether the outermost voxels of the work grid are all air."""
    interior: Any = tuple(slice(MARGIN, n - MARGIN) for n in brain.shape)
    return bool(np.count_nonzero(brain[interior]) == np.count_nonzero(brain))


def _shift_to_published_shares(scores: np.ndarray, rng: np.random.Generator) -> None:
    """Shift the scores in place until the tissues have their published shares, varied by SUBJECT_SPREAD."""
    csf_share, wm_share = (TISSUE_SHARES[t] + SUBJECT_SPREAD * rng.standard_normal() for t in (CSF, WM))
    for _ in range(6):
        margin = scores[CSF] - np.maximum(scores[GM], scores[WM])
        scores[CSF] -= np.quantile(margin, 1 - csf_share)
        solid = margin <= np.quantile(margin, 1 - csf_share)
        scores[WM] -= np.quantile((scores[WM] - scores[GM])[solid], 1 - wm_share / (1 - csf_share))
