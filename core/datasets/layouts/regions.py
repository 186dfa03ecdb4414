"""Conversion of nnU-Net's regions, which overlap, to classes that do not overlap and to unions of those."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.errors import DatasetError

Regions = dict[str, tuple[str, ...]]


def split_regions(file: Path, content: Mapping[str, Any]) -> tuple[dict[str, Any], Regions, tuple[str, ...]]:
    """The content with a class for each label value, the names of the classes of each region, and a note.

    A value is named by the smallest region that holds it: by its name where it holds this value alone, else by its
    name and "only". Labels without lists stay as they are.

    Parameters
    ----------
    file : Path. The ``dataset.json``, which errors name.
    content : mapping. Its content.

    Raises
    ------
    DatasetError
        If a list under ``labels`` holds other things than whole numbers.
    """
    labels = content.get("labels")
    if not isinstance(labels, Mapping) or not any(isinstance(v, list) for v in labels.values()):
        return dict(content), {}, ()
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
    regions = {name: tuple(names[v] for v in vs) for name, vs in values.items() if len(vs) > 1}
    note = (
        f"the regions {', '.join(regions)} overlap: the classes {', '.join(n for v, n in names.items() if v)} are "
        "trained instead, of which they consist"
    )
    return {**content, "labels": classes}, regions, (note,)


def _name(value: int, values: Mapping[str, list[int]]) -> str:
    """The name of the class of one value."""
    holding = sorted((len(vs), name) for name, vs in values.items() if value in vs)
    size, name = holding[0]
    if size == 1:
        return name
    alone = [v for v in values[name] if min(len(vs) for vs in values.values() if v in vs) == size]
    return f"{name} only" if alone == [value] else f"{name} {value}"
