"""The viewer of the Review page: the crosshair in the URL, and the plane that is shown first."""

from __future__ import annotations

from dataclasses import replace

import pytest

from core.imaging.display import Channel, Grid
from core.types import VoxelIndex
from ui.review.case_viewer import keep_in_address, parse_crosshair, sharpest_plane
from ui.shared.state import CROSSHAIR, LOOK
from ui.viewer.component import Settled
from ui.viewer.scenes import Scene

SCENE = Scene(Grid((4, 5, 6), (1, 1, 1), None), (Channel("T1", 0, 1, (0, 1)),), "/api/volumes/x")


@pytest.mark.parametrize(
    ("text", "voxel"),
    [
        ("1,2,3", (0, 1, 2)), ("4,5,6", (3, 4, 5)), (None, None), ("", None), ("5,1,99", (3, 0, 5)), ("0,1,1", None),
        ("1,2", None), ("a,b,c", None), ("1,2,3,4", None),
    ],
)  # fmt: skip
def test_crosshair_of_the_url_is_moved_into_the_volume_or_none_if_it_is_invalid(
    text: str | None, voxel: VoxelIndex | None
) -> None:
    assert parse_crosshair(text, SCENE) == voxel


def test_crosshair_that_was_reported_for_another_case_is_not_that_of_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    address = {CROSSHAIR: "1,2,3"}
    monkeypatch.setattr("ui.review.case_viewer.query_params", address)
    late = Settled((3, 3, 3), "window:1,2", "/api/volumes/before")
    keep_in_address(late, SCENE.image)
    assert address == {CROSSHAIR: "1,2,3", LOOK: "window:1,2"}
    keep_in_address(replace(late, image=SCENE.image), SCENE.image)
    assert address == {CROSSHAIR: "4,4,4", LOOK: "window:1,2"}


@pytest.mark.parametrize(
    ("spacing_mm", "plane"),
    [
        ((1, 1, 1), "axial"), ((1, 1, 5), "axial"), ((0.5, 3, 0.5), "coronal"), ((4, 1, 1), "sagittal"),
        ((1.2, 1, 1), "axial"),
    ],
)  # fmt: skip
def test_first_plane_is_that_of_the_slices_of_thick_slices_else_axial(
    spacing_mm: tuple[float, float, float], plane: str
) -> None:
    assert sharpest_plane(Grid((4, 5, 6), spacing_mm, None)) == plane
