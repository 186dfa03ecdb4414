"""Regions: unions of classes that may overlap, such as whole tumour and tumour core, and the label maps made of them.

A network with sigmoid outputs has one channel per region. Its label map is painted as nnU-Net does: from the first
region to the last, the voxels whose probability is above 0.5 get the class of the region (``regions_class_order``), so
that later regions win. Works without torch; :mod:`core.inference.outputs` paints on the device.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.errors import ConfigError, DatasetError

INSIDE = 0.5  # probability above which a voxel is in a region
NOT_DERIVED = (
    "the order in which the regions are painted is not stated and does not follow from them (each needs one class that "
    "no smaller region holds): state regions_class_order"
)


@dataclass(frozen=True)
class Region:
    """A union of classes.

    Attributes
    ----------
    name : str.
    classes : tuple of str. Names of its classes, none of which is the background.
    painted : str. Class that its voxels get in the label map; empty where no label map is made of the regions.
    """

    name: str
    classes: tuple[str, ...]
    painted: str = ""


@dataclass(frozen=True)
class RegionSpace:
    """The regions over the classes of a label space, in the order in which they are painted.

    Attributes
    ----------
    regions : tuple of Region. The output channels of a network that is trained on regions.
    class_names : tuple of str. Classes in index order, background first.

    Raises
    ------
    DatasetError
        If there is no region, names repeat, a class is unknown or the background, or a region is named as a class that
        it is not.
    """

    regions: tuple[Region, ...]
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        names = self.names
        if not names or len(set(names)) < len(names):
            raise DatasetError(f"regions: expected regions with different names, got {', '.join(names) or 'none'}")
        foreground = self.class_names[1:]
        for region in self.regions:
            listed = (*region.classes, *([region.painted] if region.painted else []))
            unknown = [name for name in listed if name not in foreground]
            if unknown or not region.classes:
                raise DatasetError(
                    f"regions: expected classes out of {', '.join(foreground)} in {region.name!r}, got "
                    f"{unknown[0] if unknown else 'none'}"
                )
            if region.name in self.class_names and region.classes != (region.name,):
                raise DatasetError(
                    f"regions: expected another name than that of a class for the union of "
                    f"{', '.join(region.classes)}, got {region.name!r}; rename the region"
                )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the regions."""
        return tuple(region.name for region in self.regions)

    @property
    def unions(self) -> RegionSpace | None:
        """The regions that are not a class under its own name, which has scores anyway; ``None`` if there are none."""
        unions = tuple(region for region in self.regions if region.name not in self.class_names)
        return RegionSpace(unions, self.class_names) if unions else None

    @property
    def members(self) -> tuple[tuple[int, ...], ...]:
        """Indices of the classes of each region."""
        return tuple(tuple(sorted(self.class_names.index(c) for c in r.classes)) for r in self.regions)

    @property
    def painted(self) -> tuple[int, ...]:
        """Index of the class that each region is painted with; empty where no label map is made of them."""
        if not all(region.painted for region in self.regions):
            return ()
        return tuple(self.class_names.index(region.painted) for region in self.regions)

    @property
    def lost_classes(self) -> tuple[str, ...]:
        """Classes that label maps painted from perfect regions do not have where they should."""
        lost = []
        for index, name in list(enumerate(self.class_names))[1:]:
            values = [p for p, members in zip(self.painted, self.members, strict=True) if index in members]
            if not values or values[-1] != index:
                lost.append(name)
        return tuple(lost)

    def to_labels(self, probabilities: np.ndarray) -> np.ndarray:
        """The label map of region probabilities, by nnU-Net's rule.

        Parameters
        ----------
        probabilities : ndarray, floating, shape (region, i, j, k). 0 to 1.

        Returns
        -------
        ndarray, uint8, shape (i, j, k). Class indices.
        """
        labels = np.zeros(probabilities.shape[1:], np.uint8)
        for probability, index in zip(probabilities, self.painted, strict=True):
            labels[probability > INSIDE] = index
        return labels

    def swapped_channels(self, swapped_classes: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
        """Pairs of regions that left-right mirroring exchanges.

        Parameters
        ----------
        swapped_classes : sequence of (int, int). Pairs of class indices that it exchanges.

        Raises
        ------
        ConfigError
            If the mirror image of a region is no region.
        """
        partner = {a: b for pair in swapped_classes for a, b in (pair, pair[::-1])}
        members = list(self.members)
        pairs = set()
        for channel, classes in enumerate(members):
            mirrored = tuple(sorted(partner.get(c, c) for c in classes))
            if mirrored not in members:
                raise ConfigError(
                    f"mirror: expected the mirror image of each region to be a region, got none for "
                    f"{self.names[channel]}; leave mirroring out of inference (mirror false), or train on labels"
                )
            other = members.index(mirrored)
            if other != channel:
                pairs.add((min(channel, other), max(channel, other)))
        return tuple(sorted(pairs))

    def to_json(self) -> list[dict[str, Any]]:
        """Plain values."""
        return [{"name": r.name, "classes": list(r.classes), "painted": r.painted} for r in self.regions]

    @classmethod
    def from_json(cls, data: Sequence[Mapping[str, Any]], class_names: Sequence[str]) -> RegionSpace:
        """The inverse of :meth:`to_json`.

        Raises
        ------
        DatasetError
            If the data is not of this form, or the regions are not valid.
        """
        try:
            regions = tuple(
                Region(str(r["name"]), tuple(str(c) for c in r["classes"]), str(r.get("painted", ""))) for r in data
            )
        except (AttributeError, KeyError, TypeError) as error:
            raise DatasetError(f"regions: expected a list of {{name, classes, painted}}, got {data!r}") from error
        return cls(regions, tuple(class_names))


def region_space(
    regions: Mapping[str, Sequence[str]], order: Mapping[str, str], class_names: Sequence[str]
) -> RegionSpace | None:
    """The regions of a data set over the classes of a run; ``None`` where there are none.

    A class in no region becomes a region of its own. Without a stated order, larger regions are painted first, each
    with the one of its classes that no later region holds.

    Parameters
    ----------
    regions : mapping. Names of the classes of each region. A region of which a class is left out is left out too.
    order : mapping. Class that each region is painted with, as the data set states it; empty: to be derived.
    class_names : sequence of str. Classes in index order, background first.

    Raises
    ------
    DatasetError
        As :class:`RegionSpace`.
    """
    known = {name: tuple(classes) for name, classes in regions.items() if set(classes) <= set(class_names)}
    if not known:
        return None
    covered = {name for classes in known.values() for name in classes}
    alone = [name for name in class_names[1:] if name not in covered]
    for name in alone:
        known.setdefault(name, (name,))
    painted = {**order, **{name: name for name in alone}} if order else {}
    if order and not all(painted.get(name) in class_names[1:] for name in known):
        painted = {}
    if not painted:
        known = dict(sorted(known.items(), key=lambda item: -len(item[1])))
        painted = _derive_order(known)
    found = (Region(name, classes, painted.get(name, "")) for name, classes in known.items())
    return RegionSpace(tuple(found), tuple(class_names))


def _derive_order(regions: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """The class of each region that no later one holds; empty unless that is exactly one for each."""
    names, painted = list(regions), {}
    for number, name in enumerate(names):
        later = {c for other in names[number + 1 :] for c in regions[other]}
        own = [c for c in regions[name] if c not in later]
        if len(own) != 1:
            return {}
        painted[name] = own[0]
    return painted
