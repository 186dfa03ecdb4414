"""``bench``: JSON and text report, errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.bench import machine
from core.cli import main

TINY = ["--sub-volume", "16x16x8", "--channels", "4,8", "--batch", "1", "--steps", "1", "--blocks", "1"]


@pytest.fixture(autouse=True)
def small_matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "CPU_MATRIX_SIZE", 64)


@pytest.mark.slow
def test_json_report_of_training_steps(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "train", *TINY, "--device", "cpu", "--loop-seconds", "0.01", "--json", "--progress"]) == 0
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert report["bench"] == "train" and report["machine"]["device"] == "cpu" and report["machine"]["torch_version"]
    assert [row["name"] for row in report["rows"]] == [
        "ours",
        "ours, whole loop of fit",
        "ours, its bare step",
        "bound at 16x16x8, 4 channels",
        "bound at 8x8x4, 8 channels",
        "bound of all levels",
    ]
    measured = ("ms", "sub_volumes_per_s", "gflop", "tflops", "share_of_peak", "ratio")
    assert all(report["rows"][0][value] > 0 for value in measured)
    assert {"precision", "batch", "peak_memory_mb", "note"} <= set(report["rows"][0])
    assert report["settings"]["sub_volume"] == [16, 16, 8] and report["settings"]["channels"] == [4, 8]
    assert all(line.startswith("progress ") for line in captured.err.splitlines())


@pytest.mark.slow
def test_text_reports_of_inference_and_augmentation(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "infer", "--size", "16x16x16", "--channels", "4-8", "--tile", "8x8x8", "--blocks", "1"]) == 0
    table = capsys.readouterr().out
    assert table.startswith("bench infer  model untrained 4-8") and "ours, whole" in table
    assert main(["bench", "augment", "--sub-volume", "16x16x8", "--volume", "24x24x16", "--draws", "1"]) == 0
    assert capsys.readouterr().out.startswith("bench augment  sub_volume 16x16x8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--batch", "0"], "batch: expected one or more numbers of at least 1"),
        (["train", "--sub-volume", "9x9x9"], "expected room for two levels"),
        (["infer", "--model", "demo-model", "--size", "16x16x16"], "expected either a trained model or --size"),
        (["infer", "--model", "nothing"], "expected a checkpoint file or a run, found no file 'nothing'"),
        (["augment", "--volume", "16x16x16"], "expected at most the volume's 16x16x16 voxels"),
    ],
)
def test_error_is_one_line(
    arguments: list[str], message: str, checkpoints: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *arguments]) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and message in captured.err.splitlines()[-1]


@pytest.mark.parametrize("arguments", [["train", "--channels", "a,b"], ["infer", "--size", "12"], ["walk"]])
def test_unreadable_argument_is_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bench", *arguments])
    assert ended.value.code == 2
