"""Conversion of nnU-Net's regions, which overlap, to classes that do not overlap and to unions of those."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.errors import DatasetError
from core.labels import is_ignore_name

ORDER = "regions_class_order"


@dataclass(frozen=True)
class SplitLabels:
    """Labels of nnU-Net in which no two classes overlap.

    Attributes
    ----------
    content : dict. The content of ``dataset.json`` with a class for each label value.
    regions : dict. Names of the classes of each region, in the order of the network's channels; empty where no list is
        among the labels.
    order : dict. Name of the class that each region is painted with; empty where it is not stated.
    notes : tuple of str. What a person should know.
    """

    content: dict[str, Any]
    regions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    order: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def split_regions(file: Path, content: Mapping[str, Any]) -> SplitLabels:
    """Labels with a class for each value, and the regions that the stated labels are.

    A value is named by the smallest region that holds it: by its name where it holds this value alone, else by its
    name and "only". Labels without lists stay as they are.

    Parameters
    ----------
    file : Path. The ``dataset.json``, which errors name.
    content : mapping. Its content.

    Raises
    ------
    DatasetError
        If a list under ``labels`` holds other things than whole numbers or the background too, or
        ``regions_class_order`` is not one of the values for each region.
    """
    labels = content.get("labels")
    if not isinstance(labels, Mapping) or not any(isinstance(v, list) for v in labels.values()):
        return SplitLabels(dict(content))
    values: dict[str, list[int]] = {}
    for name, stated in labels.items():
        entries = stated if isinstance(stated, list) else [stated]
        if not entries or not all(isinstance(v, int) and not isinstance(v, bool) for v in entries):
            raise DatasetError(
                f"{file}: expected whole numbers, or lists of them, under 'labels', got {name!r}: {stated}"
            )
        values[str(name)] = sorted(set(entries))
    names = {value: _name(value, values) for value in sorted({v for vs in values.values() for v in vs})}
    classes = {name: value for value, name in names.items()}
    regions = {n: vs for n, vs in values.items() if vs != [0] and not is_ignore_name(n)}
    if mixed := [name for name, vs in regions.items() if 0 in vs]:
        raise DatasetError(
            f"{file}: expected regions without the value 0, the background, under 'labels'; got {mixed[0]!r}: "
            f"{regions[mixed[0]]}"
        )
    order = _order(file, content.get(ORDER), regions)
    unions = [name for name, vs in regions.items() if len(vs) > 1]
    note = (
        f"the regions {', '.join(unions)} consist of the classes {', '.join(n for v, n in names.items() if v)} "
        "(--targets: which of the two a network learns)"
    )
    return SplitLabels(
        {**content, "labels": classes},
        {name: tuple(names[v] for v in vs) for name, vs in regions.items()},
        {name: names[value] for name, value in zip(regions, order, strict=False)},
        (note,) if unions else (),
    )


def _order(file: Path, stated: Any, regions: Mapping[str, Sequence[int]]) -> list[int]:
    """``regions_class_order``: the value that each region is painted with; empty where it is not stated."""
    if stated is None:
        return []
    values = {v for vs in regions.values() for v in vs}
    entries = stated if isinstance(stated, list) else []
    if len(entries) != len(regions) or not all(type(v) is int and v in values for v in entries):
        raise DatasetError(
            f"{file}: expected one of the values {sorted(values)} under '{ORDER}' for each of the regions "
            f"{', '.join(regions)}, got {stated}"
        )
    return entries


def _name(value: int, values: Mapping[str, list[int]]) -> str:
    """The name of the class of one value."""
    holding = sorted((len(vs), name) for name, vs in values.items() if value in vs)
    size, name = holding[0]
    if size == 1:
        return name
    alone = [v for v in values[name] if min(len(vs) for vs in values.values() if v in vs) == size]
    return f"{name} only" if alone == [value] else f"{name} {value}"
