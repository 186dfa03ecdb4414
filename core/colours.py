"""Display colours of classes: a palette of ten, continued by computed colours that are far from all others.

A computed colour is the candidate that is farthest from the colours in use, in the Oklab space (Ottosson 2020) as seen
with normal vision and, at a lower weight, with red, green and blue blindness (Machado et al. 2009); colours of the
classes next to it in the list keep a distance of their own. Candidates are readable on black, on white and over a grey
image: neither too dark nor too light, and not grey.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

import numpy as np

BACKGROUND_COLOUR = "#8b909a"
IGNORE_COLOUR = "#c3c7cf"  # of the hatching over voxels that are left out

# Any two are at least PALETTE_DISTANCE apart in Oklab for each kind of vision: a search over readable colours beside
# the first four found no ten with more than 0.102. Few classes are farther apart: four 0.116, six 0.108. Each but the
# first four is the one of the remaining colours that is farthest from those before it.
PALETTE = (
    "#4a90d9",  # blue: CSF
    "#00c8a0",  # green: GM
    "#e0b000",  # yellow: WM
    "#d55e00",  # vermilion
    "#b6aaff",  # lavender
    "#a138a2",  # purple
    "#a87795",  # mauve
    "#b43102",  # brick red
    "#7a54dd",  # violet
    "#006e5c",  # dark teal
)
PALETTE_DISTANCE = 0.1

# Of training runs: with normal vision far from each other and from all colours above; readable on black and on white.
RUN_PALETTE = ("#c9006b", "#005ed7", "#798600", "#865ea1", "#ae6bff", "#f2515e", "#d75ebc", "#007928")

GRID_STEPS = 20  # candidates per primary
LIGHTNESS = (0.50, 0.82)  # of a candidate, in Oklab: 0 black, 1 white
MIN_CHROMA = 0.07  # of a candidate, in Oklab
MIN_DISTANCE = 0.05  # in Oklab: below it a colour of the palette counts as used
NEIGHBOUR_DISTANCE = 0.2  # in Oklab, from the classes next to it in the list
DICHROMAT_WEIGHT = 1.6  # of distances as seen by dichromats, which are smaller
VISIONS = ("normal", "red-blind", "green-blind", "blue-blind")

_RED_BLIND = ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998))
_GREEN_BLIND = ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881))
_BLUE_BLIND = ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900))
_RGB_TO_LMS = (
    (0.4122214708, 0.5363325363, 0.0514459929),
    (0.2119034982, 0.6806995451, 0.1073969566),
    (0.0883024619, 0.2817188376, 0.6299787005),
)
_LMS_TO_OKLAB = (
    (0.2104542553, 0.7936177850, -0.0040720468),
    (1.9779984951, -2.4285922050, 0.4505937099),
    (0.0259040371, 0.7827717662, -0.8086757660),
)


def is_colour(text: str) -> bool:
    """Whether a text is ``#rrggbb``."""
    return bool(re.fullmatch("#[0-9a-fA-F]{6}", text))


def rgb(colour: str) -> tuple[int, int, int]:
    """Red, green and blue, 0 to 255, of ``#rrggbb``."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


@functools.lru_cache(64)
def complete(colours: tuple[str | None, ...]) -> tuple[str, ...]:
    """The colours of a list of classes, where each class without one gets one that no other class has.

    Unused colours of the palette come first, in its order, then computed ones.

    Parameters
    ----------
    colours : tuple of str or None. ``#rrggbb`` of each class, ``None`` where it has none.
    """
    given = [colour.lower() for colour in colours if colour is not None]
    free = iter(_free_palette(given))
    distance: np.ndarray | None = None  # of each candidate from the colours in use, once the palette is used up
    completed: list[str] = []
    for number, colour in enumerate(colours):
        if colour is None:
            colour = next(free, None)
        if colour is None:
            if distance is None:
                distance = np.min([_distances(c) for c in {*given, *completed, *PALETTE}], axis=0)
            neighbours = [c for c in (*completed[-2:], *colours[number + 1 : number + 2]) if c is not None]
            colour = _farthest(distance, neighbours)
            distance = np.minimum(distance, _distances(colour))
        completed.append(colour)
    return tuple(completed)


def run_colours(of_classes: Sequence[str]) -> tuple[str, ...]:
    """``RUN_PALETTE``, its colours that look like that of a class last.

    Parameters
    ----------
    of_classes : sequence of str. ``#rrggbb`` of the classes of the runs.
    """
    return tuple(sorted(RUN_PALETTE, key=lambda c: any(_difference(c, other) < MIN_DISTANCE for other in of_classes)))


def _free_palette(used: Sequence[str]) -> list[str]:
    """Colours of the palette that differ clearly from the colours in use."""
    return [c for c in PALETTE if all(_difference(c, other) >= MIN_DISTANCE for other in used)]


def _difference(first: str, second: str) -> float:
    """Distance of two colours in Oklab."""
    seen = _seen([rgb(first), rgb(second)])[0]
    return float(np.linalg.norm(seen[0] - seen[1]))


def _farthest(distance: np.ndarray, neighbours: Sequence[str]) -> str:
    """The candidate with the largest distance, among those that are far from their neighbours in the list."""
    candidates, seen = _candidates()
    near = _seen([rgb(colour) for colour in neighbours])[0]
    apart = np.linalg.norm(seen[0][:, None] - near, axis=2).min(axis=1, initial=np.inf)
    return candidates[int((distance - (apart < NEIGHBOUR_DISTANCE)).argmax())]


def _distances(colour: str) -> np.ndarray:
    """Distance of each candidate from a colour: the smallest of the four kinds of vision."""
    weights = np.array([1.0] + [DICHROMAT_WEIGHT] * (len(VISIONS) - 1))[:, None]
    apart = np.linalg.norm(_candidates()[1] - _seen([rgb(colour)]), axis=2)
    return np.asarray((weights * apart).min(axis=0))


@functools.cache
def _candidates() -> tuple[tuple[str, ...], np.ndarray]:
    """Colours ``#rrggbb``, and what each looks like: Oklab, shape (4 kinds of vision, candidate, 3)."""
    steps = np.linspace(0, 255, GRID_STEPS).round().astype(int)
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    seen = _seen(grid)
    lightness, chroma = seen[0, :, 0], np.linalg.norm(seen[0, :, 1:], axis=1)
    readable = (lightness >= LIGHTNESS[0]) & (lightness <= LIGHTNESS[1]) & (chroma >= MIN_CHROMA)
    return tuple(f"#{r:02x}{g:02x}{b:02x}" for r, g, b in grid[readable].tolist()), seen[:, readable]


def _seen(colours: Sequence[Sequence[int]] | np.ndarray) -> np.ndarray:
    """Oklab values of colours (n, 3), 0 to 255, as seen by each of :data:`VISIONS`: shape (4, n, 3)."""
    srgb = np.asarray(colours, np.float64).reshape(-1, 3) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    kinds = [linear, *(linear @ np.array(matrix).T for matrix in (_RED_BLIND, _GREEN_BLIND, _BLUE_BLIND))]
    return np.stack([np.cbrt(k.clip(0, 1) @ np.array(_RGB_TO_LMS).T) @ np.array(_LMS_TO_OKLAB).T for k in kinds])
