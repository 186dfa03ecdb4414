"""The check of a GPU: each check says what holds, a failing or hanging one ends no other, and a CPU skips some."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import torch

from core import cli
from core.bench import gpu_check, gpu_checks
from core.bench.gpu_check import Settings, check_gpu
from core.bench.gpu_checks import CHECKS, Check, run_check
from core.compute.machine_memory import machine_memory
from core.errors import ConfigError
from core.inference.sliding_window import predict_logits
from core.paths import project_root

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


@pytest.mark.slow
@pytest.mark.parametrize(("native", "precisions"), [(True, ["fp32", "bf16"]), (False, ["fp32"])])
def test_inference_is_checked_in_the_precision_that_training_takes(
    native: bool, precisions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.compute.precision.has_bf16_instructions", lambda: native)
    found = run_check("inference", "cpu")
    assert re.findall(r"fp32|bf16|fp16", found["sentence"]) == precisions


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
    assert {result.status for result in report.results} == {"skipped", "left out"} and report.table is None
    assert "time limit" in report.text() and report.seconds < 5
    assert list(report.left_out) == ON_CPU == report.to_json()["left_out"], "the others need a GPU"
    assert (
        f"left out for lack of time: {', '.join(ON_CPU)}; run them alone: --checks {','.join(ON_CPU)}" in report.text()
    )


def test_check_that_is_ended_by_the_limit_of_all_is_left_out_and_did_not_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[float] = []
    monkeypatch.setattr(gpu_check, "run_limited", lambda command, limit_s: limits.append(limit_s))
    report = check_gpu(Settings(checks=("resume",), table=False, limit_s=20.0), "cpu", silent)
    assert report.passed and report.left_out == ("resume",) and 15 < limits[0] <= 20
    assert "it was ended after 20 of its 60 s" in report.results[0].sentence
    report = check_gpu(Settings(checks=("resume",), table=False), "cpu", silent)
    assert not report.passed and report.results[0].status == "timed out", "it had all of its time"


def test_outcomes_are_known_at_once_and_survive_a_device_that_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    known: list[str] = []

    def lost(*_: object) -> None:
        assert known == ["resume"]
        raise RuntimeError("CUDA error: device-side assert triggered")

    passed = CompletedProcess([], 0, '{"status": "passed", "sentence": "x"}', "")
    monkeypatch.setattr(gpu_check, "run_limited", lambda command, limit_s: passed)
    monkeypatch.setattr(gpu_check, "resolve_precision", lost)
    settings = Settings(checks=("resume",), table=False)
    report = check_gpu(settings, "cpu", silent, lambda result: known.append(result.name))
    assert report.passed and "resume" in report.text()


# What torch needs. A Python in which only that is installed: all other packages are out of reach, in every process.
BARE_PACKAGES = {
    "torch", "torchgen", "functorch", "numpy", "sympy", "mpmath", "jinja2", "markupsafe", "networkx", "fsspec",
    "filelock", "typing_extensions", "setuptools", "pkg_resources", "triton", "core",
}  # fmt: skip
BARE = """
import importlib.abc, importlib.util, sys
BLOCKED = set({blocked!r})

class Wall(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Wall())
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: (
    None if name.partition(".")[0] in BLOCKED else find_spec(name, package)
)
"""


ALL_CHECKS = """
import json, sys
from core.bench.gpu_checks import run_check
print(json.dumps({name: run_check(name, "cpu") for name in sys.argv[1:]}))
"""


@pytest.mark.long(40)
def test_bare_machine_with_torch_alone_checks_and_measures(tmp_path: Path) -> None:
    """Every check in one process, and the command, whose processes are those of other checks too, with one."""
    blocked = sorted({*packages_distributions()} - BARE_PACKAGES)
    assert {"nibabel", "streamlit", "safetensors"} <= {*blocked}
    (tmp_path / "sitecustomize.py").write_text(BARE.format(blocked=blocked))
    paths = os.pathsep.join([str(tmp_path), str(project_root())])

    def run(*arguments: str) -> CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False,
            timeout=480,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done

    checks = json.loads(run("-c", ALL_CHECKS, *ON_CPU).stdout)
    assert {name for name in ON_CPU if checks[name]["status"] == "passed"} == {*ON_CPU} - {"resume"}, checks
    commanded = run("-m", "core", "bench", "gpu-check", "--device", "cpu", "--checks", "resume,non-finite", "--json")
    found = json.loads(commanded.stdout)
    results = {result["name"]: result for result in found["results"]}
    for outcome in (checks["resume"], results["resume"]):
        assert outcome["status"] == "skipped" and "package safetensors" in outcome["sentence"]
    assert results["non-finite"]["status"] == "passed"
    assert found["table"]["rows"][0]["name"] == "ours" and "passed" in commanded.stderr, "outcomes as they come"


def test_memory_of_the_machine_is_read_without_psutil(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = machine_memory()
    monkeypatch.setattr("core.compute.machine_memory.find_spec", lambda name: None)
    found = machine_memory()
    assert found.total_bytes == expected.total_bytes and 0 < found.available_bytes <= found.total_bytes


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
