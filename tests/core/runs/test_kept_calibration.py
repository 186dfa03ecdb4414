"""Calibration of kept predictions: counted from kept maps of known probabilities, made where there are none, kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from core.checkpointing.metadata import CheckpointMetadata, read_metadata
from core.cli import main
from core.datasets import Dataset, load_subject, open_dataset
from core.evaluation.calibration import CalibrationCounts
from core.imaging.volume import write_label
from core.runs.kept_calibration import calibrate_kept, read_calibration
from core.runs.kept_maps import kinds_of, map_file, read_kept_maps
from core.runs.predictions import Prediction, read_predictions
from tests.support.quiz_runs import QuizRun, use_copy

if TYPE_CHECKING:
    from core.types import ProgressCallback

pytestmark = pytest.mark.slow  # the run is trained once


class Cases:
    """The kept predictions of a copy of the run."""

    def __init__(self, root: Path, run: QuizRun) -> None:
        self.root, self.run = root, run
        self.checkpoint = root / run.run / "best.safetensors"
        self.dataset: Dataset = open_dataset(run.data)
        self.metadata: CheckpointMetadata = read_metadata(self.checkpoint)

    @property
    def predictions(self) -> dict[str, Prediction]:
        return read_predictions(self.root, self.checkpoint, self.run.data)

    def command(self, *options: str) -> int:
        return main(["review", "calibration", self.run.run, str(self.run.data), *options])

    def write_bright(self, subject: str) -> np.ndarray:
        """Replace the kept probability of "bright" by 0.8 (step 200) in two thirds of the planes along i, else 0.

        Returns the truth.
        """
        kept = self.predictions[subject]
        loaded = load_subject(self.dataset, subject)
        assert loaded.label is not None
        (kind,) = [kind for kind in kinds_of(self.metadata, 1) if kind.choice == "bright"]
        values = np.where(planes(loaded.label), np.uint8(200), np.uint8(0))
        write_label(map_file(kept.file, kind), values, loaded.stored, loaded.first_image)
        return loaded.label


@pytest.fixture
def cases(quiz_run: QuizRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cases]:
    yield Cases(use_copy(quiz_run, tmp_path, monkeypatch), quiz_run)


def planes(volume: np.ndarray) -> np.ndarray:
    """Two thirds of the planes along i, as a mask of the shape of a volume."""
    return np.indices(volume.shape)[0] % 3 > 0


def never(prediction: Prediction, progress: ProgressCallback) -> None:
    raise AssertionError("the maps are kept")


def test_maps_are_made_where_there_are_none_and_counts_are_kept(
    cases: Cases, capsys: pytest.CaptureFixture[str]
) -> None:
    subjects = sorted(cases.predictions)
    assert cases.command("--json", "--progress") == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert sorted(found["cases"]) == subjects and found["failures"] == {}
    assert set(found["classes"]) == {"bright", "dark"}
    assert printed.err.splitlines()[-1] == f"progress {100 * len(subjects)}/{100 * len(subjects)}"
    assert all(read_kept_maps(kept.file, kept.made_at) for kept in cases.predictions.values())
    voxels = sum(load_subject(cases.dataset, id).image[0].size for id in subjects)
    assert found["classes"]["bright"]["all"]["voxels"] == voxels
    assert 0 < found["classes"]["bright"]["unclear"]["voxels"] < voxels
    assert sum(one["voxels"] for one in found["classes"]["dark"]["bins"]) == voxels
    (subject, *others) = subjects
    replaced = {**cases.predictions, subject: replace(cases.predictions[subject], made_at=1.0)}
    after = read_calibration(replaced)
    assert after.missing == (subject,) and sorted(after.cases) == others, "of an earlier prediction"
    files = sorted(cases.root.rglob("calibration/*.json"))
    before = [file.stat().st_mtime_ns for file in files]
    assert [file.stem for file in files] == subjects and cases.command() == 0
    assert [file.stat().st_mtime_ns for file in files] == before, "what is kept is not counted again"
    shown = capsys.readouterr().out
    assert "3 cases, voxels of whole volumes" in shown and "90 to 100 %" in shown


def test_counts_are_those_of_the_kept_probabilities_and_of_the_reference(cases: Cases) -> None:
    """A map of known steps: where bright has 0.8, it is there as often as the reference says at these places."""
    assert main(["maps", cases.run.run, str(cases.run.data)]) == 0
    truths = {id: cases.write_bright(id) for id in cases.predictions}
    found = calibrate_kept(cases.dataset, cases.metadata, cases.predictions, never)
    assert not found.failures and not found.missing
    for id, truth in truths.items():
        given = planes(truth)
        counts: CalibrationCounts = found.cases[id]["bright"]
        assert np.flatnonzero(counts.voxels).tolist() == [0, 200]
        assert counts.voxels[200] == truth[given].size and counts.voxels[0] == truth[~given].size
        assert counts.inside[200] == (truth[given] == 1).sum() and counts.inside[0] == (truth[~given] == 1).sum()
        assert counts.inside.sum() == (truth == 1).sum() > 0
        assert not np.array_equal(truth, truth[::-1]), "else a mirrored map would pass"


def test_a_damaged_map_is_named_and_the_other_cases_are_counted(
    cases: Cases, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["maps", cases.run.run, str(cases.run.data)]) == 0
    (subject, *others) = sorted(cases.predictions)
    (kind,) = [kind for kind in kinds_of(cases.metadata, 1) if kind.choice == "dark"]
    map_file(cases.predictions[subject].file, kind).write_bytes(b"nothing")
    capsys.readouterr()
    assert cases.command("--json") == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert sorted(found["cases"]) == others and list(found["failures"]) == [subject]
    assert f"warning: {subject}: " in printed.err


def test_without_segmentations_the_command_says_how_to_make_them(
    cases: Cases, capsys: pytest.CaptureFixture[str]
) -> None:
    last = str(cases.root / cases.run.run / "last.safetensors")
    assert main(["review", "calibration", last, str(cases.run.data)]) == 1
    assert "expected kept segmentations of cases with a reference, found none; make them" in capsys.readouterr().err
