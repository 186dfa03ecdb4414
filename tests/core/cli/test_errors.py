"""``errors``: regions of errors and lesions of a kept segmentation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from core.cli import main
from core.datasets import load_subject, open_dataset
from core.imaging.volume import read_label
from tests.support.quiz_runs import QuizRun, use_copy

pytestmark = pytest.mark.slow  # the run is trained once


@pytest.fixture
def subject(quiz_run: QuizRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A subject whose segmentation is kept, in a copy of the run."""
    root = use_copy(quiz_run, tmp_path, monkeypatch)
    record = next((root / quiz_run.run / "predictions").glob("*/*.json"))
    return str(json.loads(record.read_text())["subject"])


def test_json_has_the_regions_of_all_wrong_voxels(
    quiz_run: QuizRun, subject: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["errors", quiz_run.run, str(quiz_run.data), subject, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    dataset = open_dataset(quiz_run.data)
    truth = load_subject(dataset, subject).label
    prediction = dataset.labels.to_index(read_label(Path(found["prediction"])).data[0])
    assert truth is not None and found["classes"] == list(dataset.labels.names)
    regions = found["with_border"]["regions"]
    assert sum(region["voxels"] for region in regions) == int((truth != prediction).sum()) > 0
    for region in regions:
        t, p, _ = region["confused"][0]
        box = tuple(slice(a, b + 1) for a, b in zip(region["first"], region["last"], strict=True))
        assert ((truth[box] == t) & (prediction[box] == p)).any()
        centre = tuple(region["centre"])
        assert truth[centre] != prediction[centre]
    total = sum(region["volume_ml"] for region in found["errors"]["regions"]) + found["errors"]["border_ml"]
    assert total == pytest.approx(float((truth != prediction).sum()) * 0.0015)
    assert np.isfinite(total)


def test_text_lists_the_largest_regions_first(
    quiz_run: QuizRun, subject: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["errors", quiz_run.run, str(quiz_run.data), subject, "--with-border"]) == 0
    head, names, *rows = capsys.readouterr().out.splitlines()
    assert head.startswith(f"{subject}: ") and "of errors" in head and "reference > prediction" in names
    volumes = [float(row.split()[1]) for row in rows if row.split()[0].isdecimal()]
    assert volumes == sorted(volumes, reverse=True)


def test_subject_without_a_kept_segmentation_names_the_command_that_makes_it(
    quiz_run: QuizRun, subject: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = {p.stem.split(".")[0] for p in Path(quiz_run.root).glob("*/predictions/*/*.json")}
    other = next(id for id in open_dataset(quiz_run.data).ids if id not in kept)
    assert main(["errors", quiz_run.run, str(quiz_run.data), other]) == 1
    assert f"--subject {other} --keep" in capsys.readouterr().err
    assert main(["errors", quiz_run.run, str(quiz_run.data), "nobody"]) == 1
    assert "nobody" in capsys.readouterr().err
