"""Folders of demo data: completed, extended, repaired, refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from core.datasets import fingerprint, open_dataset
from core.datasets.doctor import check
from core.datasets.layouts.iseg import DEMO_MARKER, UNFINISHED_DEMO_MARKER
from core.datasets.synthetic.contrast import histogram_overlap
from core.datasets.synthetic.demo import ensure_demo, ensure_subject, has_subject, make_demo, planned_demo, read_marker
from core.datasets.synthetic.demo_writer import write_subject
from core.errors import DatasetError
from core.paths import project_root
from tests.support.demo_files import contents, volume
from tests.support.quick_demo import replace_generator

SEED = 7


@pytest.fixture
def quick_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    replace_generator(monkeypatch)


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
    planned, geometry = planned_demo(), fingerprint(dataset, dataset.ids)
    assert (planned.ids[1], planned.shapes[1], planned.spacings_mm[1]) == (
        "subject-2", geometry.shapes["subject-2"], geometry.spacings_mm["subject-2"],
    )  # fmt: skip
    assert planned.modalities == dataset.modalities
    assert planned.colours == {label.name: label.colour for label in dataset.labels.foreground}
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


@pytest.mark.usefixtures("quick_generator")
def test_unwritable_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"cannot write to .*missing: No such file"):
        write_subject(tmp_path / "missing", SEED, 1)


@pytest.mark.parametrize("name", ["subject-0", "subject-01", "subject-1001", "../subject-1", "", "subject-1 "])
def test_invalid_subject_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DatasetError):
        ensure_subject(tmp_path / "demo", name)
    assert not (tmp_path / "demo").exists()


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
