"""Leaks between the sides of a split: images of two subjects that are the same voxels, or neighbouring slices.

A scan that is trained on and, resampled, mirrored, turned or as it is, validated on inflates scores. Each image has a
*fingerprint*, small enough for thousands of subjects: the image on a coarse grid over its box (:data:`GRID` cells along
each axis, whatever its voxels), without its low frequencies, of mean 0 and length 1. Fingerprints of two images of the
same voxels correlate with nearly 1 in one of the 48 ways to turn and mirror a box; those of two persons do less, also
where images are registered. How much less depends on the data set and is measured in it: a pair has to be far beyond
what most pairs reach.

Images of one slice are compared at :data:`SLICE_GRID`. Whether they are slices of the same volumes is judged for all
together: in the natural order of ids, neighbours are much more alike than other pairs are.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from core.datasets.layouts.base import natural_key
from core.imaging.resample import resample_image

GRID, SMOOTH = 16, 4  # cells along an axis, and of the low frequencies that are left out
SLICE_GRID, SLICE_SMOOTH = 32, 8
MAX_SLICES = 2  # voxels along the shortest axis of an image that counts as a slice
FEW = 6  # images up to which it is not known how alike others of the data set are
LEAST_LIKENESS, LIKENESS_OF_FEW = 0.9, 0.993
STRICTNESS = 8.0  # a pair is this much nearer to 1 than the likeness that 90 % of the pairs do not reach
CANDIDATE = 0.9  # least correlation of the grids at half their size
SAMPLED_PAIRS = 20_000
MAX_TURNED = 4000  # images up to which all ways to turn them are compared
NEIGHBOUR_SHARE = 0.3  # of neighbours by name that are more alike than 99 % of the other pairs, in slices of volumes
MIN_NEIGHBOURS = 5

Kind = Literal["same", "resampled", "turned", "slices"]
Turn = tuple[tuple[int, ...], tuple[int, ...]]
TURNS: tuple[Turn, ...] = tuple(
    itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3))
)


@dataclass(frozen=True)
class Fingerprint:
    """What is kept of an image to recognise its voxels.

    Attributes
    ----------
    digest : str. Digest of shape and voxels; equal for equal images only.
    grid : ndarray, float16, shape (i, j, k). The coarse image; 0 for one without contrast.
    """

    digest: str
    grid: np.ndarray

    @classmethod
    def of(cls, image: np.ndarray) -> Fingerprint:
        """The fingerprint of an image, float32, shape (i, j, k)."""
        digest = hashlib.blake2b(str(image.shape).encode() + image.tobytes(), digest_size=16).hexdigest()
        thin = min(image.shape) <= MAX_SLICES
        cells, smooth = (SLICE_GRID, SLICE_SMOOTH) if thin else (GRID, SMOOTH)
        shape, low = [cells] * 3, [smooth] * 3
        if thin:
            axis = int(np.argmin(image.shape))
            shape[axis] = low[axis] = 1
        coarse = resample_image(image[None], shape_to=shape)
        rest = coarse - resample_image(resample_image(coarse, shape_to=low), shape_to=shape)
        return cls(digest, _unit(rest[0].astype(np.float64)).astype(np.float16))

    @property
    def is_slice(self) -> bool:
        return min(self.grid.shape) == 1

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        data = base64.b64encode(np.ascontiguousarray(self.grid, "<f2").tobytes()).decode()
        return {"digest": self.digest, "shape": self.grid.shape, "grid": data}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Fingerprint:
        """The inverse of :meth:`to_json`."""
        grid = np.frombuffer(base64.b64decode(data["grid"]), "<f2").reshape([int(n) for n in data["shape"]])
        return cls(str(data["digest"]), grid)


@dataclass(frozen=True)
class Leak:
    """Two subjects whose images are not independent.

    Attributes
    ----------
    kind : str. "same": equal voxels; "resampled": the same on another grid, or nearly equal; "turned": mirrored or
        turned by multiples of 90 degrees, maybe resampled too; "slices": neighbouring slices of a volume.
    subjects : tuple of str. Their two ids, in natural order; of equal images, one that is trained on comes first.
    likeness : float. Correlation of their fingerprints.
    """

    kind: Kind
    subjects: tuple[str, str]
    likeness: float = 1.0


def find_leaks(fingerprints: Mapping[str, Fingerprint], trained: Collection[str] = ()) -> list[Leak]:
    """Pairs of images that are not independent, by subject id; of more than two equal ones, each with the first.

    Parameters
    ----------
    trained : collection of str. Subjects that training may read: of equal images, the first is one of them if any is.
    """
    ids = sorted(fingerprints, key=lambda id: (id not in trained, natural_key(id)))
    first: dict[str, str] = {}
    leaks: list[Leak] = []
    distinct: list[str] = []
    for id in ids:
        other = first.setdefault(fingerprints[id].digest, id)
        if other != id:
            leaks.append(Leak("same", (other, id)))
        elif fingerprints[id].grid.any():
            distinct.append(id)
    distinct.sort(key=natural_key)
    volumes = [id for id in distinct if not fingerprints[id].is_slice]
    slices = [id for id in distinct if fingerprints[id].is_slice]
    leaks += _same_voxels(volumes, [fingerprints[id].grid for id in volumes])
    leaks += _neighbouring(slices, [fingerprints[id].grid for id in slices])
    return leaks


def _same_voxels(ids: list[str], grids: list[np.ndarray]) -> Iterator[Leak]:
    """Images of the same voxels, on other grids or turned."""
    if len(ids) < 2:
        return
    fine = np.stack([_unit(grid.astype(np.float32)) for grid in grids])
    coarse = np.stack([_halved(grid) for grid in fine])
    turns = TURNS if len(ids) <= MAX_TURNED else TURNS[:1]
    best: dict[tuple[int, int], tuple[float, int]] = {}
    for number, turn in enumerate(turns):
        turned = np.stack([_turned(grid, turn) for grid in coarse]).reshape(len(ids), -1)
        for a, b in np.argwhere(np.triu(coarse.reshape(len(ids), -1) @ turned.T >= CANDIDATE, 1)).tolist():
            likeness = float(np.vdot(fine[a], _turned(fine[b], turn)))
            if likeness > best.get((a, b), (0.0, 0))[0]:
                best[a, b] = likeness, number
    least = _least_likeness(fine)
    for (a, b), (likeness, number) in sorted(best.items()):
        if likeness >= least:
            yield Leak("turned" if number else "resampled", (ids[a], ids[b]), likeness)


def _least_likeness(grids: np.ndarray) -> float:
    """Correlation from which on two images are the same voxels, by what is usual in the data set."""
    count = len(grids)
    if count <= FEW:
        return LIKENESS_OF_FEW
    pairs = np.array(np.triu_indices(count, 1)).T if count <= 200 else _sample(count)
    usual = float(np.quantile(_likenesses(grids, pairs), 0.9))
    return max(LEAST_LIKENESS, 1 - (1 - usual) / STRICTNESS)


def _neighbouring(ids: list[str], grids: list[np.ndarray]) -> Iterator[Leak]:
    """Neighbours by name that are slices of one volume, where the images of the data set are such slices."""
    if len(ids) <= 2 * MIN_NEIGHBOURS or len({grid.shape for grid in grids}) > 1:
        return
    units = np.stack([_unit(grid.astype(np.float32)) for grid in grids])
    pairs = _sample(len(ids))
    far = pairs[np.abs(pairs[:, 0] - pairs[:, 1]) > MIN_NEIGHBOURS]
    least = float(np.quantile(_likenesses(units, far), 0.99))
    places = np.arange(len(ids) - 1)
    likenesses = _likenesses(units, np.stack([places, places + 1], axis=1))
    alike = likenesses > least
    if alike.sum() < max(MIN_NEIGHBOURS, NEIGHBOUR_SHARE * len(places)):
        return
    for place in places[alike].tolist():
        yield Leak("slices", (ids[place], ids[place + 1]), float(likenesses[place]))


def _sample(count: int) -> np.ndarray:
    """Pairs of different indices, always the same ones; shape (pair, 2)."""
    pairs = np.random.default_rng(0).integers(count, size=(SAMPLED_PAIRS, 2))
    return np.asarray(pairs[pairs[:, 0] != pairs[:, 1]])


def _likenesses(units: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    flat = units.reshape(len(units), -1)
    parts = np.array_split(pairs, max(1, len(pairs) // 1000))
    return np.concatenate([np.einsum("pv,pv->p", flat[part[:, 0]], flat[part[:, 1]]) for part in parts])


def _turned(grid: np.ndarray, turn: Turn) -> np.ndarray:
    order, steps = turn
    i, j, k = (slice(None, None, step) for step in steps)
    return grid.transpose(order)[i, j, k]


def _halved(grid: np.ndarray) -> np.ndarray:
    """A grid of half the cells along each axis, of length 1."""
    half = GRID // 2
    return _unit(grid.reshape(half, 2, half, 2, half, 2).mean(axis=(1, 3, 5)))


def _unit(values: np.ndarray) -> np.ndarray:
    """Values of mean 0 and length 1; zeros where there is no contrast."""
    values = values - values.mean()
    length = float(np.linalg.norm(values))
    return values / length if length > 0 else np.zeros_like(values)
