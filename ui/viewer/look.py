"""The colours of classes that a look of the viewer names, as ``look.js`` writes them into the address of a page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import unquote

from core.colours import is_colour


def class_colours(look: str) -> dict[str, str]:
    """Colours ``#rrggbb`` that a person has given to classes, by name; what cannot be read is left out.

    Parameters
    ----------
    look : str. :attr:`ui.viewer.component.Settled.look`.
    """
    parts = dict(part.split(":", 1) for part in look.split(";") if ":" in part)
    entries = (unquote(entry).rpartition("=") for entry in parts.get("palette", "").split(","))
    return {name: f"#{colour}" for name, _, colour in entries if name and is_colour(f"#{colour}")}


def recoloured(classes: Iterable[Mapping[str, str]], look: str) -> list[dict[str, str]]:
    """``[{"name", "colour"}]`` of classes, with the colours of a look in place of their own ones."""
    chosen = class_colours(look)
    return [{**c, "colour": chosen.get(c["name"], c["colour"])} for c in classes]
