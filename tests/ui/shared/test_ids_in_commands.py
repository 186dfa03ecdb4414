"""Ids of subjects that begin with "-" in the commands that pages start: values, and no options."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from core.cli import build_parser
from core.datasets import open_dataset
from core.runs.predictions import Prediction
from tests.support.balls import write_balls
from ui.data import description_job
from ui.learn import jobs as learn_jobs
from ui.review import findings, surface_export, surfaces_job
from ui.review.epochs_view import CaseEpochs
from ui.review.export_job import CaseExport
from ui.review.imported_job import ImportedScoring
from ui.shared import jobs
from ui.viewer.volumes import Pending

IDS = ("-case_1", "--json", "-1", "p1")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The command lines of jobs that are started; none is run."""
    lines: list[list[str]] = []
    monkeypatch.setattr(jobs, "start", lambda folder, arguments: lines.append(list(arguments)))
    return lines


_parser = cache(build_parser)


def parsed(words: Sequence[str]) -> Any:
    return _parser().parse_args(list(words))


@pytest.mark.parametrize("id", IDS)
def test_export_of_a_case(
    checkpoints: Path, started: list[list[str]], monkeypatch: pytest.MonkeyPatch, id: str
) -> None:
    case = CaseExport(Path("/r/net.safetensors"), Path("/d"), id, "errors", ".nii.gz", ("--slices=4",))

    def written(folder: Path) -> str:
        case._file.parent.mkdir(parents=True, exist_ok=True)
        case._file.write_bytes(b"label map")
        return ""

    monkeypatch.setattr(jobs, "wait", written)
    assert case.make() == b"label map"
    arguments = parsed(started[0])
    assert (arguments.subject, arguments.slices, str(arguments.data)) == (id, 4, "/d")
    assert arguments.errors == case._file


@pytest.mark.parametrize("id", IDS)
def test_search_for_errors(tmp_path: Path, checkpoints: Path, monkeypatch: pytest.MonkeyPatch, id: str) -> None:
    lines: list[Sequence[str]] = []

    def run_limited(command: Sequence[str], limit_s: float) -> subprocess.CompletedProcess[str]:
        lines.append(command)
        return subprocess.CompletedProcess([], 1, "", "error: none")

    monkeypatch.setattr(findings, "run_limited", run_limited)
    file = tmp_path / "kept.nii.gz"
    file.write_bytes(b"label map")
    with pytest.raises(Exception, match="failed: none"):
        findings._find(Path("/r/net.safetensors"), Path("/d"), Prediction(id, file, None, 1, 1, "", 0.0), "")
    words = list(lines[0])
    arguments = parsed(words[words.index("core") + 1 :])
    assert (arguments.subject, arguments.json, str(arguments.data)) == (id, True, "/d")


@pytest.mark.parametrize("id", IDS)
def test_surfaces_of_a_case(
    tmp_path: Path, checkpoints: Path, started: list[list[str]], monkeypatch: pytest.MonkeyPatch, id: str
) -> None:
    monkeypatch.setattr(surfaces_job, "stamp_of", lambda dataset, prediction: "")
    dataset: Any = SimpleNamespace(path=Path("/d"))
    prediction = Prediction(id, tmp_path / "kept.nii.gz", None, 1, 1, "", 0.0)
    with pytest.raises(Pending):
        surfaces_job.CaseOfSurfaces(Path("/r/net.safetensors"), dataset, prediction, "", "").scene()
    arguments = parsed(started[0])
    assert (arguments.subject, arguments.json, arguments.progress, str(arguments.data)) == (id, True, True, "/d")


@pytest.mark.parametrize("id", IDS)
def test_archive_of_surfaces(
    tmp_path: Path, checkpoints: Path, started: list[list[str]], monkeypatch: pytest.MonkeyPatch, id: str
) -> None:
    monkeypatch.setattr(surface_export, "stamp_of", lambda dataset, prediction: "")
    dataset: Any = SimpleNamespace(path=Path("/d"))
    prediction = Prediction(id, tmp_path / "kept.nii.gz", None, 1, 1, "", 0.0)
    surface_export.SurfaceExport(Path("/r/net.safetensors"), dataset, prediction, ".ply").start()
    arguments = parsed(started[0])
    assert (arguments.subject, arguments.ply.name, arguments.stl) == (id, "surfaces.ply.zip", None)


@pytest.mark.parametrize("id", IDS)
def test_scores_of_a_file(
    tmp_path: Path, checkpoints: Path, started: list[list[str]], monkeypatch: pytest.MonkeyPatch, id: str
) -> None:
    monkeypatch.setattr(ImportedScoring, "_folder", tmp_path / "job")
    dataset: Any = SimpleNamespace(path=Path("/d"))
    metadata: Any = None
    ImportedScoring(Path("/r/net.safetensors"), metadata, dataset, "rater:ben", {id: Path("f.nii")}).advance()
    arguments = parsed(started[0])
    assert (arguments.case, arguments.source, str(arguments.data)) == ([id], "rater:ben", "/d")


@pytest.mark.parametrize("id", IDS)
def test_sub_volumes_of_a_subject(tmp_path: Path, started: list[list[str]], id: str) -> None:
    learn_jobs.start_sub_volumes(Path("/d"), id, ["--sub-volume", "8x8x8"], tmp_path)
    assert parsed(started[0]).subject == id


@pytest.mark.parametrize("id", IDS)
def test_epochs_of_a_case(tmp_path: Path, checkpoints: Path, started: list[list[str]], id: str) -> None:
    CaseEpochs("a-run", open_dataset(write_balls(tmp_path / "balls", subjects=1)), id).start()
    arguments = parsed(started[0])
    assert (arguments.run, arguments.subject, arguments.data) == ("a-run", id, str(tmp_path / "balls"))


def test_patterns_of_files(tmp_path: Path, started: list[list[str]]) -> None:
    content = {"images": {"T1": ["-{case}_t1.nii.gz", "{case}.nii.gz"]}, "labels": "-{case}_seg.nii.gz"}
    description_job.start(Path("/d"), content, tmp_path)
    arguments = parsed(started[0])
    assert arguments.images == ["-{case}_t1.nii.gz", "{case}.nii.gz"] and arguments.labels == ["-{case}_seg.nii.gz"]


@pytest.mark.parametrize("separator", [True, False])
def test_words_behind_the_separator_are_no_switches(separator: bool) -> None:
    """A switch gets its value only where it is an option."""
    words = ["check", "--nan-is-zero", *(["--"] if separator else []), "/d"]
    assert str(parsed(words).data) == "/d"
    if separator:
        assert str(parsed(["check", "--", "--nan-is-zero"]).data) == "--nan-is-zero"


def test_the_message_about_a_missing_segmentation_and_the_shown_command_are_valid() -> None:
    from core.presets import command_line, flag_words, preset

    assert flag_words("--subject", "p1") == ["--subject", "p1"]
    config = preset("fast").with_values({"val_subjects": ("-a", "b"), "path": "/d"})
    line = command_line(config, name="-x").split()[3:]
    assert "--val-subjects=-a,b" in line and "--name=-x" in line
    assert parsed(line).name == "-x"
