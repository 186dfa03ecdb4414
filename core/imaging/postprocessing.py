"""Postprocessing of label maps per class: the largest component, components above a volume, filled holes.

A component is a set of voxels of one class that touch by a face, an edge or a corner (26 neighbours), as in nnU-Net. A
removed component becomes background. A hole is a set of background voxels, joined by faces, that voxels of one class
alone enclose; a space between two classes, or one that is open to the border of the volume, is no hole. The components
of all classes are removed before holes are filled, so an island of another class that was removed is filled too. The
order of the classes has no influence.

At import the module needs only numpy; scipy is imported on first use.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from core.errors import ConfigError
from core.formatting import format_list

MAX_VOLUME_ML = 1e6
VOLUME_TOLERANCE = 1e-6  # relative: of voxel sizes in float32, and of rounding
Box = tuple[slice, ...]


@dataclass(frozen=True)
class ClassRule:
    """Postprocessing of one class.

    Attributes
    ----------
    largest : bool. Whether only the largest component is kept.
    minimum_ml : float. Components below this volume are removed, in ml; 0 removes none.
    fill_holes : bool. Whether holes are filled.

    Raises
    ------
    ConfigError
        If a value is not of its type, or the volume is negative, not finite or above 1,000 litres.
    """

    largest: bool = False
    minimum_ml: float = 0.0
    fill_holes: bool = False

    def __post_init__(self) -> None:
        for name in ("largest", "fill_holes"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name}: expected true or false, got {getattr(self, name)!r}")
        volume = self.minimum_ml
        number = isinstance(volume, (int, float)) and not isinstance(volume, bool) and math.isfinite(volume)
        if not number or not 0 <= volume <= MAX_VOLUME_ML:
            raise ConfigError(f"minimum_ml: expected a volume from 0 to {MAX_VOLUME_ML:g} ml, got {volume!r}")
        object.__setattr__(self, "minimum_ml", float(volume))

    def __bool__(self) -> bool:
        return self.largest or self.minimum_ml > 0 or self.fill_holes

    def keeps(self, volumes_ml: np.ndarray) -> np.ndarray:
        """Whether each component is kept by its volume, bool, shape (component,); of equally large ones the first."""
        kept = volumes_ml >= self.minimum_ml * (1 - VOLUME_TOLERANCE)
        if self.largest and len(volumes_ml):
            kept &= np.arange(len(volumes_ml)) == np.argmax(volumes_ml)
        return kept

    @property
    def text(self) -> str:
        """In words; empty if nothing is changed."""
        parts = [
            "largest component" if self.largest else "",
            f"components of at least {self.minimum_ml:.3g} ml" if self.minimum_ml else "",
            "holes filled" if self.fill_holes else "",
        ]
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True)
class Postprocessing:
    """Postprocessing of label maps.

    Attributes
    ----------
    rules : mapping of ClassRule. By class name; classes that stay as they are need no rule.

    Raises
    ------
    ConfigError
        If the rules are not a mapping of text to ClassRule.
    """

    rules: Mapping[str, ClassRule] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, rule in self.rules.items():
            if not isinstance(name, str) or not isinstance(rule, ClassRule):
                raise ConfigError(f"postprocessing: expected a rule per class name, got {name!r}: {rule!r}")
        object.__setattr__(self, "rules", {name: rule for name, rule in self.rules.items() if rule})

    def __bool__(self) -> bool:
        return bool(self.rules)

    @classmethod
    def from_json(cls, data: Any) -> Postprocessing:
        """The inverse of :meth:`to_json`.

        Raises
        ------
        ConfigError
            If the data is not of this form.
        """
        if not isinstance(data, Mapping):
            raise ConfigError(f"postprocessing: expected a rule per class name, got {data!r}")
        try:
            return cls({name: ClassRule(**rule) for name, rule in data.items()})
        except TypeError as error:
            raise ConfigError(f"postprocessing: expected largest, minimum_ml and fill_holes ({error})") from error

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {name: dict(vars(rule)) for name, rule in self.rules.items()}

    @property
    def text(self) -> str:
        """In words, class by class; "none" without rules."""
        return "; ".join(f"{name}: {rule.text}" for name, rule in self.rules.items()) or "none"

    def check(self, classes: Sequence[str]) -> None:
        """Refuse rules for classes that a network does not have.

        Parameters
        ----------
        classes : sequence of str. Class names in index order, background first.

        Raises
        ------
        ConfigError
            If there is a rule for the background or an unknown class.
        """
        unknown = [name for name in self.rules if name not in classes[1:]]
        if unknown:
            raise ConfigError(f"postprocessing: expected classes out of {format_list(classes[1:])}; got {unknown[0]!r}")

    def __call__(self, labels: np.ndarray, voxel_ml: float, classes: Sequence[str]) -> np.ndarray:
        """Apply the rules.

        Parameters
        ----------
        labels : ndarray, uint8, shape (i, j, k). Class indices; not changed.
        voxel_ml : float. Volume of a voxel in ml.
        classes : sequence of str. Class names in index order, background first.

        Returns
        -------
        ndarray, uint8, shape (i, j, k). The array itself where there are no rules.

        Raises
        ------
        ConfigError
            If there is a rule for an unknown class.
        """
        self.check(classes)
        if not self.rules:
            return labels
        result = labels.copy()
        indices = {classes.index(name): rule for name, rule in self.rules.items()}
        for index, rule in indices.items():
            if rule.largest or rule.minimum_ml:
                _remove_components(result, labels, index, rule, voxel_ml)
        filled = {index: holes(result, index) for index, rule in indices.items() if rule.fill_holes}
        for index, found in filled.items():
            if found is not None:
                box, mask = found
                result[box][mask] = index
        return result


@dataclass(frozen=True)
class Components:
    """Components of one class of a label map.

    Attributes
    ----------
    box : tuple of slice. Bounding box of the class.
    numbers : ndarray, int32, shape of the box. Number of the component of each voxel, from 1; 0 elsewhere.
    sizes : ndarray, int64, shape (component,). Voxels of each component.
    """

    box: Box
    numbers: np.ndarray
    sizes: np.ndarray


def components(labels: np.ndarray, index: int) -> Components | None:
    """The components of a class; ``None`` if the class is absent.

    Parameters
    ----------
    labels : ndarray, integer, shape (i, j, k). Class indices.
    index : int. The class.
    """
    from scipy import ndimage

    box = _bounding_box(labels == index)
    if box is None:
        return None
    numbers, count = ndimage.label(labels[box] == index, structure=np.ones((3, 3, 3)))
    return Components(box, numbers, np.bincount(numbers.ravel(), minlength=count + 1)[1:])


def holes(labels: np.ndarray, index: int) -> tuple[Box, np.ndarray] | None:
    """The holes of a class.

    Parameters
    ----------
    labels : ndarray, integer, shape (i, j, k). Class indices.
    index : int. The class.

    Returns
    -------
    box : tuple of slice. Bounding box of the class.
    mask : ndarray, bool, shape of the box. Whether a voxel is in a hole.
        ``None`` instead of both if there is none.
    """
    from scipy import ndimage

    box = _bounding_box(labels == index)
    if box is None:
        return None
    inside = labels[box]
    mask = inside == index
    numbers, count = ndimage.label(ndimage.binary_fill_holes(mask) & ~mask)
    shared = np.zeros(count + 1, bool)  # with another class
    shared[numbers[inside != 0]] = True
    shared[0] = True
    filled = ~shared[numbers]
    return (box, filled) if filled.any() else None


def _remove_components(result: np.ndarray, labels: np.ndarray, index: int, rule: ClassRule, voxel_ml: float) -> None:
    found = components(labels, index)
    if found is None:
        return
    removed = np.concatenate(([False], ~rule.keeps(found.sizes * voxel_ml)))
    result[found.box][removed[found.numbers]] = 0


def _bounding_box(mask: np.ndarray) -> Box | None:
    """Bounding box of a mask; ``None`` if it is empty."""
    from scipy import ndimage

    return ndimage.find_objects(mask.view(np.uint8), max_label=1)[0]
