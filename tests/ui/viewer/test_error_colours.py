"""Colours of the errors layer, as people with and without colour blindness see them."""

from __future__ import annotations

import itertools

import numpy as np

from core import colours
from core.evaluation.error_map import ERROR_KINDS

MIN_DISTANCE = 0.12  # in Oklab; the closest two of the ten class colours have less


def test_kinds_of_errors_differ_also_for_colour_blind_readers() -> None:
    kinds = [(kind.name, kind.colour) for kind in ERROR_KINDS]
    assert [name for name, _ in kinds] == ["false positive", "false negative", "wrong class"]
    seen = colours._seen([colours.rgb(colour) for _, colour in kinds])
    for one, other in itertools.combinations(range(3), 2):
        apart = np.linalg.norm(seen[:, one] - seen[:, other], axis=1)  # normal, red-blind, green-blind, blue-blind
        assert apart.min() > MIN_DISTANCE, (kinds[one], kinds[other], apart)
