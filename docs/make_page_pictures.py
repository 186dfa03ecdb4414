"""Takes the pictures of pages in README.md in a real browser: ``python docs/make_page_pictures.py``.

``images/runs.png`` shows a short training on the demo data, ``images/review.png`` the ready-made model on the demo
subject that was held out from its training. Needs Chromium (on the path, or named by ``CHROMIUM``) and playwright of
``requirements-dev.txt``.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.processes import StreamlitServer, chromium_path, run_command  # noqa: E402
from core.paths import DEMO, DEMO_MODEL  # noqa: E402

IMAGES = Path(__file__).with_name("images")
SUBJECTS = 3  # as the first training from the Home page
RUNS_PX, REVIEW_PX = (1440, 850), (1440, 960)  # width and height of the window
TIMEOUT_MS = 120_000
COLOURS = 256
SETTLED = """() => !document.querySelector('[data-testid=stApp][data-test-script-state=running], [data-stale=true]')"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--pages", nargs="+", choices=("runs", "review"), default=("runs", "review"), help="default: both"
    )
    parser.add_argument("--minutes", type=float, default=2, help="time budget of the training (default: 2)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["SEGMENTARIUM_DATA"] = str(folder / "data")
        options = ["--preset", "quick", "--minutes", f"{args.minutes:g}", "--subjects", str(SUBJECTS)]
        if "runs" in args.pages:
            run_command("train", DEMO, *options, "--name", "demo, quick", "--checkpoints", str(folder / "checkpoints"))
        server = StreamlitServer("app.py", folder)
        try:
            _take_pictures(server.url, args.pages)
        finally:
            server.stop()
    return 0


def _take_pictures(url: str, pages: Sequence[str]) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=["--no-sandbox"])
        page = browser.new_page(color_scheme="light")
        page.set_default_timeout(TIMEOUT_MS)
        if "runs" in pages:
            _open(page, f"{url}/runs", RUNS_PX)
            page.locator("[data-points]").first.wait_for()
            _save(page, IMAGES / "runs.png")
        if "review" in pages:
            _open(page, f"{url}/review?model={DEMO_MODEL}", REVIEW_PX)
            page.locator("canvas.pane[data-at]").nth(2).wait_for()
            page.get_by_text("regions", exact=False).first.wait_for()  # of errors, which follow the volumes
            _save(page, IMAGES / "review.png")
        browser.close()


def _open(page: Any, url: str, size: tuple[int, int]) -> None:
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.goto(url)


def _save(page: Any, path: Path) -> None:
    """Save a picture of the window, once no script of the page runs."""
    page.wait_for_function(SETTLED)
    page.mouse.move(0, 0)
    picture = Image.open(io.BytesIO(page.screenshot(animations="disabled"))).convert("RGB")
    picture.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    raise SystemExit(main())
