"""Review in a real browser, as a reviewer uses it: two predictions, figures over all cases, notes, exports."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from core.evaluation.error_map import DESCRIPTION
from tests.browser.conftest import Server
from tests.support.accessibility import findings
from tests.support.menus import choose_option
from tests.support.quiz_runs import QuizRun
from tests.support.review_cases import Case, colour_at, expect_grey, hand_made_case, mistakes
from tests.support.viewers import Pane, settle, voxel, wait_until_ready
from tests.support.volume_files import load, write_nifti
from tests.support.watching import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.long]


@pytest.fixture
def case(quiz_server: Server, quiz_run: QuizRun) -> Iterator[Case]:
    """A false block, a missed ball, and a ball of the wrong class."""
    with hand_made_case(quiz_server, quiz_run, mistakes) as made:
        yield made


def subject_of(case: Case) -> str:
    return str(re.search("case=([^&]+)", case.url)[1])  # type: ignore[index]


def pane_of(page: Page, row: str) -> Pane:
    return Pane(page.locator(f"canvas.pane[data-plane=axial][data-row='{row}']"))


def is_one_row(first: Locator, last: Locator) -> bool:
    """Whether controls stand beside each other."""
    a, b = first.bounding_box(), last.bounding_box()
    return a is not None and b is not None and b["y"] < a["y"] + a["height"]


def test_an_uploaded_segmentation_is_shown_scored_and_refused_on_another_grid(
    page: Page, case: Case, quiz_run: QuizRun, tmp_path: Path
) -> None:
    """The upload is the label map of the data set, which is right everywhere; then one of another size."""
    page.goto(case.url + "&with=upload")
    wait_until_ready(page)
    label = next((quiz_run.data / "labelsTr").glob(f"{subject_of(case)}*"))
    page.locator("[data-testid=stFileUploader] input[type=file]").set_input_files(label)
    show = page.get_by_role("group", name="Show", exact=True)
    expect(show.get_by_role("button", name="second prediction")).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_text("First: this model. Second: the uploaded files")).to_be_visible()
    bright = page.get_by_role("row").filter(has_text="bright").filter(has_text="better")
    expect(bright).to_contain_text("1.000")
    page.get_by_role("button", name=re.compile("^Delete ")).click()
    expect(show.get_by_role("button", name="second prediction")).to_have_count(0)
    image = load(label)
    cropped = write_nifti(tmp_path / label.name, np.asarray(image.dataobj)[:-2], image.affine)
    page.locator("[data-testid=stFileUploader] input[type=file]").set_input_files(cropped)
    expect(page.get_by_text("The second prediction cannot be shown")).to_contain_text("18x24x18")
    expect(show.get_by_role("button", name="second prediction")).to_have_count(0)


def test_second_prediction_beside_the_first_one_says_who_is_right_and_is_in_the_address(
    page: Page, browser: Browser, case: Case, quiz_run: QuizRun
) -> None:
    """The second prediction is the label map of the data set: it is right wherever the first one is wrong."""
    wrong = case.first(1, 2)
    page.goto(case.url + "&at=" + ",".join(str(n + 1) for n in wrong))
    wait_until_ready(page)
    choose_option(page.get_by_label("Compare with"), "a segmentation file")
    label = next((quiz_run.data / "labelsTr").glob(f"{subject_of(case)}*"))
    field = page.get_by_role("textbox", name="Segmentation file")
    field.fill(f"balls/labelsTr/{label.name}")
    field.press("Enter")
    show = page.get_by_role("group", name="Show", exact=True)
    expect(show.get_by_role("button", name="second prediction")).to_have_attribute("aria-pressed", "true")
    show.get_by_role("button", name="who is right").click()
    shown = pane_of(page, "who is right")
    expect(shown.canvas).to_be_visible()
    shown.canvas.focus()
    page.keyboard.press("x")
    settle(page)
    red, green, blue = colour_at(shown, case, wrong)
    assert red > blue + 60 and green > blue + 30, "orange: only the second is right"
    expect(page.locator(".readout")).to_contain_text("only the second is right")
    volume = int((case.truth != case.prediction).sum()) * 0.0015
    legend = page.get_by_role("group", name="Who is right")
    expect(legend).to_contain_text(f"only the second is right{volume:.{3 if volume >= 1 else 2}g} ml")
    expect(legend).to_contain_text("only the first is right0 ml")
    show.get_by_role("button", name="second errors").click()
    errors = pane_of(page, "second errors")
    expect(errors.canvas).to_be_visible()
    settle(page)
    boxes = [canvas.bounding_box() for canvas in page.locator("canvas.pane").all()]
    assert len(boxes) == 5 and len({box["x"] for box in boxes if box}) == 3, "three and two, as large as they can be"
    expect_grey(errors, case, wrong, "no error")
    expect(page).to_have_url(re.compile(r"look=.*second"))
    copied = browser.new_context().new_page()
    copied.goto(page.url)
    wait_until_ready(copied)
    expect(pane_of(copied, "who is right").canvas).to_be_visible()
    copied.context.close()
    full_screen = page.get_by_role("button", name="Full screen")
    for width in (1440, 800):
        page.set_viewport_size({"width": width, "height": 1000})
        wait_until(lambda: is_one_row(show, full_screen), 30, 0.1)
    page.locator("summary").get_by_text("More", exact=True).click()
    page.get_by_role("group", name="Planes").get_by_role("button", name="coronal").click()
    expect(page.locator("canvas.pane[data-plane=coronal]").first).to_be_visible()


def test_click_on_a_point_of_a_figure_opens_its_case(
    page: Page, quiz_server: Server, quiz_run: QuizRun, case: Case
) -> None:
    chosen = subject_of(case)
    page.goto(case.url)
    wait_until_ready(page)
    page.get_by_role("radio", name="all cases").or_(page.get_by_role("button", name="all cases")).first.click()
    chart = page.locator(".st-key-review-figure-agreement")
    expect(chart.locator(".points path")).to_have_count(3)
    page.get_by_role("button", name=re.compile("^Count the voxels of")).click()
    expect(page.get_by_text("Confusion between classes")).to_be_visible(timeout=120_000)
    expect(page.locator(".js-plotly-plot")).to_have_count(4)
    assert "view=figures" in page.url
    other = chart.locator(".points path")
    for n in range(3):
        box = other.nth(n).bounding_box()
        assert box is not None
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        wait_until_ready(page)
        if f"case={chosen}" not in page.url:
            break
        page.get_by_role("radio", name="all cases").or_(page.get_by_role("button", name="all cases")).first.click()
        expect(chart.locator(".points path")).to_have_count(3)
    assert f"case={chosen}" not in page.url and "view=" not in page.url
    assert findings(page) == [], "axe finds nothing on the page"


def test_a_note_has_the_place_of_the_crosshair_of_its_case_also_if_it_was_not_moved(page: Page, case: Case) -> None:
    page.goto(case.url)
    wait_until_ready(page)
    root = page.locator(".root[data-ready]").first

    def note(text: str) -> None:
        page.get_by_placeholder("Comment").fill(text)
        page.get_by_role("button", name="Save note").click()
        place = ",".join(str(n + 1) for n in voxel(page))
        expect(page.get_by_role("button", name=place, exact=True)).to_be_visible()

    def choose(row: str) -> None:
        before = str(root.get_attribute("data-ready"))
        page.locator(f".case{row}").first.click()
        expect(root).not_to_have_attribute("data-ready", before)

    def move() -> None:
        before = page.url
        page.locator("canvas.pane").first.focus()
        page.keyboard.press("Shift+ArrowRight")
        expect(page).not_to_have_url(before)

    note("not moved")
    move()
    moved = voxel(page)
    choose("[aria-selected=false]")
    move()
    choose(f":has-text('{subject_of(case)}')")
    assert voxel(page) == moved, "not that of the other case, which the address still has"
    note("seen again")
    for left in (1, 0):
        page.get_by_role("button", name="Remove").first.click()
        expect(page.get_by_role("button", name="Remove")).to_have_count(left)


def test_a_note_leads_back_to_its_place_after_a_reload(page: Page, case: Case) -> None:
    page.goto(case.url + "&at=4,5,6")
    wait_until_ready(page)
    page.get_by_placeholder("Comment").fill("look at the rim")
    page.get_by_text("discuss", exact=True).first.click()
    page.get_by_role("button", name="Save note").click()
    noted = page.get_by_role("paragraph").filter(has_text="look at the rim")  # the field is empty a moment later
    expect(noted).to_be_visible()
    row = page.locator(".case[aria-selected=true]")
    expect(row.locator(".flag.discuss")).to_have_text("discuss")
    page.goto(case.url + "&at=10,12,9")
    wait_until_ready(page)
    assert voxel(page) == (9, 11, 8)
    page.get_by_role("button", name="4,5,6").click()
    expect(page.locator(".root[data-voxel]").first).to_have_attribute("data-voxel", "3,4,5")
    page.get_by_role("button", name="Remove").click()
    expect(noted).to_have_count(0)


def test_exports_are_downloaded_complete(page: Page, case: Case, quiz_run: QuizRun, tmp_path: Path) -> None:
    page.goto(case.url)
    wait_until_ready(page)
    page.get_by_role("button", name="Export").click()
    files = {}
    for name in ("Scores (CSV)", "Errors", "Contact sheet (PDF)"):
        with page.expect_download(timeout=120_000) as download:
            page.get_by_role("button", name=name, exact=True).click()
        files[name] = tmp_path / download.value.suggested_filename
        download.value.save_as(files[name])
    rows = list(csv.DictReader(files["Scores (CSV)"].open()))
    assert {row["Case"] for row in rows} >= {subject_of(case)} and "HD95 (mm)" in rows[0]
    errors = nib.load(files["Errors"])
    label = nib.load(next((quiz_run.data / "labelsTr").glob(f"{subject_of(case)}*")))
    assert np.allclose(errors.affine, label.affine) and errors.header["descrip"].item().decode() == DESCRIPTION  # type: ignore[attr-defined]
    assert (np.asanyarray(errors.dataobj) > 0).sum() == (case.truth != case.prediction).sum()  # type: ignore[attr-defined]
    assert files["Contact sheet (PDF)"].read_bytes().startswith(b"%PDF")
