"""Ruler and region of the viewer on volumes that no page shows quickly: fine voxels, intensities that are clipped."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page

from core.paths import project_root

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SCRIPTS = ("elements", "geometry", "slices", "volume", "errors", "findings", "readout", "tools")
MEASURE = """({ tool, spacing, channel, stored, to }) => {
    const grid = { shape: [4, 2, 1], spacing_mm: spacing, affine: null }, view = planeView("axial", grid, true);
    const image = () => ({ values: Uint16Array.from(stored), layout: sliceLayout(view, grid.shape, 0) });
    const viewer = {
        settings: { tool, channel: 0 }, data: { image: "a", channels: [channel] }, grid, views: { axial: view },
        voxel: [0, 0, 0], shownChannels: [0], requestRender() {},
        scene: { channels: [{ levels: null }], layers: {}, image },
    };
    const tools = new Tools(viewer);
    tools.begin({ plane: "axial" }, [0, 0]);
    tools.drawn.to = to;
    tools.renew();
    return tools.result.textContent;
}"""


def measured(page: Page, **given: Any) -> str:
    """What the viewer says about a drawing from the corner of a slice of 4 x 2 voxels to ``to``."""
    for name in SCRIPTS if page.evaluate("typeof Tools") == "undefined" else ():
        page.add_script_tag(content=(project_root() / "ui" / "viewer" / f"{name}.js").read_text("utf-8"))
    channel = {"name": "T1", "offset": 10.0, "step": 0.5, "low": 10.0, "high": 32777.5, "exact": False}
    return str(page.evaluate(MEASURE, {"spacing": [1, 1, 1], "channel": channel, "stored": [], **given}))


def test_length_in_fine_voxels_has_the_digits_in_which_they_differ(page: Page) -> None:
    assert measured(page, tool="ruler", spacing=[0.01, 0.01, 0.01], to=[3, 0]) == "Length 0.030 mm"


def test_region_says_how_many_of_its_intensities_may_be_clipped(page: Page) -> None:
    whole, part = (
        measured(page, tool="region", stored=stored, to=to)
        for stored, to in (([2] * 8, [4, 2]), ([2, 4, 65535, 0, 2, 2, 2, 2], [3, 2]))
    )
    assert whole == "8 voxels, 0.008 ml · T1: mean ≈ 11, standard deviation ≈ 0"
    assert part.endswith(" · 1 voxel at or beyond 10 or 32778 counted with these values")


def test_voxels_that_a_segmentation_file_leaves_out_are_no_errors(page: Page) -> None:
    """Class 1 in the reference, the ignore label in a second segmentation."""
    for name in ("elements", "slices", "errors", "second"):
        page.add_script_tag(content=(project_root() / "ui" / "viewer" / f"{name}.js").read_text("utf-8"))
    found = page.evaluate("""() => {
        const layer = new ErrorLayer({ settings: { hiddenErrors: new Set() }, shownClasses: [true, true] });
        return [changeOf(1, 1, IGNORED), changeOf(1, IGNORED, 1), changeOf(IGNORED, 1, 0), changeOf(1, 0, 1),
                layer.shows(1, IGNORED), layer.describe(1, IGNORED)];
    }""")
    assert found == [0, 0, 0, 2, False, "left out"]
