"""One judgement of a data set: what the data doctor calls fit can be trained on, and what it calls unfit is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from core.config import SplitConfig, TrainConfig
from core.datasets import DataOptions, open_dataset
from core.datasets.doctor import check
from core.datasets.findings import NOT_TRAINED_ON
from core.datasets.fitness import judge_files, judge_split
from core.datasets.splits import Split
from core.errors import DatasetError
from core.events import Event, Note, Ready
from core.runs.launch import resolve_config
from core.training.experiment import train_run
from tests.support.balls import tiny
from tests.support.heads import SHAPE, list_cases, listed_cases, write_heads
from tests.support.volume_files import SHAPE as VOXELS
from tests.support.volume_files import make_nnunet, write_nifti

FAST = {"channels": (4, 8), "sub_volume": (8, 8, 8), "samples_train": 2, "samples_val": 0, "epochs": 1, "folds": 5}


def train(folder: Path, run: Path, **values: object) -> list[Event]:
    """Train as the command does: the checks of the launch, then the trainer."""
    config: TrainConfig = resolve_config(run, tiny(path=str(folder), **{**FAST, **values}))
    run.mkdir(exist_ok=True)
    events: list[Event] = []
    train_run(config, run, events.append)
    return events


@pytest.mark.slow
@pytest.mark.parametrize("cases", [2, 3, 4, 5])
def test_few_subjects_that_are_fit_train_with_default_folds(tmp_path: Path, cases: int) -> None:
    folder = write_heads(tmp_path / "data", cases)
    assert check(folder).ok
    events = train(folder, tmp_path / "run", folds=SplitConfig().folds)
    facts = next(e for e in events if isinstance(e, Ready)).facts
    assert facts["subjects"] == f"{cases - 1} train, 1 validate, 0 test"
    assert facts.get("folds", "") == (f"{cases}, one per subject, instead of 5" if cases < 5 else "")


def without_label(folder: Path) -> None:
    *cases, last = listed_cases(folder)
    list_cases(folder, [*cases, {"image": last["image"]}])


def with_missing_label_file(folder: Path) -> None:
    (folder / "labelsTr" / "case_2.nii.gz").unlink()


def with_empty_labels(folder: Path) -> None:
    for path in (folder / "labelsTr").iterdir():
        write_nifti(path, np.zeros(SHAPE, np.uint8), np.eye(4))


def with_constant_image(folder: Path) -> None:
    write_nifti(folder / "imagesTr" / "case_3.nii.gz", np.full(SHAPE, 7, np.float32), np.eye(4))


def with_one_case(folder: Path) -> None:
    list_cases(folder, listed_cases(folder)[:1])


UNFIT: dict[str, tuple[Callable[[Path], None], str]] = {
    "entry without label": (without_label, "case_5: expected a label map, found none"),
    "missing label file": (with_missing_label_file, "case_2.*found nothing there"),
    "all labels empty": (with_empty_labels, "only background in every label map"),
    "constant image": (with_constant_image, "case_3: .*CT with the value 7 in every voxel"),
    "one case": (with_one_case, "at least 2 subjects"),
}


@pytest.mark.parametrize("fault", UNFIT)
def test_what_the_doctor_calls_unfit_is_not_trained_on(tmp_path: Path, fault: str) -> None:
    change, message = UNFIT[fault]
    change(write_heads(tmp_path / "data"))
    report = check(tmp_path / "data")
    assert not report.ok
    with pytest.raises(DatasetError, match=message):
        train(tmp_path / "data", tmp_path / "run", folds=3 if fault != "one case" else 5)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["entry without label", "all labels empty", "constant image"])
def test_forced_training_goes_on_and_says_what_is_wrong(tmp_path: Path, fault: str) -> None:
    change, _ = UNFIT[fault]
    change(write_heads(tmp_path / "data"))
    events = train(tmp_path / "data", tmp_path / "run", force=True)
    assert any(isinstance(e, Ready) for e in events)
    if fault != "entry without label":
        assert any(isinstance(e, Note) and e.text.startswith("error: ") for e in events)
        assert "warning" in next(e for e in events if isinstance(e, Ready)).facts


def test_refusal_names_the_first_errors_and_the_way_on(tmp_path: Path) -> None:
    folder = write_heads(tmp_path / "data")
    list_cases(folder, [{"image": case["image"]} for case in listed_cases(folder)[:4]] + listed_cases(folder)[4:])
    with pytest.raises(DatasetError, match="expected at least 2 subjects with labels"):
        resolve_config(tmp_path, tiny(path=str(folder)))
    shutil.rmtree(folder)
    write_heads(folder, 8)
    list_cases(folder, [{"image": case["image"]} for case in listed_cases(folder)[:4]] + listed_cases(folder)[4:])
    with pytest.raises(DatasetError, match=r"4 errors: case_1: .*case_3: .*and 1 more; .*--force"):
        resolve_config(tmp_path, tiny(path=str(folder)))


@pytest.mark.parametrize(("fault", "offered"), [(without_label, True), (with_missing_label_file, False)])
def test_forcing_is_offered_only_where_it_helps(tmp_path: Path, fault: Callable[[Path], None], offered: bool) -> None:
    folder = write_heads(tmp_path / "data")
    fault(folder)
    with pytest.raises(DatasetError, match="ready for training") as caught:
        resolve_config(tmp_path, tiny(path=str(folder)))
    assert ("train anyway with --force" in str(caught.value)) == offered


def test_subjects_and_modalities_that_are_not_used_are_not_judged(tmp_path: Path) -> None:
    folder = write_heads(tmp_path / "data")
    (folder / "imagesTr" / "case_2.nii.gz").unlink()
    resolve_config(tmp_path, tiny(path=str(folder), test_subjects=("case_2",)))
    with pytest.raises(DatasetError, match="case_2"):
        resolve_config(tmp_path, tiny(path=str(folder)))


@pytest.mark.slow
def test_class_in_no_training_subject_is_reported_before_training(tmp_path: Path) -> None:
    folder = write_heads(tmp_path / "data", labels={"0": "background", "1": "blob", "2": "rare"})
    path = folder / "labelsTr" / "case_4.nii.gz"
    label = np.zeros(SHAPE, np.uint8)
    label[4:8, 4:8, 4:8], label[12:16, 12:16, 12:16] = 2, 1
    write_nifti(path, label, np.eye(4))
    events = train(folder, tmp_path / "run", val_subjects=("case_4",))
    notes = [e.text for e in events if isinstance(e, Note)]
    assert any("no training subject holds the class rare: it cannot be learned" in note for note in notes)
    ready = next(n for n, e in enumerate(events) if isinstance(e, Ready))
    first = next(n for n, e in enumerate(events) if isinstance(e, Note) and "rare" in e.text)
    assert first < ready and "rare" in events[ready].facts["warning"]  # type: ignore[union-attr]
    events = train(folder, tmp_path / "other", val_subjects=("case_1",))
    assert "warning" not in next(e for e in events if isinstance(e, Ready)).facts


def test_split_is_judged_by_the_classes_of_its_subjects() -> None:
    shares = {"a": {"x": 0.1, "y": 0.0, "z": 0.0}, "b": {"x": 0.1, "y": 0.2, "z": 0.0}}
    (warning,) = judge_split(("x", "y", "z"), shares, Split(("a",), ("b",)))
    assert warning.severity == "warning" and "class y" in warning.message and "it is in b" in warning.fix
    (note,) = judge_split(("x", "y", "z"), shares, Split(("b",), ("a",)))
    assert note.severity == "note" and "no held-out subject holds the class y" in note.message


def with_test_image(folder: Path, name: str = "case_9") -> Path:
    """Add an image without a label map, for prediction."""
    (folder / "imagesTs").mkdir(exist_ok=True)
    return Path(shutil.copy(folder / "imagesTr" / "case_1.nii.gz", folder / "imagesTs" / f"{name}.nii.gz"))


def test_a_file_that_training_does_not_read_is_warned_of_and_does_not_keep_it_from_starting(tmp_path: Path) -> None:
    folder = write_heads(tmp_path / "data")
    with_test_image(folder).write_bytes(b"nothing")
    report = check(folder)
    assert report.ok, report.findings
    (found,) = (f for f in report.findings if f.subject == "case_9")
    assert found.severity == "warning" and found.meaning == NOT_TRAINED_ON and "case_9.nii.gz" in found.file
    assert not {s.id: s.ok for s in report.subjects}["case_9"], "its row shows that it cannot be read"
    resolve_config(tmp_path, tiny(path=str(folder)))


def test_a_left_out_case_with_other_grids_is_warned_of_as_training_leaves_it_out(tmp_path: Path) -> None:
    folder = make_nnunet(tmp_path / "data", subjects=4, channels=3)
    (folder / "imagesTr" / "case_002_0002.nii.gz").unlink()
    write_nifti(folder / "imagesTr" / "case_002_0001.nii.gz", np.ones((3, 4, 5), np.float32))
    for choice, fit in (("leave_out", True), ("zero", False)):
        options = DataOptions(missing_modalities=choice)
        findings = [f for f in check(folder, options=options).findings if "does not fit the first image" in f.message]
        assert [f.severity for f in findings] == ["warning" if fit else "error"]
        assert check(folder, options=options).ok == fit == (not judge_files(open_dataset(folder, options=options)))


def test_findings_state_the_modalities_without_which_they_do_not_arise(tmp_path: Path) -> None:
    folder = make_nnunet(tmp_path / "data", subjects=4)
    (folder / "imagesTr" / "case_001_0001.nii.gz").unlink()
    write_nifti(folder / "imagesTr" / "case_002_0001.nii.gz", np.full(VOXELS, 3, np.float32))
    write_nifti(folder / "imagesTr" / "case_003_0001.nii.gz", np.full(VOXELS, np.nan, np.float32))
    (folder / "labelsTr" / "case_004.nii.gz").unlink()
    errors = {f.subject: f.modalities for f in check(folder).with_severity("error")}
    assert errors == {"case_001": ("M1",), "case_002": ("M1",), "case_003": ("M1",), "case_004": ()}
