"""Demo data: files and statistics as in iSEG-2017, reproducible bytes, completion of interrupted folders."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
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
from core.datasets.synthetic.contrast import histogram_overlap
from core.datasets.synthetic.demo import ensure_demo, ensure_subject, has_subject, make_demo, read_marker
from core.datasets.synthetic.demo_writer import SHAPE, SHIPPED, write_subject, write_subjects
from core.errors import DatasetError
from core.paths import demo_example_folder, project_root
from tests.support.quick_demo import replace_generator

SEED = 7
SUBJECTS = ("subject-1", "subject-2")  # of the shared data set
RAW = {CSF: 10, GM: 150, WM: 250}
PUBLISHED = {
    "T1": {(GM, WM): (0.70, 0.1), (CSF, GM): (0.36, 0.2), (CSF, WM): (0.27, 0.2)},
    "T2": {(GM, WM): (0.90, 0.1), (CSF, GM): (0.36, 0.2), (CSF, WM): (0.35, 0.2)},
}


@pytest.fixture(scope="module")
def atlas() -> Atlas:
    return load_atlas()


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished data set of two subjects, made by two workers."""
    return make_demo(tmp_path_factory.mktemp("demo") / "new" / "data", len(SUBJECTS), SEED, workers=2)


@pytest.fixture
def quick_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    replace_generator(monkeypatch)


def volume(folder: Path, subject: str, kind: str) -> np.ndarray:
    return np.asarray(nib.load(folder / f"{subject}-{kind}.nii.gz").dataobj)  # type: ignore[attr-defined]


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


@pytest.mark.slow
def test_doctor_has_no_warning(demo: Path) -> None:
    report = check(demo)
    assert report.ok and not report.with_severity("warning")


@pytest.mark.slow
def test_files_are_those_of_iseg(demo: Path) -> None:
    names = {f"{s}-{kind}.nii.gz" for s in SUBJECTS for kind in ("T1", "T2", "label")}
    assert {p.name for p in demo.iterdir()} == names | {DEMO_MARKER, "README.txt"}
    for kind, dtype in (("T1", np.int16), ("T2", np.int16), ("label", np.uint8)):
        raw = gzip.decompress((demo / f"subject-1-{kind}.nii.gz").read_bytes())
        assert np.frombuffer(raw, "<i4", 1)[0] == 348 and raw[344:348] == b"n+1\0"
        assert np.frombuffer(raw, "<i2", 4, 40).tolist() == [3, *SHAPE]
        assert np.frombuffer(raw, "<f4", 3, 80).tolist() == [1.0, 1.0, 1.0]
        assert b"synthetic" in raw[:348]
        image = nib.load(demo / f"subject-1-{kind}.nii.gz")
        assert image.get_data_dtype() == dtype  # type: ignore[attr-defined]


@pytest.mark.slow
def test_files_state_the_orientation_and_position_of_the_template(demo: Path, atlas: Atlas) -> None:
    from nilearn.datasets import load_mni152_template

    template = load_mni152_template(resolution=1).affine
    np.testing.assert_array_equal((template @ [*atlas.centre, 1])[:3], ATLAS_CENTRE_MM)
    for kind in ("T1", "T2", "label"):
        image: Any = nib.load(demo / f"subject-1-{kind}.nii.gz")
        assert nib.aff2axcodes(image.affine) == nib.aff2axcodes(template) == ("R", "A", "S")  # type: ignore[attr-defined]
        np.testing.assert_array_equal(image.affine[:3, :3], template[:3, :3])
        np.testing.assert_allclose(image.affine[:3] @ [*(np.array(SHAPE) - 1) / 2, 1], ATLAS_CENTRE_MM)
        assert image.header["qform_code"] == image.header["sform_code"] == 1
        np.testing.assert_array_equal(image.get_qform(), image.affine)
    brain = np.argwhere(volume(demo, "subject-1", "label") > 0)
    middle = image.affine[:3] @ [*(brain.min(0) + brain.max(0)) / 2, 1]
    np.testing.assert_allclose(middle, ATLAS_CENTRE_MM, atol=8)
    assert load_subject(open_dataset(demo), "subject-1").geometry.oriented


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
    assert (marker["synthetic"], marker["seed"], marker["subjects"]) == (True, SEED, list(SUBJECTS))
    readme = " ".join((demo / "README.txt").read_text().split())
    assert "SYNTHETIC" in readme
    assert "Copyright (C) 1993-2009 Louis Collins, McConnell Brain Imaging Centre" in readme


@pytest.mark.slow
def test_intensities_are_inside_the_brain_and_far_from_the_border(demo: Path) -> None:
    for subject in SUBJECTS:
        label = volume(demo, subject, "label")
        assert set(np.unique(label)) == {0, 10, 150, 250}
        for kind in ("T1", "T2"):
            np.testing.assert_array_equal(volume(demo, subject, kind) > 0, label > 0)
        brain = np.argwhere(label)
        assert brain.min() >= 3
        assert (np.array(SHAPE) - brain.max(0) > 3).all()


@pytest.mark.slow
def test_tissue_shares_equal_the_published_ones(demo: Path) -> None:
    labels = [volume(demo, s, "label") for s in SUBJECTS]
    for tissue, published in TISSUE_SHARES.items():
        share = np.mean([(x == RAW[tissue]).sum() / (x > 0).sum() for x in labels])
        assert share == pytest.approx(published, abs=0.04)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["T1", "T2"])
def test_histogram_overlaps_equal_the_published_ones(demo: Path, kind: str) -> None:
    measured: dict[tuple[int, int], list[float]] = {pair: [] for pair in PUBLISHED[kind]}
    for subject in SUBJECTS:
        image, label = volume(demo, subject, kind), volume(demo, subject, "label")
        values = image[label > 0]
        for pair in measured:
            first, second = (np.histogram(image[label == RAW[t]], 64, (values.min(), values.max()))[0] for t in pair)
            measured[pair].append(np.minimum(first / first.sum(), second / second.sum()).sum())
    for pair, (published, tolerance) in PUBLISHED[kind].items():
        assert np.mean(measured[pair]) == pytest.approx(published, abs=tolerance), pair


@pytest.mark.slow
def test_local_contrast_of_white_matter_exceeds_its_global_contrast(demo: Path) -> None:
    """The labels can be learned: histograms overlap over the brain, but edges remain."""
    image, label = volume(demo, "subject-1", "T1").astype(float), volume(demo, "subject-1", "label")
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
@pytest.mark.slow
def test_subject_depends_only_on_seed_and_number(demo: Path, atlas: Atlas, tmp_path: Path) -> None:
    write_subject(tmp_path, SEED, 2, atlas)
    again = contents(tmp_path)
    assert len(again) == 3
    assert again == {name: data for name, data in contents(demo).items() if name.startswith("subject-2-")}
    first, second = (volume(demo, s, "label") for s in SUBJECTS)
    assert (first != second).mean() > 0.01


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="kills processes the POSIX way")
def test_killed_generation_is_completed_with_the_same_bytes(tmp_path: Path, demo: Path) -> None:
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
    assert contents(folder) == contents(demo)


@pytest.mark.slow
@pytest.mark.usefixtures("quick_generator")
def test_finished_folder_is_unchanged_and_damaged_one_repaired(tmp_path: Path) -> None:
    demo = make_demo(tmp_path / "demo", 3, SEED, workers=1)
    before = {p.name: p.stat().st_mtime_ns for p in demo.iterdir()}
    steps: list[tuple[int, int]] = []
    assert make_demo(demo, 3, SEED, progress=lambda *step: steps.append(step)) == demo
    assert ensure_demo(demo) == demo, "for any number of subjects and seed"
    assert steps == [(3, 3)]
    assert {p.name: p.stat().st_mtime_ns for p in demo.iterdir()} == before

    intact = (demo / "subject-3-T2.nii.gz").read_bytes()
    (demo / "subject-3-T2.nii.gz").write_bytes(intact[:1000])
    ensure_demo(demo, progress=lambda *step: steps.append(step))
    assert steps[1:] == [(2, 3), (3, 3)]
    assert (demo / "subject-3-T2.nii.gz").read_bytes() == intact
    assert (demo / "subject-1-T1.nii.gz").stat().st_mtime_ns == before["subject-1-T1.nii.gz"]


@pytest.mark.slow
@pytest.mark.usefixtures("quick_generator")
def test_finished_folder_is_extended_but_keeps_its_seed_and_subjects(tmp_path: Path) -> None:
    demo = make_demo(tmp_path / "demo", 1, SEED, workers=1)
    make_demo(demo, 2, SEED, workers=1)
    assert (marker := read_marker(demo)) is not None and marker.subjects == ("subject-1", "subject-2")
    with pytest.raises(DatasetError, match=r"of seed 7 .* not of seed 8"):
        make_demo(demo, 2, SEED + 1)
    with pytest.raises(DatasetError, match=r"already holds demo data with 2 subjects, more than the 1"):
        make_demo(demo, 1, SEED)


@pytest.mark.slow
@pytest.mark.usefixtures("quick_generator")
def test_single_subject_is_made_first_and_the_others_later(tmp_path: Path) -> None:
    complete = make_demo(tmp_path / "complete", 3, SEED, workers=1)
    folder = tmp_path / "new" / "demo"
    steps: list[tuple[int, int]] = []
    assert not has_subject(folder, "subject-2")
    assert ensure_subject(folder, "subject-2", SEED, lambda *step: steps.append(step)) == folder
    assert steps == [(n, 4) for n in range(5)]
    made = contents(folder)
    assert {n: b for n, b in contents(complete).items() if n.startswith("subject-2-")}.items() <= made.items()
    assert read_marker(folder) is None and UNFINISHED_DEMO_MARKER in made
    dataset = open_dataset(folder)
    assert dataset.synthetic and dataset.ids == ("subject-2",)
    ensure_subject(folder, "subject-2", SEED, lambda *step: pytest.fail("the subject exists"))
    with pytest.raises(DatasetError, match=rf"holds demo data of seed {SEED}.*, not of seed 5"):
        ensure_subject(folder, "subject-1", 5)
    make_demo(folder, 3, SEED, workers=1)
    assert contents(folder) == contents(complete)


@pytest.mark.slow
@pytest.mark.usefixtures("quick_generator")
def test_single_subject_of_a_finished_folder_is_repaired_but_never_added(tmp_path: Path) -> None:
    folder = make_demo(tmp_path / "demo", 3, SEED, workers=1)
    before = contents(folder)
    (folder / "subject-1-T1.nii.gz").unlink()
    assert not has_subject(folder, "subject-1")
    ensure_subject(folder, "subject-1", SEED)
    assert contents(folder) == before
    with pytest.raises(DatasetError, match=r"with 3 subjects and no subject-4; make more with --subjects 4"):
        ensure_subject(folder, "subject-4", SEED)
    assert contents(folder) == before


def as_analyze_pairs(folder: Path, subjects: tuple[str, ...]) -> None:
    """Turn subjects of a demo folder into the files of version 0.1."""
    for path in [folder / f"{s}-{kind}.nii.gz" for s in subjects for kind in ("T1", "T2", "label")]:
        image: Any = nib.load(path)
        pair = nib.AnalyzeImage(np.asarray(image.dataobj)[..., None], None)
        pair.header.set_data_dtype(image.get_data_dtype())
        nib.save(pair, path.with_name(path.name.replace(".nii.gz", ".hdr")))  # type: ignore[attr-defined]
        path.unlink()
    for marker in folder.glob("segmentarium-demo*.json"):
        marker.write_text(marker.read_text().replace('"version": 2', '"version": 1'))


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.usefixtures("quick_generator")
def test_folders_of_version_0_1_are_used_completed_and_repaired(tmp_path: Path) -> None:
    folder = make_demo(tmp_path / "finished", 2, SEED, workers=1)
    labels = volume(folder, "subject-2", "label")
    as_analyze_pairs(folder, ("subject-1", "subject-2"))
    before = contents(folder)
    assert len(before) == 14 and has_subject(folder, "subject-1")
    assert ensure_demo(folder) == folder and contents(folder) == before, "finished: as it is"
    assert open_dataset(folder).ids == ("subject-1", "subject-2") and check(folder).ok
    (folder / "subject-2-T1.img").unlink()
    ensure_demo(folder, workers=1)
    assert not list(folder.glob("subject-2-*.hdr")), "a damaged subject is made anew, in one format"
    np.testing.assert_array_equal(volume(folder, "subject-2", "label"), labels)
    assert len(open_dataset(folder).ids) == 2

    folder = ensure_subject(tmp_path / "unfinished", "subject-2", SEED)
    as_analyze_pairs(folder, ("subject-2",))
    make_demo(folder, 3, SEED, workers=1)
    assert open_dataset(folder).ids == ("subject-1", "subject-2", "subject-3") and check(folder).ok
    assert (folder / "subject-2-T1.img").is_file()


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


@pytest.mark.usefixtures("quick_generator")
def test_unwritable_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"cannot write to .*missing: No such file"):
        write_subject(tmp_path / "missing", SEED, 1)


@pytest.mark.parametrize("name", ["subject-0", "subject-01", "subject-1001", "../subject-1", "", "subject-1 "])
def test_invalid_subject_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DatasetError):
        ensure_subject(tmp_path / "demo", name)
    assert not (tmp_path / "demo").exists()


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


def test_folder_with_other_files_is_refused_unchanged(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(DatasetError, match=r"expected an empty or new folder.*thesis\.tex.*choose another"):
        make_demo(tmp_path)
    with pytest.raises(DatasetError, match="is a file"):
        make_demo(tmp_path / "thesis.tex")
    with pytest.raises(DatasetError, match="is a file"):
        ensure_demo(tmp_path / "thesis.tex" / "demo")
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_damaged_marker_is_reported(tmp_path: Path) -> None:
    (tmp_path / DEMO_MARKER).write_text('{"subjects": 3}')
    with pytest.raises(DatasetError, match=r"segmentarium-demo\.json is damaged"):
        ensure_demo(tmp_path)
    assert read_marker(tmp_path / "elsewhere") is None


@pytest.mark.parametrize(("name", "value"), [("subjects", 0), ("subjects", 1001), ("seed", -1), ("workers", 0)])
def test_numbers_are_checked_before_writing(tmp_path: Path, name: str, value: int) -> None:
    with pytest.raises(DatasetError, match=rf"{name} must be a whole number from .* got {value}"):
        make_demo(tmp_path / "demo", **{name: value})  # type: ignore[arg-type]
    assert not (tmp_path / "demo").exists()


def test_insufficient_room_is_reported_before_generation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("usage", (), {"free": 20_000_000})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(DatasetError, match=r"10 subjects need 41 MB, but only 20 MB are free"):
        make_demo(tmp_path / "demo")


def test_histogram_overlap_equals_hand_computed_values() -> None:
    first, second = np.array([0.0, 0.0, 1.0, 63.0]), np.array([0.0, 1.0, 1.0, 1.0])
    assert histogram_overlap(first, second, 0, 64) == pytest.approx(0.25 + 0.25)
    assert histogram_overlap(first, first + 0.5, 0, 64) == 1
    assert histogram_overlap(first[:2], second[1:], 0, 64) == 0


def test_import_loads_neither_torch_nor_nilearn_nor_scipy() -> None:
    code = "import core.datasets.synthetic.demo, sys; print({'torch', 'nilearn', 'scipy.ndimage'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=project_root(), capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr
