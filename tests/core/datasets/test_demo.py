"""The demo data: the layout, the published statistics, the same bytes again, a folder that survives interruptions."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from itertools import combinations
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from core.datasets import open_dataset
from core.datasets.synthetic.anatomy import CSF, GM, TISSUE_SHARES, WM, Atlas, draw_anatomy, load_atlas
from core.datasets.synthetic.contrast import overlap
from core.datasets.synthetic.demo import (
    DEMO_MARKER,
    UNFINISHED_MARKER,
    ensure_demo,
    ensure_subject,
    has_subject,
    make_demo,
    read_marker,
)
from core.datasets.synthetic.demo_writer import SHAPE, write_subject, write_subjects
from core.errors import DatasetError
from core.paths import project_root

SEED = 7
SUBJECTS = ("subject-1", "subject-2", "subject-3")
RAW = {CSF: 10, GM: 150, WM: 250}
PUBLISHED = {
    "T1": {(GM, WM): (0.70, 0.1), (CSF, GM): (0.36, 0.2), (CSF, WM): (0.27, 0.2)},
    "T2": {(GM, WM): (0.90, 0.1), (CSF, GM): (0.36, 0.2), (CSF, WM): (0.35, 0.2)},
}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def atlas() -> Atlas:
    return load_atlas()


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_demo(tmp_path_factory.mktemp("demo") / "new" / "data", len(SUBJECTS), SEED, workers=2)


def volume(folder: Path, subject: str, kind: str) -> np.ndarray:
    return np.asarray(nib.load(folder / f"{subject}-{kind}.hdr").dataobj)[..., 0]  # type: ignore[attr-defined]


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def test_files_are_those_of_iseg(demo: Path) -> None:
    pairs = {f"{s}-{kind}.{end}" for s in SUBJECTS for kind in ("T1", "T2", "label") for end in ("hdr", "img")}
    assert {p.name for p in demo.iterdir()} == pairs | {DEMO_MARKER, "README.txt"}
    for kind, dtype in (("T1", np.int16), ("T2", np.int16), ("label", np.uint8)):
        raw = (demo / f"subject-1-{kind}.hdr").read_bytes()
        assert len(raw) == 348
        assert np.frombuffer(raw, "<i4", 1)[0] == 348
        assert np.frombuffer(raw, "<i2", 5, 40).tolist() == [4, *SHAPE, 1]
        assert np.frombuffer(raw, "<f4", 3, 80).tolist() == [1.0, 1.0, 1.0]
        assert b"synthetic" in raw
        image = nib.load(demo / f"subject-1-{kind}.hdr")
        assert image.get_data_dtype() == dtype  # type: ignore[attr-defined]


def test_opens_as_a_synthetic_data_set(demo: Path) -> None:
    dataset = open_dataset(demo)
    assert dataset.synthetic
    assert dataset.ids == SUBJECTS
    assert dataset.modalities == ("T1", "T2")
    assert dataset.labels.raw_values == (0, 10, 150, 250)


def test_says_what_it_is_and_keeps_the_notice(demo: Path) -> None:
    marker = json.loads((demo / DEMO_MARKER).read_text())
    assert (marker["synthetic"], marker["seed"], marker["subjects"]) == (True, SEED, list(SUBJECTS))
    readme = " ".join((demo / "README.txt").read_text().split())
    assert "SYNTHETIC" in readme
    assert "Copyright (C) 1993-2009 Louis Collins, McConnell Brain Imaging Centre" in readme


def test_only_the_brain_has_intensities_and_it_is_far_from_every_border(demo: Path) -> None:
    for subject in SUBJECTS:
        label = volume(demo, subject, "label")
        assert set(np.unique(label)) == {0, 10, 150, 250}
        for kind in ("T1", "T2"):
            np.testing.assert_array_equal(volume(demo, subject, kind) > 0, label > 0)
        brain = np.argwhere(label)
        assert brain.min() >= 3
        assert (np.array(SHAPE) - brain.max(0) > 3).all()


def test_tissue_shares_are_the_published_ones(demo: Path) -> None:
    labels = [volume(demo, s, "label") for s in SUBJECTS]
    for tissue, published in TISSUE_SHARES.items():
        share = np.mean([(x == RAW[tissue]).sum() / (x > 0).sum() for x in labels])
        assert share == pytest.approx(published, abs=0.04)


@pytest.mark.parametrize("kind", ["T1", "T2"])
def test_histograms_overlap_as_published(demo: Path, kind: str) -> None:
    measured: dict[tuple[int, int], list[float]] = {pair: [] for pair in PUBLISHED[kind]}
    for subject in SUBJECTS:
        image, label = volume(demo, subject, kind), volume(demo, subject, "label")
        values = image[label > 0]
        for pair in measured:
            first, second = (np.histogram(image[label == RAW[t]], 64, (values.min(), values.max()))[0] for t in pair)
            measured[pair].append(np.minimum(first / first.sum(), second / second.sum()).sum())
    for pair, (published, tolerance) in PUBLISHED[kind].items():
        assert np.mean(measured[pair]) == pytest.approx(published, abs=tolerance), pair


def test_white_matter_differs_from_its_neighbourhood_more_than_from_all_grey_matter(demo: Path) -> None:
    """What makes the labels learnable: histograms overlap over the brain, but edges remain."""
    image, label = volume(demo, "subject-1", "T1").astype(float), volume(demo, "subject-1", "label")
    grey, white = image[label == 150], image[label == 250]
    whole = (white.mean() - grey.mean()) / np.sqrt((white.var() + grey.var()) / 2)
    across = (label[:-4] == 150) & (label[4:] == 250)
    step = (image[4:] - image[:-4])[across]
    beside = step.mean() / (step.std() / np.sqrt(2))
    assert beside > 1.2 * whole > 0.5


def test_folds_differ_between_subjects_of_one_size(atlas: Atlas, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.datasets.synthetic.anatomy._subject_to_atlas", lambda rng: np.eye(3) / 0.8)
    drawn = [draw_anatomy(atlas, np.random.default_rng(n)) for n in range(2)]
    white = []
    for anatomy in drawn:
        assert anatomy.smallest_jacobian > 0
        np.testing.assert_allclose(anatomy.fraction.sum(0), 1, atol=1e-5)
        mask = np.zeros(anatomy.brain.shape, bool)
        mask[anatomy.brain] = anatomy.tissue == WM
        white.append(mask)
    dice = 2 * (white[0] & white[1]).sum() / (white[0].sum() + white[1].sum())
    assert 0.4 < dice < 0.85


def test_subject_depends_on_seed_and_number_alone(demo: Path, atlas: Atlas, tmp_path: Path) -> None:
    write_subject(tmp_path, SEED, 2, atlas)
    again = contents(tmp_path)
    assert len(again) == 6
    assert again == {name: data for name, data in contents(demo).items() if name.startswith("subject-2-")}
    labels = [volume(demo, s, "label") for s in SUBJECTS]
    assert all((a != b).mean() > 0.01 for a, b in combinations(labels, 2))


def test_finished_folder_is_left_alone_and_a_damaged_one_repaired(demo: Path) -> None:
    before = {p.name: p.stat().st_mtime_ns for p in demo.iterdir()}
    seen: list[tuple[int, int]] = []
    assert make_demo(demo, len(SUBJECTS), SEED, progress=lambda *p: seen.append(p)) == demo
    assert ensure_demo(demo) == demo, "whatever its number of subjects and seed"
    assert seen == [(3, 3)]
    assert {p.name: p.stat().st_mtime_ns for p in demo.iterdir()} == before

    whole = (demo / "subject-3-T2.img").read_bytes()
    (demo / "subject-3-T2.img").write_bytes(whole[:1000])
    ensure_demo(demo, progress=lambda *p: seen.append(p))
    assert seen[1:] == [(2, 3), (3, 3)]
    assert (demo / "subject-3-T2.img").read_bytes() == whole
    assert (demo / "subject-1-T1.img").stat().st_mtime_ns == before["subject-1-T1.img"]


def test_finished_folder_is_not_turned_into_another(demo: Path) -> None:
    with pytest.raises(DatasetError, match=r"of seed 7 .* not of seed 8"):
        make_demo(demo, len(SUBJECTS), SEED + 1)
    with pytest.raises(DatasetError, match=r"already holds demo data with 3 subjects, more than the 2"):
        make_demo(demo, 2, SEED)


@pytest.mark.skipif(sys.platform == "win32", reason="kills processes the POSIX way")
def test_killed_half_way_goes_on_where_it_was(tmp_path: Path, demo: Path) -> None:
    folder = tmp_path / "demo"
    command = [
        sys.executable,
        "-m",
        "core",
        "demo",
        str(folder),
        "--subjects",
        "3",
        "--seed",
        str(SEED),
        "--workers",
        "2",
    ]
    root = project_root()
    process = subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(folder.glob("subject-*-T1.hdr")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (folder / DEMO_MARKER).exists()
    assert (folder / UNFINISHED_MARKER).exists()

    seen: list[tuple[int, int]] = []
    ensure_demo(folder, 3, SEED, progress=lambda *p: seen.append(p), workers=1)
    assert seen[0][0] >= 1
    assert seen[-1] == (3, 3)
    assert contents(folder) == contents(demo)


def test_one_subject_alone_and_the_others_later(demo: Path, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "demo"
    told: list[tuple[int, int]] = []
    assert not has_subject(folder, "subject-2")
    assert ensure_subject(folder, "subject-2", SEED, lambda *done: told.append(done)) == folder
    assert told == [(n, 4) for n in range(5)]
    made = contents(folder)
    assert {n: b for n, b in contents(demo).items() if n.startswith("subject-2-")}.items() <= made.items()
    assert read_marker(folder) is None and UNFINISHED_MARKER in made
    dataset = open_dataset(folder)
    assert dataset.synthetic and dataset.ids == ("subject-2",)
    ensure_subject(folder, "subject-2", SEED, lambda *done: pytest.fail("it is there"))
    with pytest.raises(DatasetError, match=rf"holds demo data of seed {SEED}.*, not of seed 5"):
        ensure_subject(folder, "subject-1", 5)
    make_demo(folder, len(SUBJECTS), SEED, workers=2)
    assert contents(folder) == contents(demo)


def test_one_subject_of_a_finished_folder_is_mended_but_never_added(demo: Path, tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    shutil.copytree(demo, folder)
    (folder / "subject-1-T1.img").unlink()
    assert not has_subject(folder, "subject-1")
    ensure_subject(folder, "subject-1", SEED)
    assert contents(folder) == contents(demo)
    with pytest.raises(DatasetError, match=r"with 3 subjects and no subject-4; make more with --subjects 4"):
        ensure_subject(folder, "subject-4", SEED)
    assert contents(folder) == contents(demo)


@pytest.mark.parametrize("name", ["subject-0", "subject-01", "subject-1001", "../subject-1", "", "subject-1 "])
def test_only_subjects_of_the_demo_can_be_made(tmp_path: Path, name: str) -> None:
    with pytest.raises(DatasetError):
        ensure_subject(tmp_path / "demo", name)
    assert not (tmp_path / "demo").exists()


def test_failing_worker_is_reported(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"cannot write to .*nowhere: No such file"):
        list(write_subjects(tmp_path / "nowhere", 0, [1, 2], workers=2))


def test_other_folders_are_refused_untouched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(DatasetError, match=r"expected an empty or new folder.*thesis\.tex.*choose another"):
        make_demo(tmp_path)
    with pytest.raises(DatasetError, match="is a file"):
        make_demo(tmp_path / "thesis.tex")
    with pytest.raises(DatasetError, match="is a file"):
        ensure_demo(tmp_path / "thesis.tex" / "demo")
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_damaged_marker_is_named(tmp_path: Path) -> None:
    (tmp_path / DEMO_MARKER).write_text('{"subjects": 3}')
    with pytest.raises(DatasetError, match=r"segmentarium-demo\.json is damaged"):
        ensure_demo(tmp_path)
    assert read_marker(tmp_path / "elsewhere") is None


@pytest.mark.parametrize(("name", "value"), [("subjects", 0), ("subjects", 1001), ("seed", -1), ("workers", 0)])
def test_numbers_are_checked_before_anything_is_written(tmp_path: Path, name: str, value: int) -> None:
    with pytest.raises(DatasetError, match=rf"{name} must be a whole number from .* got {value}"):
        make_demo(tmp_path / "demo", **{name: value})  # type: ignore[arg-type]
    assert not (tmp_path / "demo").exists()


def test_too_little_room_is_said_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("usage", (), {"free": 50_000_000})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(DatasetError, match=r"10 subjects need 355 MB, but only 50 MB are free"):
        make_demo(tmp_path / "demo")


def test_overlap_by_hand() -> None:
    first, second = np.array([0.0, 0.0, 1.0, 63.0]), np.array([0.0, 1.0, 1.0, 1.0])
    assert overlap(first, second, 0, 64) == pytest.approx(0.25 + 0.25)
    assert overlap(first, first + 0.5, 0, 64) == 1
    assert overlap(first[:2], second[1:], 0, 64) == 0


def test_import_is_light() -> None:
    code = "import core.datasets.synthetic.demo, sys; print({'torch', 'nilearn', 'scipy.ndimage'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=project_root(), capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr
