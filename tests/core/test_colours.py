"""Display colours: as many as classes, far apart in the list, readable, the palette first."""

from __future__ import annotations

import itertools
import tomllib

import numpy as np
import pytest

from core.colours import (
    PALETTE,
    PALETTE_DISTANCE,
    RUN_PALETTE,
    VISIONS,
    _seen,
    complete,
    is_colour,
    rgb,
    run_colours,
)
from core.paths import project_root

DARK_PAGE = "#0f1217"  # background of the dark theme


def oklab(colours: tuple[str, ...]) -> np.ndarray:
    """Oklab values, shape (n, 3), by the matrices of the article in one step each."""
    srgb = np.array([rgb(c) for c in colours]) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    lms = linear @ np.array([[0.41222, 0.53633, 0.05145], [0.21190, 0.68070, 0.10740], [0.08830, 0.28172, 0.62998]]).T
    to_lab = [[0.21045, 0.79362, -0.00407], [1.97800, -2.42859, 0.45059], [0.02590, 0.78277, -0.80868]]
    return np.asarray(np.cbrt(lms) @ np.array(to_lab).T)


def contrast(colour: str, with_white: bool) -> float:
    """Contrast of a colour with white or black after WCAG 2."""
    srgb = np.array(rgb(colour)) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ [0.2126, 0.7152, 0.0722])
    return 1.05 / (luminance + 0.05) if with_white else (luminance + 0.05) / 0.05


def test_first_ten_are_the_palette() -> None:
    assert complete((None,) * 10) == PALETTE
    assert complete((None,) * 30)[:10] == PALETTE


@pytest.mark.parametrize("classes", [11, 24, 100, pytest.param(254, marks=pytest.mark.slow)])
def test_as_many_colours_as_classes_far_from_their_neighbours(classes: int) -> None:
    colours = complete((None,) * classes)
    assert len(set(colours)) == classes and all(map(is_colour, colours))
    lab = oklab(colours)
    assert np.linalg.norm(np.diff(lab, axis=0), axis=1).min() > 0.15, "classes next to each other in the list"
    apart = np.linalg.norm(lab[:, None] - lab, axis=2)[~np.eye(classes, dtype=bool)]
    assert apart.min() > {11: 0.06, 24: 0.06, 100: 0.03, 254: 0.015}[classes]


def test_computed_colours_are_readable_on_dark_and_light() -> None:
    for colour in complete((None,) * 60)[10:]:
        assert contrast(colour, with_white=True) > 1.6 and contrast(colour, with_white=False) > 2.9, colour


def test_more_classes_do_not_change_the_colours_before_them() -> None:
    assert complete((None,) * 40)[:25] == complete((None,) * 25)


def test_given_colours_stay_and_are_not_used_again() -> None:
    given = ("#4A90D9", None, "#ff0000", None, "#ff0000")
    colours = complete(given)
    assert (colours[0], colours[2], colours[4]) == ("#4A90D9", "#ff0000", "#ff0000")
    assert (colours[1], colours[3]) == (PALETTE[1], PALETTE[2])
    many = complete((*(None for _ in range(40)), "#123456"))
    assert len({c.lower() for c in many}) == 41


def test_colours_of_runs_are_readable_and_never_those_of_classes() -> None:
    seen = oklab((*RUN_PALETTE, *PALETTE))
    apart = np.linalg.norm(seen[:, None] - seen, axis=2) + np.eye(len(seen))
    assert apart[: len(RUN_PALETTE)].min() > 0.08
    assert min(contrast(c, white) for c in RUN_PALETTE for white in (True, False)) > 3
    assert run_colours([RUN_PALETTE[0]]) == (*RUN_PALETTE[1:], RUN_PALETTE[0])


def seen_by_all(colours: tuple[str, ...]) -> np.ndarray:
    """Distances in Oklab between colours, shape (4 kinds of vision, n, n)."""
    seen = _seen([rgb(c) for c in colours])
    assert len(seen) == len(VISIONS)
    return np.asarray(np.linalg.norm(seen[:, :, None] - seen[:, None], axis=3))


@pytest.mark.parametrize("vision", VISIONS)
def test_any_two_colours_of_the_palette_differ_for_every_kind_of_vision(vision: str) -> None:
    apart = seen_by_all(PALETTE)[VISIONS.index(vision)]
    pairs = sorted((apart[a, b], PALETTE[a], PALETTE[b]) for a, b in itertools.combinations(range(len(PALETTE)), 2))
    assert len(PALETTE) == 10 and pairs[0][0] >= PALETTE_DISTANCE, pairs[:3]


def test_fewer_classes_have_colours_that_are_farther_apart() -> None:
    apart = seen_by_all(PALETTE).min(axis=0) + np.eye(len(PALETTE))
    least = [float(apart[:n, :n].min()) for n in range(2, len(PALETTE) + 1)]
    assert least[1] >= 0.115 and least[2] >= 0.115 and least[4] >= 0.105, least
    for n in range(4, len(PALETTE)):  # no later colour would have been farther from those before it
        assert apart[n, :n].min() >= apart[n + 1 :, :n].min(axis=1).max(initial=0) - 1e-9, PALETTE[n]


def test_colours_of_the_palette_are_readable_on_every_background() -> None:
    """WCAG 2 asks 3 of graphics. Yellow, green and lavender have less on white; they stand out on black panes."""
    for colour in PALETTE:
        assert contrast(colour, with_white=True) > 2, colour
        assert contrast(colour, with_white=False) > 3, colour
        dark = contrast(DARK_PAGE, with_white=False)
        assert contrast(colour, with_white=False) / dark > 3, colour


def test_charts_have_the_palette_in_its_order() -> None:
    theme = tomllib.loads((project_root() / ".streamlit" / "config.toml").read_text("utf-8"))["theme"]
    assert theme["dark"]["backgroundColor"] == DARK_PAGE
    for scheme in ("light", "dark"):
        assert tuple(theme[scheme]["chartCategoricalColors"]) == PALETTE, scheme


def test_colour_blindness_keeps_greys_and_confuses_what_it_is_known_for() -> None:
    greys = _seen([(g, g, g) for g in (0, 90, 200, 255)])
    assert np.abs(greys - greys[0]).max() < 0.002
    confused = {
        "red-blind": ("#4a90d9", "#b07cc6"),  # blue and purple
        "green-blind": ("#d55e00", "#9a8a00"),  # vermilion and olive
        "blue-blind": ("#4a90d9", "#1fa187"),  # blue and green
    }
    for vision, pair in confused.items():
        apart = seen_by_all(pair)[:, 0, 1]
        assert apart.argmin() == VISIONS.index(vision) and apart.min() < 0.3 * apart[0], (vision, apart)
