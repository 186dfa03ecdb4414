"""The Predict page in a real browser: upload, segmentation, download; the file equals that of `predict`."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from core.cli import main
from tests.browser.conftest import Server
from tests.support.background_jobs import poll
from tests.support.balls import SPACING_MM, balls, untrained_run
from tests.support.viewers import wait_until_ready
from tests.support.volume_files import write_analyze, write_nifti

pytestmark = pytest.mark.browser
LAS = np.diag([-SPACING_MM[0], *SPACING_MM[1:], 1.0])
SEGMENTATION_TIMEOUT_MS = 180_000  # a child process imports torch, on a busy machine


@pytest.fixture(scope="module")
def run_id(server: Server) -> str:
    return untrained_run(server.checkpoints, "predict", ("M0",), dataset={"name": "Balls"})


def upload(page: Page, *files: Path) -> None:
    page.get_by_test_id("stFileUploaderDropzoneInput").last.set_input_files([str(file) for file in files])
    expect(page.get_by_role("button", name=f"Remove {files[0].name}", exact=True).first).to_be_visible()


def upload_model(page: Page, file: Path) -> None:
    page.get_by_test_id("stButtonGroup").get_by_text("A file", exact=True).click()
    choosers = page.get_by_test_id("stFileUploaderDropzoneInput")
    expect(choosers).to_have_count(2)
    choosers.first.set_input_files([str(file)])


def save(page: Page, folder: Path) -> Path:
    button = page.get_by_role("button", name="Save the segmentation")
    expect(button).to_be_visible(timeout=SEGMENTATION_TIMEOUT_MS)
    with page.expect_download() as download:
        button.click()
    target = folder / download.value.suggested_filename
    download.value.save_as(target)
    return target


@pytest.mark.long
def test_uploaded_image_gives_the_same_file_as_the_command(
    server: Server, page: Page, run_id: str, tmp_path: Path
) -> None:
    scan = write_nifti(tmp_path / "my-scan.nii.gz", balls(60)[0][0], LAS)
    page.goto(f"{server.url}/predict?model={run_id}")
    expect(page.get_by_text("M0 to bright, dark")).to_be_visible()
    expect(page.get_by_role("button", name="Segment", exact=True)).to_be_disabled()
    upload(page, scan)
    page.get_by_role("button", name="Segment", exact=True).click()
    expect(page.get_by_role("button", name="Cancel")).to_be_visible()
    saved = save(page, tmp_path)
    out = tmp_path / "by-command.nii.gz"
    arguments = ["predict", run_id, str(scan), "--out", str(out), "--checkpoints", str(server.checkpoints)]
    assert main(arguments) == 0
    assert saved.name == "my-scan-segmentation.nii.gz" and saved.read_bytes() == out.read_bytes()
    wait_until_ready(page)
    page.set_viewport_size({"width": 800, "height": 900})
    page.emulate_media(color_scheme="dark")
    page.reload()  # a new session; the URL names the result
    wait_until_ready(page)
    widths = "[...document.querySelectorAll('[data-testid=stMain], html')].map(e => e.scrollWidth - e.clientWidth)"
    assert max(page.evaluate(widths)) <= 0, "no horizontal scrolling on a narrow screen"
    again = save(page, tmp_path / "again")
    assert again.read_bytes() == out.read_bytes()
    kept = list((server.checkpoints / ".cache" / "predict").glob("*/files/*/my-scan.nii.gz"))
    assert len(kept) == 1
    page.get_by_role("button", name="Remove", exact=True).click()
    expect(page.get_by_text("Choose a model and the images")).to_be_visible()
    assert not kept[0].exists()


@pytest.mark.long
def test_analyze_pair_needs_both_files_and_has_unknown_orientation(
    server: Server, page: Page, run_id: str, tmp_path: Path
) -> None:
    header = write_analyze(tmp_path / "pair", balls(61)[0][0], SPACING_MM)
    page.goto(f"{server.url}/predict?model={run_id}")
    upload(page, header)
    expect(page.get_by_text("needs its .img file")).to_be_visible()
    expect(page.get_by_role("button", name="Segment", exact=True)).to_be_disabled()
    page.get_by_test_id("stFileUploaderDropzoneInput").last.set_input_files([str(header.with_suffix(".img"))])
    expect(page.get_by_text("needs its .img file")).to_have_count(0)
    page.get_by_role("button", name="Segment", exact=True).click()
    saved = save(page, tmp_path)
    out = tmp_path / "by-command.nii.gz"
    arguments = ["predict", run_id, str(header), "--out", str(out), "--checkpoints", str(server.checkpoints)]
    assert main(arguments) == 0
    assert saved.read_bytes() == out.read_bytes()
    wait_until_ready(page)
    expect(page.get_by_text("orientation unknown")).to_be_visible()


@pytest.mark.long
def test_uploaded_checkpoint_is_used(server: Server, page: Page, run_id: str, tmp_path: Path) -> None:
    model = tmp_path / "uploaded-model.safetensors"
    assert main(["export", run_id, "--out", str(model), "--checkpoints", str(server.checkpoints)]) == 0
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(model.read_bytes()[:1000])
    other = server.checkpoints / "another-checkpoint.safetensors"  # can be chosen, but an upload is selected
    shutil.copy2(model, other)
    page.goto(f"{server.url}/predict")
    upload_model(page, broken)
    expect(page.get_by_text("is not a checkpoint")).to_be_visible()
    expect(page.get_by_text(str(server.checkpoints))).to_have_count(0)
    page.reload()
    upload_model(page, model)
    expect(page.get_by_role("button", name="Remove uploaded-model.safetensors")).to_be_visible()
    expect(page.get_by_text("M0 to bright, dark")).to_be_visible()
    upload(page, write_nifti(tmp_path / "scan.nii", balls(62)[0][0], LAS))
    page.get_by_role("button", name="Segment", exact=True).click()
    assert save(page, tmp_path).stat().st_size > 0
    expect(page.get_by_text("predict uploaded-model.safetensors scan.nii")).to_be_visible()
    other.unlink()


@pytest.mark.long
def test_cancelled_segmentation_removes_its_files(server: Server, page: Page, run_id: str, tmp_path: Path) -> None:
    large = np.tile(balls(63)[0][0], (4, 4, 4))
    page.goto(f"{server.url}/predict?model={run_id}")
    upload(page, write_nifti(tmp_path / "large.nii", large, LAS))
    page.get_by_role("button", name="Segment", exact=True).click()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("Choose a model and the images")).to_be_visible()
    cache = server.checkpoints / ".cache" / "predict"
    poll(lambda: list(cache.glob("*/files/*/large.nii")), lambda files: files == [])


@pytest.mark.long
def test_several_uploads_are_checked_kept_apart_and_segmented_together(
    server: Server, page: Page, run_id: str, tmp_path: Path
) -> None:
    segment = page.get_by_role("button", name="Segment")
    page.goto(f"{server.url}/predict?model={run_id}")
    dicom = tmp_path / "IM0001.dcm"
    dicom.write_bytes(bytes(128) + b"DICM")
    expect(segment).to_be_disabled()
    page.get_by_test_id("stFileUploaderDropzoneInput").last.set_input_files([str(dicom)])
    expect(page.get_by_text("expected an image, got only an object of modality")).to_be_visible()
    expect(page.get_by_text("Accepted: NIfTI (.nii, .nii.gz)")).to_be_visible()
    page.get_by_role("button", name="Remove DICOM series 1").click()
    scan = write_nifti(tmp_path / "Kopf-脳 1.nii", balls(64)[0][0], LAS)
    upload(page, scan)
    expect(segment).to_be_enabled()
    cut = tmp_path / "cut.nii"
    cut.write_bytes(scan.read_bytes()[:-100])
    upload(page, cut)
    expect(page.get_by_text("Accepted: NIfTI (.nii, .nii.gz)")).to_be_visible()
    expect(segment).to_be_disabled()
    page.get_by_role("button", name="Remove cut.nii").click()
    upload(page, write_nifti(tmp_path / "again" / scan.name, balls(65)[0][0], LAS))
    expect(page.get_by_role("button", name="Remove Kopf-脳 1 (2).nii")).to_be_visible()
    page.get_by_role("button", name="Segment 2 cases").click()
    expect(page.get_by_role("button", name="Save all 2")).to_be_visible(timeout=SEGMENTATION_TIMEOUT_MS)
    save_button = page.get_by_role("button", name="Save the segmentation")
    box = save_button.bounding_box()
    assert box is not None and box["y"] + box["height"] < 400, "in sight without scrolling"
    with page.expect_download() as download:
        page.get_by_role("button", name="Save all 2").click()
    archive = tmp_path / "all.zip"
    download.value.save_as(archive)
    with zipfile.ZipFile(archive) as file:
        assert len(set(file.namelist())) == 2 and "Kopf-脳 1-segmentation.nii.gz" in file.namelist()
    expect(page.get_by_text("An earlier result")).to_have_count(0)
    page.get_by_role("button", name="Remove Kopf-脳 1 (2).nii").click()
    expect(page.get_by_text("An earlier result")).to_be_visible()
    page.get_by_role("button", name="Remove all").click()
    expect(page.get_by_text("Choose a model and the images")).to_be_visible()
