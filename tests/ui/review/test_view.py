"""The Review page's order of cases, and what it takes from an address."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from core.evaluation.metrics import SubjectScore
from core.imaging.display import Channel, Grid
from core.runs.predictions import Prediction
from core.types import VoxelIndex
from ui.review import view
from ui.viewer.scenes import Scene


def kept(subject: str, dice: float | None) -> Prediction:
    score = None if dice is None else SubjectScore({"GM": dice, "CSF": math.nan}, {}, {}, (), {})
    return Prediction(subject, Path(subject), score, 1, 1, False, 0.0)


def test_the_worst_case_comes_first_and_what_was_not_segmented_last() -> None:
    found = {
        "s-2": kept("s-2", 0.9), "s-10": kept("s-10", 0.5), "s-3": kept("s-3", None), "s-4": kept("s-4", math.nan),
        "s-5": kept("s-5", 0.0),
    }  # fmt: skip
    subjects = ["s-1", "s-2", "s-3", "s-4", "s-5", "s-10", "s-11", "s-9"]
    assert view.worst_first(subjects, found) == ["s-5", "s-10", "s-2", "s-3", "s-4", "s-1", "s-9", "s-11"]


@pytest.mark.parametrize(
    ("text", "voxel"),
    [
        ("1,2,3", (0, 1, 2)), ("4,5,6", (3, 4, 5)), (None, None), ("", None), ("5,1,1", None), ("0,1,1", None),
        ("1,2", None), ("a,b,c", None), ("1,2,3,4", None),
    ],
)  # fmt: skip
def test_a_voxel_from_the_address_lies_in_the_volume_or_is_none(text: str | None, voxel: VoxelIndex | None) -> None:
    scene = Scene(Grid((4, 5, 6), (1, 1, 1), None), (Channel("T1", 0, 1, (0, 1)),), "/api/volumes/x")
    assert view._voxel(text, scene) == voxel
