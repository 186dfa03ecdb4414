"""Regions of a description, unions of its classes: read from texts and rows, and kept right where classes change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.datasets.layouts.regions import ORDER
from core.errors import DatasetError
from core.labels import is_ignore_name
from core.regions import Region, RegionSpace

REGIONS = "regions"
Classes = Mapping[str, Any]  # values of each class, one or several, by its name


@dataclass(frozen=True)
class FollowedClasses:
    """What becomes of a description whose classes change.

    Attributes
    ----------
    changes : dict. The keys ``regions``, ``regions_class_order`` and ``ignore``, of those that it has; ``None`` for one
        that is removed.
    lost : tuple of str. Names of regions that cannot be made of whole classes any more.
    """

    changes: dict[str, Any]
    lost: tuple[str, ...] = ()


def follow_classes(content: Mapping[str, Any], before: Classes, after: Classes) -> FollowedClasses:
    """What becomes of a description whose classes change.

    A region keeps its voxels: it consists of the classes that hold the values of its earlier ones now. Values that
    are background, left out, or in no class any more leave the region. A region of classes of which one holds other
    values too is lost. A region that is one class, and named as it, is renamed with it, and so is the ignored class.

    Parameters
    ----------
    content : mapping. The description.
    before, after : mapping. Its classes so far, and from now on.
    """
    changes: dict[str, Any] = {}
    values_of = {name: set(_values(values)) for name, values in before.items()}
    ignore = str(content.get("ignore") or "")
    if ignore and ignore not in after:
        holders = [name for name, values in after.items() if values_of.get(ignore, set()) & set(_values(values))]
        ignore = holders[0] if len(holders) == 1 else ""
        changes["ignore"] = ignore or None
    regions: Mapping[str, Sequence[str]] = content.get(REGIONS) or {}
    if not regions:
        return FollowedClasses(changes)
    now = {name: set(_values(after[name])) for name in foreground(after, ignore)}
    order = dict(zip(regions, _listed(content.get(ORDER)), strict=False))
    of_region: dict[str, list[str]] = {}
    painted: list[str] = []
    lost: list[str] = []
    for region, names in regions.items():
        values = set[Any]().union(*(values_of.get(name, set()) for name in names))
        classes = [name for name, own in now.items() if own & values]
        if not classes or any(not now[name] <= values for name in classes):
            lost.append(region)
            continue
        of_region[region] = classes
        painted += [name for name in classes if now[name] & values_of.get(order.get(region, ""), set())][:1]
    new_names = {r: c[0] if [r] == list(regions[r]) and len(c) == 1 else r for r, c in of_region.items()}
    are_different = len(set(new_names.values())) == len(new_names)  # else a region would take the place of another one
    kept = {new if are_different else region: of_region[region] for region, new in new_names.items()}
    changes[REGIONS] = kept or None
    changes[ORDER] = painted if kept and len(painted) == len(kept) else None
    return FollowedClasses(changes, tuple(lost))


def foreground(classes: Classes, ignore: str = "") -> list[str]:
    """Names of the classes that regions may consist of: without the background and those that are left out."""
    names = [name for name in classes if 0 not in _values(classes[name]) and name != "background"]
    return [name for name in names if name != ignore and (ignore or not is_ignore_name(name))]


def parse_regions(texts: Sequence[str]) -> dict[str, list[str]] | None:
    """Regions of texts such as "whole tumour=core,oedema"; ``None`` for the text "none": there are none.

    Raises
    ------
    DatasetError
        If a text is not of this form, or a name stands twice.
    """
    if [text.strip().casefold() for text in texts] == ["none"]:
        return None
    regions: dict[str, list[str]] = {}
    for text in texts:
        name, equals, listed = text.partition("=")
        classes = [c.strip() for c in listed.split(",")]
        if not equals or not name.strip() or not all(classes) or name.strip() in regions:
            raise DatasetError(f"regions: expected NAME=CLASS,CLASS, each name once, or none; got {text!r}")
        regions[name.strip()] = list(dict.fromkeys(classes))
    return regions


def region_rows(content: Mapping[str, Any]) -> list[dict[str, str]]:
    """The regions of a description as rows of name, classes and painted class, as texts."""
    regions = content.get(REGIONS) or {}
    painted = dict(zip(regions, _listed(content.get(ORDER)), strict=False))
    return [
        {"name": name, "classes": ", ".join(classes), "painted": painted.get(name, "")}
        for name, classes in regions.items()
    ]


def parse_region_rows(rows: Sequence[Mapping[str, Any]], classes: Classes, ignore: str = "") -> dict[str, Any]:
    """The inverse of :func:`region_rows`: the two keys of a description, empty where there are no regions.

    Raises
    ------
    DatasetError
        If a class is unknown, a name stands twice or is that of another class, or only some rows state the painted
        class.
    """
    filled = [
        {key: str(row.get(key) or "").strip() for key in ("name", "classes", "painted")}
        for row in rows
        if str(row.get("name") or "").strip() and str(row.get("classes") or "").strip()
    ]
    regions = parse_regions([f"{row['name']}={row['classes']}" for row in filled]) if filled else None
    if not regions:
        return {}
    painted = [row["painted"] for row in filled if row["painted"]]
    if painted and len(painted) < len(filled):
        raise DatasetError("regions: expected the painted class of every region or of none, got it of some")
    check_regions(regions, painted, classes, ignore)
    return {REGIONS: regions, **({ORDER: painted} if painted else {})}


def check_regions(
    regions: Mapping[str, Sequence[str]], painted: Sequence[str], classes: Classes, ignore: str = ""
) -> None:
    """Refuse regions that no network can be trained on.

    Raises
    ------
    DatasetError
        As :class:`core.regions.RegionSpace`.
    """
    order = [*painted, *[""] * len(regions)]
    found = (Region(name, tuple(names), order[number]) for number, (name, names) in enumerate(regions.items()))
    RegionSpace(tuple(found), ("background", *foreground(classes, ignore)))


def _values(values: Any) -> tuple[Any, ...]:
    return tuple(values) if isinstance(values, list | tuple) else (values,)


def _listed(value: Any) -> list[str]:
    return [text for text in ([value] if isinstance(value, str) else value or []) if text.strip()]
