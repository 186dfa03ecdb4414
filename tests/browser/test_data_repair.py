"""A data set on Data in a real browser: a ZIP file is uploaded, its planted problem is seen, and a click mends it."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import Server
from tests.support.heads import head, write_heads
from tests.support.volume_files import write_nifti

pytestmark = pytest.mark.browser


@pytest.mark.long
def test_uploaded_zip_with_a_planted_problem_is_mended_by_a_click(server: Server, page: Page, tmp_path: Path) -> None:
    folder = write_heads(tmp_path / "planted", 9)
    image, _ = head(7)
    image[3, 3, 3] = np.nan
    write_nifti(folder / "imagesTr" / "case_7.nii.gz", image, np.eye(4))
    image, _ = head(4, noise=4.0)
    write_nifti(folder / "imagesTr" / "case_4.nii.gz", image * 100, np.eye(4))
    packed = tmp_path / "planted.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(tmp_path))

    page.goto(f"{server.url}/data")
    page.get_by_role("button", name="Add data").click()
    page.locator("input[type=file]").first.set_input_files(packed)
    expect(page.get_by_text("Not ready for training: 1 error.")).to_be_visible(timeout=180_000)
    problem = page.get_by_text("expected finite intensities")
    expect(problem).to_contain_text("case_7")
    expect(problem).to_contain_text("Training does not start as long as the case is in the data set as it is")
    before = {p.name: p.read_bytes() for p in (server.data / "planted").rglob("*.nii.gz")}

    page.get_by_role("button", name="Read NaN as 0").click()
    expect(page.get_by_text("Ready for training").first).to_be_visible(timeout=180_000)
    assert before == {p.name: p.read_bytes() for p in (server.data / "planted").rglob("*.nii.gz")}, "no file is touched"

    page.get_by_text("Measures", exact=True).click()
    expect(page.get_by_text("1 subject unlike the others")).to_be_visible()
    expect(page.get_by_role("img", name="Middle slice of case_4")).to_be_visible()
    for title in ("Size", "Intensity", "Volume of the classes", "Memory"):
        expect(page.get_by_text(title, exact=True)).to_be_visible()
    expect(page.locator(".js-plotly-plot")).to_have_count(5)
    width = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert width == 0, "nothing scrolls sideways"


@pytest.mark.slow
def test_upload_goes_on_and_is_shown_while_its_popover_is_closed(server: Server, page: Page, tmp_path: Path) -> None:
    folder = write_heads(tmp_path / "behind", 2)
    packed = tmp_path / "behind.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(tmp_path))
    held: list[Route] = []
    page.route("**/uploads/*?name=*", lambda route: held.append(route), times=1)
    page.goto(f"{server.url}/data")
    add = page.get_by_role("button", name="Add data")
    add.click()
    page.locator("input[type=file]").first.set_input_files(packed)
    progress = page.get_by_text("Uploading behind.zip", exact=True)
    expect(progress).to_be_visible()
    page.keyboard.press("Escape")
    notice = page.locator("#upload-notice")
    expect(notice).to_contain_text("Uploading behind.zip: 0 %")
    add.click()  # the popover shows it again
    expect(progress).to_be_visible()
    expect(notice).to_have_count(0)
    page.get_by_test_id("stTopNavLink").filter(has_text="Quiz").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Quiz")
    expect(notice).to_contain_text("Uploading behind.zip")
    held[0].continue_()
    expect(notice).to_contain_text("Uploaded: behind")
    notice.get_by_role("link", name="Open it").click()
    expect(page.get_by_role("combobox", name="Data set")).to_have_value("behind")
