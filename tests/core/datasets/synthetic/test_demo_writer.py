"""Demo subjects: files and statistics as in iSEG-2017, reproducible bytes, worker processes."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from core.datasets import load_subject, open_dataset
from core.datasets.doctor import check
from core.datasets.layouts.iseg import DEMO_MARKER, UNFINISHED_DEMO_MARKER
from core.datasets.synthetic.anatomy import (
    ATLAS_CENTRE_MM,
    CSF,
    GM,
    TISSUE_SHARES,
    WM,
    Atlas,
    draw_anatomy,
    load_atlas,
)
from core.datasets.synthetic.demo import ensure_demo, ensure_subject, has_subject, make_demo
from core.datasets.synthetic.demo_writer import SHAPE, SHIPPED, write_subject, write_subjects
from core.errors import DatasetError
from core.paths import demo_example_folder, project_root
from tests.support.demo_files import contents, volume

SEED = 7
SUBJECTS = ("subject-1", "subject-2")  # of the shared data sets
MADE = "subject-2"  # of a data set whose first subject is the shipped one
RAW = {CSF: 10, GM: 150, WM: 250}
PUBLISHED = {
    "T1": {(GM, WM): (0.70, 0.1), (CSF, GM): (0.36, 0.2), (CSF, WM): (0.27, 0.2)},
    "T2": {(GM, WM): (0.90, 0.1), (CSF, GM): (0.36, 0.2), (CSF, WM): (0.35, 0.2)},
}


@pytest.fixture(scope="module")
def atlas() -> Atlas:
    return load_atlas()


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, atlas: Atlas) -> Path:
    """A finished data set of two subjects: the shipped one, and one that this process makes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("core.datasets.synthetic.anatomy.load_atlas", lambda: atlas)
        return make_demo(tmp_path_factory.mktemp("demo") / "new" / "data", len(SUBJECTS), SHIPPED[0], workers=1)


@pytest.fixture(scope="module")
def made_by_workers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished data set of two subjects, made by two workers."""
    return make_demo(tmp_path_factory.mktemp("workers") / "demo", len(SUBJECTS), SEED, workers=2)


@pytest.mark.long
@pytest.mark.slow
def test_doctor_has_no_warning(made_by_workers: Path) -> None:
    report = check(made_by_workers)
    assert report.ok and not report.with_severity("warning")


@pytest.mark.slow
def test_files_are_those_of_iseg(demo: Path) -> None:
    names = {f"{s}-{kind}.nii.gz" for s in SUBJECTS for kind in ("T1", "T2", "label")}
    assert {p.name for p in demo.iterdir()} == names | {DEMO_MARKER, "README.txt"}
    for kind, dtype in (("T1", np.int16), ("T2", np.int16), ("label", np.uint8)):
        raw = gzip.decompress((demo / f"{MADE}-{kind}.nii.gz").read_bytes())
        assert np.frombuffer(raw, "<i4", 1)[0] == 348 and raw[344:348] == b"n+1\0"
        assert np.frombuffer(raw, "<i2", 4, 40).tolist() == [3, *SHAPE]
        assert np.frombuffer(raw, "<f4", 3, 80).tolist() == [1.0, 1.0, 1.0]
        assert b"synthetic" in raw[:348]
        image = nib.load(demo / f"{MADE}-{kind}.nii.gz")
        assert image.get_data_dtype() == dtype  # type: ignore[attr-defined]


@pytest.mark.slow
def test_files_state_the_orientation_and_position_of_the_template(demo: Path, atlas: Atlas) -> None:
    (package,) = getattr(find_spec("nilearn"), "submodule_search_locations", None) or ("",)
    (file,) = Path(package, "datasets", "data").glob("mni_icbm152_t1_*.nii.gz")
    template = nib.load(file).affine  # type: ignore[attr-defined]
    np.testing.assert_array_equal((template @ [*atlas.centre, 1])[:3], ATLAS_CENTRE_MM)
    for kind in ("T1", "T2", "label"):
        image: Any = nib.load(demo / f"{MADE}-{kind}.nii.gz")
        assert nib.aff2axcodes(image.affine) == nib.aff2axcodes(template) == ("R", "A", "S")  # type: ignore[attr-defined]
        np.testing.assert_array_equal(image.affine[:3, :3], template[:3, :3])
        np.testing.assert_allclose(image.affine[:3] @ [*(np.array(SHAPE) - 1) / 2, 1], ATLAS_CENTRE_MM)
        assert image.header["qform_code"] == image.header["sform_code"] == 1
        np.testing.assert_array_equal(image.get_qform(), image.affine)
    brain = np.argwhere(volume(demo, MADE, "label") > 0)
    middle = image.affine[:3] @ [*(brain.min(0) + brain.max(0)) / 2, 1]
    np.testing.assert_allclose(middle, ATLAS_CENTRE_MM, atol=8)
    assert load_subject(open_dataset(demo), MADE).geometry.oriented


@pytest.mark.slow
def test_demo_opens_as_synthetic_data_set(demo: Path) -> None:
    dataset = open_dataset(demo)
    assert dataset.synthetic
    assert dataset.ids == SUBJECTS
    assert dataset.modalities == ("T1", "T2")
    assert dataset.labels.raw_values == (0, 10, 150, 250)


@pytest.mark.slow
def test_marker_and_notice_identify_the_data(demo: Path) -> None:
    marker = json.loads((demo / DEMO_MARKER).read_text())
    assert (marker["synthetic"], marker["seed"], marker["subjects"]) == (True, SHIPPED[0], list(SUBJECTS))
    readme = " ".join((demo / "README.txt").read_text().split())
    assert "SYNTHETIC" in readme
    assert "Copyright (C) 1993-2009 Louis Collins, McConnell Brain Imaging Centre" in readme


@pytest.mark.slow
def test_intensities_are_inside_the_brain_and_far_from_the_border(demo: Path) -> None:
    label = volume(demo, MADE, "label")
    assert set(np.unique(label)) == {0, 10, 150, 250}
    for kind in ("T1", "T2"):
        np.testing.assert_array_equal(volume(demo, MADE, kind) > 0, label > 0)
    brain = np.argwhere(label)
    assert brain.min() >= 3
    assert (np.array(SHAPE) - brain.max(0) > 3).all()


@pytest.mark.slow
def test_tissue_shares_equal_the_published_ones(demo: Path) -> None:
    label = volume(demo, MADE, "label")
    for tissue, published in TISSUE_SHARES.items():
        assert (label == RAW[tissue]).sum() / (label > 0).sum() == pytest.approx(published, abs=0.04)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["T1", "T2"])
def test_histogram_overlaps_equal_the_published_ones(demo: Path, kind: str) -> None:
    image, label = volume(demo, MADE, kind), volume(demo, MADE, "label")
    values = image[label > 0]
    for pair, (published, tolerance) in PUBLISHED[kind].items():
        first, second = (np.histogram(image[label == RAW[t]], 64, (values.min(), values.max()))[0] for t in pair)
        overlap = np.minimum(first / first.sum(), second / second.sum()).sum()
        assert overlap == pytest.approx(published, abs=tolerance), pair


@pytest.mark.slow
def test_local_contrast_of_white_matter_exceeds_its_global_contrast(demo: Path) -> None:
    """The labels can be learned: histograms overlap over the brain, but edges remain."""
    image, label = volume(demo, MADE, "T1").astype(float), volume(demo, MADE, "label")
    grey, white = image[label == 150], image[label == 250]
    overall = (white.mean() - grey.mean()) / np.sqrt((white.var() + grey.var()) / 2)
    across = (label[:-4] == 150) & (label[4:] == 250)
    step = (image[4:] - image[:-4])[across]
    local = step.mean() / (step.std() / np.sqrt(2))
    assert local > 1.2 * overall > 0.5


@pytest.mark.long
@pytest.mark.slow
def test_folds_differ_between_subjects_of_equal_size(atlas: Atlas, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.datasets.synthetic.anatomy._draw_affine", lambda rng: np.eye(3) / 0.8)
    drawn = [draw_anatomy(atlas, np.random.default_rng(n)) for n in range(2)]
    white = []
    for anatomy in drawn:
        assert anatomy.min_jacobian > 0
        np.testing.assert_allclose(anatomy.fraction.sum(0), 1, atol=1e-5)
        mask = np.zeros(anatomy.brain.shape, bool)
        mask[anatomy.brain] = anatomy.tissue == WM
        white.append(mask)
    dice = 2 * (white[0] & white[1]).sum() / (white[0].sum() + white[1].sum())
    assert 0.4 < dice < 0.85


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="kills processes the POSIX way")
def test_killed_generation_is_completed_with_the_same_bytes(tmp_path: Path, made_by_workers: Path) -> None:
    """The second subject, alone in this process: it depends on nothing but the seed and its number."""
    folder = tmp_path / "demo"
    options = ["--subjects", "2", "--seed", str(SEED), "--workers", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "core", "demo", str(folder), *options],
        cwd=project_root(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not has_subject(folder, "subject-1") and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (folder / DEMO_MARKER).exists()
    assert (folder / UNFINISHED_DEMO_MARKER).exists()

    steps: list[tuple[int, int]] = []
    ensure_demo(folder, 2, SEED, progress=lambda *step: steps.append(step), workers=1)
    assert steps == [(1, 2), (2, 2)]
    assert contents(folder) == contents(made_by_workers)
    first, second = (volume(folder, subject, "label") for subject in SUBJECTS)
    assert (first != second).mean() > 0.01


@pytest.mark.long
@pytest.mark.slow
def test_shipped_subject_is_the_one_that_the_generator_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seed, number = SHIPPED
    shipped = demo_example_folder()
    monkeypatch.setattr("core.datasets.synthetic.demo_writer.demo_example_folder", lambda: tmp_path / "nothing")
    write_subject(tmp_path, seed, number)
    for kind in ("T1", "T2", "label"):  # libraries of other versions may round a few voxels otherwise
        made, kept = (volume(folder, f"subject-{number}", kind) for folder in (tmp_path, shipped))
        assert (np.abs(made.astype(float) - kept) > 1).mean() < 1e-4, kind
    monkeypatch.undo()
    steps: list[tuple[int, int]] = []
    folder = ensure_subject(tmp_path / "demo", f"subject-{number}", seed, lambda *step: steps.append(step))
    assert steps == [(0, 4), (4, 4)]
    copied = {name: data for name, data in contents(folder).items() if name.endswith(".nii.gz")}
    assert copied and copied == {name: (shipped / name).read_bytes() for name in copied}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ("core.errors.DatasetError('disk full')", "disk full"),
        ("MemoryError('17 MB')", "a worker ended with status 1: MemoryError: 17 MB"),
    ],
)
def test_failing_worker_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str, expected: str) -> None:
    (tmp_path / "nilearn").mkdir()  # a package whose import fails, only in the workers
    (tmp_path / "nilearn" / "__init__.py").write_text(f"import core.errors\nraise {error}\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(DatasetError) as caught:
        list(write_subjects(tmp_path, 0, [1, 2], workers=2))
    assert str(caught.value) == expected
