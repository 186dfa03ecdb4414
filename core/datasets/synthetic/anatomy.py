"""The shape of one synthetic infant brain: MNI152 tissue maps bent by a random affine and a random diffeomorphism.

numpy and scipy on one thread only, so that what comes out depends on the generator and on nothing else.

Source: Arsigny et al., "A log-Euclidean framework for statistics on diffeomorphisms", MICCAI 2006 (a stationary
velocity field, integrated by scaling and squaring).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

CSF, GM, WM = 0, 1, 2
"""Index of each tissue along the first axis of scores and fractions; its label index is one more (0 is air)."""

WORK_SHAPE = (140, 184, 160)
"""Voxels (1 mm) in which a subject is made; the rest of the file's 144x192x256 is air."""

TISSUE_SHARES = {CSF: 0.22, GM: 0.47, WM: 0.31}
"""Published shares of the tissues in the real iSEG-2017 training set."""

SUBJECT_SPREAD = 0.01
"""Standard deviation, over subjects, of a share (and of an overlap, see contrast) around its published value."""

SHARPNESS = 3.0
"""Power on the maps' probabilities: from the wide transitions of an average brain to those of one brain at 1 mm."""

COARSE_MM = 2
CLOSING_MM = 9
SQUARINGS = 6
SMALLEST_ALLOWED_JACOBIAN = 0.05
MARGIN = 2


@dataclass(frozen=True)
class Atlas:
    """What subjects are made from: float32 maps in MNI152 space, 1 mm, axes (i, j, k) in RAS.

    Attributes
    ----------
    scores : log-probabilities of CSF, GM and WM, shape (3, i, j, k).
    inside : smooth indicator of the brain closed over its sulci; a level set of it is the skull-stripped surface.
    myelin : how mature white matter is at six months: from 0 (frontal, temporal) to 1 (centre, back, brain stem).
    centre : middle of the brain, in voxels.
    """

    scores: np.ndarray
    inside: np.ndarray
    myelin: np.ndarray
    centre: np.ndarray


@dataclass(frozen=True)
class Anatomy:
    """One subject's shape; n is the number of brain voxels, in the order of ``brain``'s non-zeros.

    Attributes
    ----------
    brain : bool, shape WORK_SHAPE.
    fraction : float32 (3, n), partial volume of CSF, GM and WM in each voxel; sums to 1.
    tissue : intp (n,), the tissue with the largest score.
    myelin : float32 (n,), see :class:`Atlas`.
    smallest_jacobian : least determinant of the deformation's Jacobian; positive: nothing folds over.
    """

    brain: np.ndarray
    fraction: np.ndarray
    tissue: np.ndarray
    myelin: np.ndarray
    smallest_jacobian: float


def load_atlas() -> Atlas:
    """Read the MNI152 maps that nilearn carries (no network) and derive the atlas from them; about 3 s."""
    from nilearn.datasets import load_mni152_gm_template, load_mni152_template, load_mni152_wm_template

    t1, gm, wm = (
        np.asarray(load(resolution=1).dataobj, dtype=np.float32)
        for load in (load_mni152_template, load_mni152_gm_template, load_mni152_wm_template)
    )
    mask = t1 > 0
    sulci = np.clip(ndimage.gaussian_filter(t1, 2.5) - t1, 0, None) * mask * (wm < 0.5)
    csf = np.clip(1 - gm - wm, 0, 1) + 3.0 * sulci
    scores = np.stack([np.log(p + np.float32(0.02)) for p in (csf, gm, wm)])
    inside = ndimage.gaussian_filter(np.maximum(mask, _closed(mask)), 3.0, mode="constant")
    deep = np.clip(ndimage.gaussian_filter(wm, 5.0) - 0.25, 0, 0.6)
    backwards = 1 / (1 + np.exp((np.arange(t1.shape[1], dtype=np.float32) - 125) / 22))
    myelin = (0.45 * backwards[None, :, None] + 0.9 * deep).astype(np.float32)
    corners = np.argwhere(mask)
    return Atlas(scores, inside, myelin, (corners.min(0) + corners.max(0)) / 2)


def draw_anatomy(atlas: Atlas, rng: np.random.Generator) -> Anatomy:
    """Draw one subject's shape.

    A draw whose deformation nearly folds or whose brain comes near the border is drawn again (hardly ever needed).
    """
    while True:
        matrix = _subject_to_atlas(rng)
        bend = integrate(_velocity(rng, tuple(-(-n // COARSE_MM) + 2 for n in WORK_SHAPE)))
        jacobian = smallest_jacobian(bend)
        middle = (np.array(WORK_SHAPE) - 1) / 2 + rng.uniform(-2, 2, 3)
        at = _atlas_coordinates(matrix, bend, middle, atlas.centre)
        brain = _largest_part(ndimage.map_coordinates(atlas.inside, at, order=1) > rng.uniform(0.26, 0.36))
        if jacobian > SMALLEST_ALLOWED_JACOBIAN and _clear_of_border(brain):
            break
    at = at[:, brain]
    scores = np.stack([ndimage.map_coordinates(s, at, order=1, mode="nearest") for s in atlas.scores])
    for tissue, amount in ((CSF, 0.42), (WM, 0.22)):
        scores[tissue] += amount * smooth_noise(rng, WORK_SHAPE, 2.0)[brain]
    _balance(scores, rng)
    fraction = np.exp(SHARPNESS * (scores - scores.max(0)))
    fraction /= fraction.sum(0)
    myelin = ndimage.map_coordinates(atlas.myelin, at, order=1, mode="nearest")
    return Anatomy(brain, fraction, scores.argmax(0), myelin, jacobian)


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], sigma: float) -> np.ndarray:
    """Gaussian random field (float32, ``shape``) of unit variance, smoothed by ``sigma`` voxels."""
    step = max(1, int(sigma / 1.5))
    coarse = tuple(-(-n // step) + 2 for n in shape)
    field = ndimage.gaussian_filter(rng.standard_normal(coarse, dtype=np.float32), sigma / step)
    field /= field.std()
    return field[tuple(slice(n) for n in shape)] if step == 1 else enlarge(field, shape, step)


def enlarge(field: np.ndarray, shape: tuple[int, ...], step: int) -> np.ndarray:
    """Linear interpolation of ``field``, whose voxels are ``step`` apart, at every voxel of ``shape`` (float32)."""
    for axis, size in enumerate(shape):
        at = np.arange(size, dtype=np.float32) / step
        low = np.minimum(at.astype(np.intp), field.shape[axis] - 2)
        weight = (at - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(field.ndim)])
        below = np.take(field, low, axis)
        field = below + weight * (np.take(field, low + 1, axis) - below)
    return field


def integrate(velocity: np.ndarray) -> np.ndarray:
    """Displacement of the flow of a stationary velocity at time 1; both in voxels, float32 (3, i, j, k)."""
    grid = np.indices(velocity.shape[1:], dtype=np.float32)
    displacement = velocity / 2**SQUARINGS
    for _ in range(SQUARINGS):
        at = grid + displacement
        displacement = displacement + np.stack(
            [ndimage.map_coordinates(d, at, order=1, mode="nearest") for d in displacement]
        )
    return displacement


def smallest_jacobian(displacement: np.ndarray) -> float:
    """Least determinant of the Jacobian of x + displacement(x), by central differences; positive: nothing folds."""
    rows = [[np.gradient(displacement[a], axis=b) + (a == b) for b in range(3)] for a in range(3)]
    (a, b, c), (d, e, f), (g, h, i) = rows
    return float((a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)).min())


def _closed(mask: np.ndarray) -> np.ndarray:
    """The mask closed over clefts up to about 2 * CLOSING_MM wide, float32; worked out at 2 mm."""
    small = np.pad(mask[::2, ::2, ::2], CLOSING_MM)
    grown = ndimage.distance_transform_edt(~small) <= CLOSING_MM / 2
    closed = ndimage.distance_transform_edt(grown) > CLOSING_MM / 2
    kept = closed[(slice(CLOSING_MM, -CLOSING_MM),) * 3].astype(np.float32)
    return enlarge(np.pad(kept, ((0, 1),) * 3), mask.shape, 2)


def _velocity(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Two scales, in coarse voxels: lobes (22 mm) and single folds (6 mm)."""
    lobes = np.stack([smooth_noise(rng, shape, 11.0) for _ in range(3)])
    folds = np.stack([smooth_noise(rng, shape, 3.2) for _ in range(3)])
    return 0.75 * lobes + 0.75 * folds


def _subject_to_atlas(rng: np.random.Generator) -> np.ndarray:
    """Affine part, shape (3, 3): the size of a six-month-old's brain, slight rotation and shear."""
    pitch, roll, yaw = np.deg2rad(rng.normal(0, (3.0, 2.0, 2.5)).clip(-7, 7))
    about_i = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    about_j = np.array([[np.cos(roll), 0, np.sin(roll)], [0, 1, 0], [-np.sin(roll), 0, np.cos(roll)]])
    about_k = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    size = (0.80 * (1 + rng.normal(0, 0.02)) * (1 + rng.normal(0, 0.02, 3))).clip(0.73, 0.87)
    shear = np.eye(3)
    shear[np.triu_indices(3, 1)] = rng.normal(0, 0.02, 3)
    return np.linalg.inv(about_i @ about_j @ about_k @ shear @ np.diag(size))


def _atlas_coordinates(matrix: np.ndarray, bend: np.ndarray, middle: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Where in the atlas each voxel of the work grid comes from, float32 (3, i, j, k).

    Written out instead of a matrix product: a BLAS may round differently with another number of threads.
    """
    moved = np.indices(WORK_SHAPE, dtype=np.float32)
    for axis in range(3):
        moved[axis] += np.float32(COARSE_MM) * enlarge(bend[axis], WORK_SHAPE, COARSE_MM) - np.float32(middle[axis])
    rows = matrix.astype(np.float32)
    start = centre.astype(np.float32)
    return np.stack([r[0] * moved[0] + r[1] * moved[1] + r[2] * moved[2] + c for r, c in zip(rows, start, strict=True)])


def _largest_part(mask: np.ndarray) -> np.ndarray:
    """The largest connected part of a mask."""
    parts, count = ndimage.label(mask)
    return np.asarray(parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])) if count > 1 else mask


def _clear_of_border(brain: np.ndarray) -> bool:
    """Whether the outermost voxels of the work grid are all air."""
    core: Any = tuple(slice(MARGIN, n - MARGIN) for n in brain.shape)
    return bool(np.count_nonzero(brain[core]) == np.count_nonzero(brain))


def _balance(scores: np.ndarray, rng: np.random.Generator) -> None:
    """Shift the scores in place until the winning tissues take their published shares, give or take the spread."""
    csf, white = (TISSUE_SHARES[t] + SUBJECT_SPREAD * rng.standard_normal() for t in (CSF, WM))
    for _ in range(6):
        margin = scores[CSF] - np.maximum(scores[GM], scores[WM])
        scores[CSF] -= np.quantile(margin, 1 - csf)
        solid = margin <= np.quantile(margin, 1 - csf)
        scores[WM] -= np.quantile((scores[WM] - scores[GM])[solid], 1 - white / (1 - csf))
