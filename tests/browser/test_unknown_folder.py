"""A folder that no layout fits, in a real browser: its patterns are corrected, its classes named, a problem of its
files is mended by a click, and a run trains."""

from __future__ import annotations

import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from playwright.sync_api import Page, expect

from core import runs
from core.datasets import load_subject, open_dataset
from tests.browser.conftest import Server
from tests.support.heads import head
from tests.support.train_page import press_start
from tests.support.volume_files import write_nifti

pytestmark = pytest.mark.browser


def write_clinic(folder: Path, cases: int = 4) -> Path:
    """Cases with an image, a localizer of another size that is no modality, and a mask whose slices have the values
    3 and 5 in turn; one has NaN."""
    for n in range(1, cases + 1):
        image, label = head(n)
        mask = label * np.uint8(3)
        mask[::2] += label[::2] * np.uint8(2)
        if n == 2:
            image[3, 3, 3] = np.nan
        start = folder / f"P{n:03}" / f"P{n:03}"
        write_nifti(start.with_name(f"{start.name}_serie7.nii.gz"), image, np.eye(4))
        write_nifti(start.with_name(f"{start.name}_localizer.nii.gz"), image[:, :, :8], np.eye(4))
        write_nifti(start.with_name(f"{start.name}_maske.nii.gz"), mask, np.eye(4))
    return folder


@pytest.mark.long(30)
def test_unknown_folder_is_described_named_and_trained_on(
    server: Server, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_clinic(server.data / "clinic")
    before = sorted(folder.rglob("*"))
    page.goto(f"{server.url}/data?data=clinic")
    images = page.get_by_role("textbox", name="Images")
    expect(images).to_have_value("{case}/{case}_{modality}.nii.gz", timeout=120_000)
    expect(page.get_by_role("textbox", name="Label maps")).to_have_value("{case}/{case}_maske.nii.gz")
    images.fill("{case}/{case}_serie7.nii.gz")
    images.press("Control+Enter")
    expect(page.get_by_text("4 cases · 4 with labels · 4 image files left over")).to_be_visible()
    page.get_by_role("button", name="Read the label values").click()
    expect(page.get_by_text("Rows of one name become one class")).to_be_visible(timeout=120_000)
    grid = page.get_by_test_id("stDataFrame").nth(3)  # after cases, files left over and modalities
    page.get_by_role("button", name="Save").scroll_into_view_if_needed()
    box = grid.bounding_box()
    assert box is not None
    cell = page.locator("#portal textarea")
    for row, found in ((2, "background, blob, label 5"), (3, "background, blob")):  # rows of one name are one class
        page.mouse.dblclick(box["x"] + 100, box["y"] + 35 * (row + 0.5))
        cell.fill("blob")
        cell.press("Enter")
        expect(page.get_by_text(f"Saved as: {found}.")).to_be_visible()
    save = page.get_by_role("button", name="Save")
    expect(save).to_be_enabled()
    save.click()
    expect(page.get_by_text("4 subjects · image · layout saved")).to_be_visible(timeout=120_000)
    expect(page.get_by_text("Not ready for training: 1 error.")).to_be_visible(timeout=120_000)
    expect(page.get_by_text("expected finite intensities")).to_contain_text("P002")
    page.get_by_role("button", name="Read NaN as 0").click()
    expect(page.get_by_text(re.compile("^Ready for training")).first).to_be_visible(timeout=120_000)
    monkeypatch.setenv("SEGMENTARIUM_CHECKPOINTS", str(server.checkpoints))
    dataset = open_dataset(folder)
    assert [(c.raw, c.name) for c in dataset.labels.classes] == [(0, "background"), (3, "blob")]
    raw = nib.as_closest_canonical(nib.load(folder / "P001" / "P001_maske.nii.gz")).get_fdata()
    assert set(np.unique(raw)) == {0, 3, 5}
    np.testing.assert_array_equal(load_subject(dataset, "P001").label, raw > 0)
    assert dataset.nan_is_zero, "the recipe is applied by every command"
    assert sorted(folder.rglob("*")) == before, "the folder is not written to"

    page.get_by_role("button", name="Train on this").click()
    press_start(page)
    badge = page.get_by_test_id("stBadge").or_(page.locator(".stMarkdownBadge"))
    expect(badge.filter(has_text="running").first).to_be_visible(timeout=240_000)
    run = next(r for r in runs.list_runs(server.checkpoints) if f"run={r.id}" in page.url)
    runs.request_stop(server.checkpoints, run.id, now=True)
