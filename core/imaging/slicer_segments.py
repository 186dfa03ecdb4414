"""Segments of a 3D Slicer segmentation (.seg.nrrd): their values, names and colours, which its NRRD header lists."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from core.errors import VolumeError
from core.imaging.text_header import nrrd_key_values

SUFFIXES = (".nrrd", ".nhdr")


@dataclass(frozen=True)
class SlicerSegment:
    """One segment.

    Attributes
    ----------
    value : int. Value of its voxels in its layer.
    layer : int. Channel of the file; segments that overlap are in different ones.
    name : str.
    colour : str. ``#rrggbb``; empty if none is stated.
    """

    value: int
    layer: int
    name: str
    colour: str = ""


def read_slicer_segments(path: Path) -> tuple[SlicerSegment, ...]:
    """The segments of a file in the order of their numbers; empty for a file that is no such segmentation.

    Files without values and layers are of versions that wrote a channel of 0 and 1 for each segment.
    """
    if not path.name.lower().endswith(SUFFIXES):
        return ()
    try:
        fields = nrrd_key_values(path)
    except VolumeError:
        return ()
    found = (re.fullmatch(r"Segment(\d+)_Name", key) for key in fields)
    numbers = sorted({int(match[1]) for match in found if match})
    return tuple(_segment(fields, n) for n in numbers)


def _segment(fields: dict[str, str], number: int) -> SlicerSegment:
    def whole(field: str, default: int) -> int:
        text = fields.get(f"Segment{number}_{field}", "")
        return int(text) if re.fullmatch(r"-?\d{1,9}", text) else default

    colour = ""
    channels = fields.get(f"Segment{number}_Color", "").split()
    if len(channels) == 3 and all(re.fullmatch(r"[\d.]+(e-?\d+)?", c) for c in channels):
        shares = [min(1.0, float(c)) for c in channels]
        colour = "#" + "".join(f"{round(255 * share):02x}" for share in shares)
    return SlicerSegment(whole("LabelValue", 1), whole("Layer", number), fields[f"Segment{number}_Name"], colour)
