"""The app in Firefox: every page without script errors, and the viewer by wheel, keys and touch."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.browser.conftest import Server
from tests.browser.test_viewer import SHAPE, write_cases
from tests.conftest import missing
from tests.support.firefox import Firefox

pytestmark = [pytest.mark.browser, pytest.mark.slow]
PAGES = ("home", "learn", "train", "runs", "review", "predict", "quiz")
PANE = "canvas.pane[data-plane=axial]"


@pytest.fixture(scope="module")
def firefox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firefox]:
    program = shutil.which("firefox-esr") or shutil.which("firefox")
    if program is None:
        missing("needs Firefox: install firefox-esr")
    started = Firefox(str(program), tmp_path_factory.mktemp("firefox"))
    yield started
    started.close()


def slice_of(firefox: Firefox) -> int:
    return int(firefox.evaluate(f"find('{PANE}').dataset.slice"))


def wait_for_slice(firefox: Firefox, slice: int) -> None:
    firefox.wait(f"Number(find('{PANE}').dataset.slice) === {slice}")


@pytest.mark.long
def test_viewer_takes_wheel_keys_and_touch_in_firefox(server: Server, firefox: Firefox) -> None:
    if not (server.data / "corners").exists():
        write_cases(server.data / "corners")
    firefox.goto(f"{server.url}/data?data=corners")
    slices = "[...document.querySelectorAll('[data-testid=stMain] button')].find(b => b.innerText.includes('Slice by'))"
    firefox.wait(f"Boolean({slices})")
    firefox.evaluate(f"{slices}.click()")
    firefox.wait(f"find('{PANE}')?.dataset.letters === 'RLAP'")
    before = slice_of(firefox)
    x, y = firefox.centre(PANE)
    firefox.pointer([{"type": "pointerMove", "x": x, "y": y}])
    firefox.wait(f"find('{PANE}').dataset.wheel === 'slices'")
    firefox.wheel(x, y, -120)
    wait_for_slice(firefox, before + 1)
    firefox.click(PANE)
    firefox.press("\ue00f")  # Page Down
    wait_for_slice(firefox, max(0, before + 1 - 10))
    firefox.press("x")
    pixels = f"(c => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data])(find('{PANE}'))"
    assert firefox.evaluate(f"new Set({pixels}).size") > 10, "it has grey values"
    firefox.press("s")
    firefox.wait("Boolean(find('.root.full'))")
    firefox.press("s")
    firefox.wait("!find('.root.full')")
    width = firefox.evaluate(f"find('{PANE}').width")
    firefox.set_pixel_ratio(2)
    firefox.wait(f"find('{PANE}').width >= {2 * width - 3}")
    firefox.set_pixel_ratio(1)
    before = slice_of(firefox)
    x, y = firefox.centre(PANE)
    firefox.drag_finger(x, y + 40, y - 40)  # towards the top: the next slices
    firefox.wait(f"Number(find('{PANE}').dataset.slice) > {before}")
    assert slice_of(firefox) < SHAPE[2]
    assert firefox.errors == []


@pytest.mark.long
def test_every_page_opens_in_firefox_without_script_errors(server: Server, firefox: Firefox) -> None:
    for name in PAGES:
        firefox.goto(f"{server.url}/{name}")
        firefox.wait("document.querySelector('h1') && !document.querySelector('[data-testid=stException]')")
    assert firefox.errors == []
