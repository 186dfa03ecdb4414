"""The viewer on a page: its panes, their pixels and the positions of voxels."""

from __future__ import annotations

import re
from dataclasses import dataclass

from playwright.sync_api import Locator, Page, Request, expect

from core.types import VoxelIndex

READY_MS = 120_000
COMPLETE = "[data-testid=stApp][data-test-script-state=notRunning]"  # present while no script of the page runs
_ANY = re.compile(r"\d")
_VOXEL_COLOUR = """(c, [column, row]) => {
    const [x, y, sx, sy] = c.dataset.at.split(',').map(Number), scale = c.width / c.clientWidth;
    const place = [Math.floor((x + column * sx) * scale), Math.floor((y + row * sy) * c.height / c.clientHeight)];
    return [...c.getContext('2d').getImageData(...place, 1, 1).data];
}"""


def wait_until_ready(page: Page) -> None:
    """Wait until the viewer has rendered its volume; the failure says what the page shows instead."""
    try:
        expect(page.locator(".root[data-ready]").first).to_have_attribute("data-ready", _ANY, timeout=READY_MS)
    except AssertionError as error:
        state = page.get_by_test_id("stApp").first.get_attribute("data-test-script-state")
        shown = " | ".join(page.inner_text("body").split("\n"))
        raise AssertionError(f"viewer not ready, script {state}, page {page.url}: {shown[:1_000]}") from error
    expect(page.locator("canvas.pane").first).to_have_attribute("data-at", _ANY)
    settle(page)


def settle(page: Page) -> None:
    """Wait for two animation frames: requested changes are rendered."""
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def volume_requests(page: Page) -> list[str]:
    """Addresses of the volumes that the page requests from now on: the list grows."""
    requested: list[str] = []

    def note(request: Request) -> None:
        if "/api/volumes/" in request.url:
            requested.append(request.url)

    page.on("request", note)
    return requested


def open_menu(page: Page, name: str) -> None:
    """Open a menu of the toolbar: Window, Overlay or More."""
    page.locator("summary").get_by_text(name, exact=True).click()


def rest_pointer(shown: Pane) -> None:
    """Move the pointer onto a pane and wait until it has rested there: the pane takes the wheel."""
    shown.canvas.hover()
    expect(shown.canvas).to_have_attribute("data-wheel", "slices")


def voxel(page: Page) -> VoxelIndex:
    """Voxel index of the crosshair, counted from 0."""
    settle(page)
    i, j, k = (int(n) for n in str(page.locator(".root[data-voxel]").first.get_attribute("data-voxel")).split(","))
    return i, j, k


@dataclass(frozen=True)
class Pane:
    """One canvas of the viewer."""

    canvas: Locator

    @property
    def at(self) -> tuple[float, float, float, float]:
        """Top left corner of the slice and the size of a voxel, in CSS pixels."""
        x, y, sx, sy = (float(n) for n in str(self.canvas.get_attribute("data-at")).split(","))
        return x, y, sx, sy

    @property
    def slice(self) -> int:
        return int(str(self.canvas.get_attribute("data-slice")))

    @property
    def letters(self) -> str:
        """Orientation letters at the left, right, top and bottom."""
        return str(self.canvas.get_attribute("data-letters"))

    def pixel(self, x: float, y: float) -> tuple[int, int, int]:
        """The colour at a point of the canvas, in CSS pixels."""
        red, green, blue, _ = self.canvas.evaluate(
            "(c, [x, y]) => [...c.getContext('2d').getImageData("
            "Math.floor(x * c.width / c.clientWidth), Math.floor(y * c.height / c.clientHeight), 1, 1).data]",
            [x, y],
        )
        return red, green, blue

    def voxel_colour(self, column: int, row: int) -> tuple[int, int, int]:
        """The colour in the middle of a voxel of the slice: column from the left, row from the top, from 0.

        The place of the slice and the colour are read at once: the layout of the page may change at any time.
        """
        red, green, blue, _ = self.canvas.evaluate(_VOXEL_COLOUR, [column + 0.5, row + 0.5])
        return red, green, blue

    def picture(self) -> str:
        """The picture as a data URL, to compare."""
        return str(self.canvas.evaluate("c => c.toDataURL()"))


def pane(page: Page, plane: str, row: str) -> Pane:
    return Pane(page.locator(f"canvas.pane[data-plane={plane}][data-row='{row}']"))


def coloured_pixels(shown: Pane) -> int:
    """Number of pixels that are not grey."""
    return int(
        shown.canvas.evaluate(
            """c => {
                const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
                let count = 0;
                for (let p = 0; p < d.length; p += 4) {
                    if (Math.max(d[p], d[p + 1], d[p + 2]) - Math.min(d[p], d[p + 1], d[p + 2]) > 30) count++;
                }
                return count;
            }"""
        )
    )
