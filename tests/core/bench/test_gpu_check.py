"""The check of a GPU: each check says what holds, a failing or hanging one ends no other, and a CPU skips some."""

from __future__ import annotations

import json
from subprocess import CompletedProcess
from typing import Any

import pytest
import torch

from core import cli
from core.bench import gpu_check, gpu_checks
from core.bench.gpu_check import Settings, check_gpu
from core.bench.gpu_checks import CHECKS, Check, run_check
from core.errors import ConfigError
from core.inference.sliding_window import predict_logits

ON_CPU = [name for name, check in CHECKS.items() if not check.gpus]


def silent(done: float, total: int, text: str) -> None:
    """Shows no progress."""


@pytest.mark.slow
@pytest.mark.parametrize("name", ON_CPU)
def test_check_holds_on_a_cpu(name: str) -> None:
    found = run_check(name, "cpu")
    assert found["status"] == "passed", found["sentence"]
    assert len(found["sentence"]) > 20


@pytest.mark.slow
def test_check_fails_where_the_result_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*arguments: Any, **options: Any) -> torch.Tensor:
        return (
            predict_logits(*arguments, **options).roll(1, 0)
            if wrong_from.pop(0)
            else predict_logits(*arguments, **options)
        )

    wrong_from = [False, True, True, True]
    monkeypatch.setattr(gpu_checks, "predict_logits", wrong)
    found = run_check("inference", "cpu")
    assert found["status"] == "failed" and "expected the segmentation of the CPU in fp32" in found["sentence"]


def test_error_of_a_check_is_its_result(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(device: torch.device) -> str:
        raise RuntimeError("CUDA error: an illegal memory access")

    monkeypatch.setitem(gpu_checks.CHECKS, "broken", Check(broken, "what breaks"))
    assert run_check("broken", "cpu")["sentence"] == "RuntimeError: CUDA error: an illegal memory access"


def test_failing_hanging_and_dying_checks_end_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(
        [
            None,
            CompletedProcess([], -11, "", "Fatal: segmentation fault"),
            CompletedProcess([], 0, '{"status": "passed", "sentence": "x"}', ""),
        ]
    )
    monkeypatch.setattr(gpu_check, "run_limited", lambda command, limit_s: next(answers))
    settings = Settings(checks=("streaming", "resume", "non-finite"), table=False)
    report = check_gpu(settings, "cpu", silent)
    assert [result.status for result in report.results] == ["timed out", "failed", "passed"]
    assert report.results[1].sentence == "its process ended with -11: Fatal: segmentation fault"
    assert not report.passed and "1 passed, 1 failed, 1 timed out" in report.text()


def test_time_limit_ends_everything_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    report = check_gpu(Settings(limit_s=1.0), "cpu", silent)
    assert {result.status for result in report.results} == {"skipped"} and report.table is None
    assert "time limit" in report.text() and report.seconds < 5


def test_unknown_check_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"checks: expected some of step-fp32, .*; got 'speed'"):
        Settings(checks=("speed",))


@pytest.mark.long(25)
def test_command_on_a_cpu_names_what_needs_cuda_and_measures_a_step(capsys: pytest.CaptureFixture[str]) -> None:
    checks = "step-fp32,step-bf16,graph,two-devices"
    assert cli.main(["bench", "gpu-check", "--device", "cpu", "--checks", checks, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    results = {result["name"]: result for result in found["results"]}
    assert results["step-fp32"]["status"] == "passed"
    for name in ("step-bf16", "graph", "two-devices"):
        assert results[name]["status"] == "skipped" and "CUDA device" in results[name]["sentence"]
    assert found["machine"]["torch_version"] == torch.__version__ and found["passed"]
    assert found["table"]["rows"][0]["name"] == "ours"
