"""Collective operations of two processes, and data-parallel training against gradient accumulation in one."""

from __future__ import annotations

import math
import os
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.multiprocessing.spawn import spawn

from core.checkpointing.checkpoint import load
from core.checkpointing.metadata import LAST
from core.compute.device import set_num_threads
from core.compute.distributed import SINGLE_PROCESS, DistributedContext, init_process_group
from core.compute.precision import common_precision
from core.config import LossConfig, ModelConfig, OptimConfig, TrainConfig
from core.errors import DeviceError, LostProcessError
from core.events import Ended, Event, Metrics
from core.losses.build import build_loss
from core.models.build import build_model
from core.training.nonfinite import NonFiniteLossError
from core.training.step import TrainingStep
from core.training.trainer import fit
from tests.support.balls import tiny, training_subjects
from tests.support.ports import free_port
from tests.support.training_tasks import make_task

pytestmark = pytest.mark.slow
CPU = torch.device("cpu")
BUDGET_S = 1
# All parts of a training step; a learning rate at which fp32 sums in a different order stay close.
COMMON = dict(
    batch_dice=False, batch_size=1, samples_train=8, epochs=2, whole_every=2, samples_val=5, affine=0.7,
    elastic=0.7, intensity=0.5, noise=0.1, clip_norm=1.0, learning_rate=3e-3, threads=1, checkpoint_minutes=100.0,
)  # fmt: skip
CASES: dict[str, dict[str, Any]] = {
    "instance": dict(norm="instance", optimizer="muon"),
    "group": dict(norm="group", optimizer="adamw", accumulate=2),
    "batch": dict(norm="batch", optimizer="sgd", batch_size=2),
    "streamed": dict(norm="instance", optimizer="sgd", resident_gb=1e-6),
}
PRECISIONS = {("bf16", "bf16"): "bf16", ("fp16", "fp16"): "fp16", ("fp16", "bf16"): "fp32", ("bf16", "fp32"): "fp32"}
VALIDATION_METRICS = ("val/", "whole/")


def train(
    folder: Path, config: TrainConfig, distributed: DistributedContext, stop_at: int = -1, with_nan: bool = False
) -> list[Event]:
    """Train on four balls, the third all NaN if ``with_nan``; only the main process gets the request to stop."""
    folder.mkdir(exist_ok=True)
    subjects = training_subjects(4)
    if with_nan:
        subjects[2] = replace(subjects[2], image=np.full_like(subjects[2].image, math.nan))
    resident = int(config.data.resident_gb * 1e9) or 2**62
    events: list[Event] = []
    steps = iter(range(10**6))
    work = make_task(folder, config, subjects)
    work = replace(work, held_out=training_subjects(3, first=50), resident_bytes=resident, distributed=distributed)
    fit(work, events.append, should_stop=lambda: distributed.is_main and next(steps) == stop_at)
    return events


def two_devices(**values: object) -> TrainConfig:
    return tiny(**{**COMMON, **values, "devices": 2})


def one_device(**values: Any) -> TrainConfig:
    return tiny(**{**COMMON, **values, "accumulate": 2 * int(values.get("accumulate", 1))})


def nan_in_the_other(rank: int, distributed: DistributedContext, precision: str) -> tuple[int | None, float]:
    """The first failed step, and the sum of the weights, after six steps of which the third has NaN in an image of the
    second process."""
    torch.manual_seed(0)
    model = build_model(ModelConfig("unet3d", channels=(2, 4)), 1, 3)
    step = TrainingStep(model, build_loss(LossConfig(), False), OptimConfig("adam"), precision, distributed)
    generator = torch.Generator().manual_seed(rank)
    for number in range(6):
        image = torch.randn(1, 1, 8, 8, 8, generator=generator)
        if number == 2 and rank == 1:
            image[0, 0, 0, 0, 0] = torch.nan
        step([(image, torch.randint(0, 3, (1, 8, 8, 8), generator=generator).to(torch.uint8))], 1e-2, number)
    return step.read_loss()[1], sum(float(p.detach().double().abs().sum()) for p in model.parameters())


def process_main(rank: int, folder: Path, port: int) -> None:
    """The work of each process; its results are saved to the folder."""
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    set_num_threads(1)
    results: dict[str, Any] = {}
    with init_process_group(CPU) as (distributed, device):
        results["context"] = (distributed.rank, distributed.world_size, distributed.is_main, device.type)
        results["broadcast"] = distributed.broadcast([rank + 0.5, 10 + rank])
        results["all_reduce"] = distributed.all_reduce(torch.tensor([1.0, rank])).tolist()
        items = list("abcde")
        results["shard"] = list(distributed.shard(items))
        results["all_gather"] = distributed.all_gather(distributed.shard(items))
        results["precisions"] = [common_precision(pair[rank], distributed) for pair in PRECISIONS]
        tensor = torch.full((2,), float(rank))
        distributed.broadcast_tensors([tensor])
        results["broadcast_tensors"] = tensor.tolist()
        for name, values in CASES.items():
            results[name] = train(folder / name, two_devices(**values), distributed)
        results["stopped"] = train(folder / "stopped", two_devices(epochs=100), distributed, stop_at=10)
        results["budget"] = train(folder / "budget", two_devices(epochs=100, minutes=BUDGET_S / 60), distributed)
        try:
            train(folder / "nan", two_devices(foreground=0.0), distributed, with_nan=True)
        except NonFiniteLossError as error:
            results["nan"] = str(error)
        results["nan_in_the_other"] = [nan_in_the_other(rank, distributed, p) for p in ("fp32", "fp16")]
        distributed.broadcast([0.0])
        if rank == 0:  # ends without leaving the process group
            torch.save(results, folder / "results-0.pt")
            os._exit(0)
        try:
            while True:
                distributed.broadcast([0.0])
        except LostProcessError as error:
            results["lost"] = str(error)
    torch.save(results, folder / "results-1.pt")


def guarded_main(rank: int, folder: Path, port: int) -> None:
    try:
        process_main(rank, folder, port)
    except BaseException:
        (folder / f"error-{rank}.txt").write_text(traceback.format_exc())
        raise


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which both processes have worked, once for all tests."""
    folder = tmp_path_factory.mktemp("two")
    processes = spawn(guarded_main, (folder, free_port()), nprocs=2, join=False)
    try:
        while not processes.join(timeout=240):
            pass
    finally:
        for text in folder.glob("error-*.txt"):
            print(text.read_text())
    return folder


@pytest.fixture(scope="module")
def results(folder: Path) -> list[dict[str, Any]]:
    return [torch.load(folder / f"results-{rank}.pt", weights_only=False) for rank in range(2)]


def test_collectives_give_both_processes_the_same_values(results: list[dict[str, Any]]) -> None:
    assert [r["context"] for r in results] == [(0, 2, True, "cpu"), (1, 2, False, "cpu")]
    assert [r["broadcast"] for r in results] == [[0.5, 10]] * 2
    assert [r["all_reduce"] for r in results] == [[2.0, 1.0]] * 2
    assert [r["broadcast_tensors"] for r in results] == [[0.0, 0.0]] * 2


def test_all_gather_restores_the_order_before_sharding(results: list[dict[str, Any]]) -> None:
    assert [r["shard"] for r in results] == [list("ace"), list("bd")]
    assert [r["all_gather"] for r in results] == [list("abcde")] * 2


def test_processes_with_different_devices_compute_in_one_precision(results: list[dict[str, Any]]) -> None:
    """A gradient that is scaled for fp16 on one of them is not averaged with those of another."""
    assert [r["precisions"] for r in results] == [list(PRECISIONS.values())] * 2


@pytest.fixture(scope="module", params=["instance", "group", "streamed"])
def case(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def single(case: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Event]]:
    """The same training in one process: its folder and its events."""
    folder = tmp_path_factory.mktemp("single")
    return folder, train(folder, one_device(**CASES[case]), SINGLE_PROCESS)


def test_two_processes_train_the_weights_of_one_that_accumulates(
    folder: Path, case: str, single: tuple[Path, list[Event]]
) -> None:
    one, two = (load(path / LAST, training_state=True) for path in (single[0], folder / case))
    assert one.metadata.progress["step"] == two.metadata.progress["step"] > 0
    groups = [(one.model, two.model), (one.average, two.average)]
    for expected, actual in [*groups, *zip(one.optimizer.values(), two.optimizer.values(), strict=True)]:
        assert expected.keys() == actual.keys()
        for key in expected:
            torch.testing.assert_close(actual[key], expected[key], rtol=1e-4, atol=1e-5, msg=lambda m: f"{key}: {m}")  # noqa: B023


def test_two_processes_measure_the_validation_scores_of_one(
    results: list[dict[str, Any]], case: str, single: tuple[Path, list[Event]]
) -> None:
    # How often the training loss is reported depends on the clock; validation does not.
    expected, actual = (
        [
            (e.step, k, v)
            for e in events
            if isinstance(e, Metrics)
            for k, v in e.values.items()
            if k.startswith(VALIDATION_METRICS)
        ]
        for events in (single[1], results[0][case])
    )
    assert [m[:2] for m in actual] == [m[:2] for m in expected]
    assert {m[1].partition("/")[0] for m in actual} == {"val", "whole"}
    assert [m[2] for m in actual] == pytest.approx([m[2] for m in expected], abs=2e-3, nan_ok=True)
    assert not results[1][case], "only the main process emits events"


def test_batch_norm_trains_with_the_statistics_of_each_process(results: list[dict[str, Any]], folder: Path) -> None:
    """Not equal to accumulation, because each process normalises its own batches; but the checkpoint is complete."""
    assert isinstance(results[0]["batch"][-1], Ended)
    assert all(torch.isfinite(v.float()).all() for v in load(folder / "batch" / LAST).weights.values())


def test_stop_request_to_the_main_process_stops_both_at_the_same_step(
    results: list[dict[str, Any]], folder: Path
) -> None:
    ended = results[0]["stopped"][-1]
    assert (ended.reason, ended.step) == ("stopped", 11)
    assert load(folder / "stopped" / LAST).metadata.progress["step"] == 11


def test_training_ends_within_the_time_budget(results: list[dict[str, Any]]) -> None:
    ended = results[0]["budget"][-1]
    assert ended.reason == "finished" and ended.elapsed_s < BUDGET_S + 1.5


def test_non_finite_loss_is_reported_by_both_processes(results: list[dict[str, Any]]) -> None:
    assert results[0]["nan"] == results[1]["nan"]
    assert "ball-2" in results[0]["nan"] and "not finite" in results[0]["nan"]


def test_a_lost_process_raises_in_the_other(results: list[dict[str, Any]]) -> None:
    assert "another process of this training run has ended" in results[1]["lost"]


def test_single_process_needs_no_process_group() -> None:
    with init_process_group(CPU) as (distributed, device):
        assert distributed is SINGLE_PROCESS and device is CPU
        assert distributed.broadcast([1, 2.5]) == [1.0, 2.5]
        assert distributed.all_gather(["a"]) == ["a"] and list(distributed.shard("abc")) == list("abc")
        model = torch.nn.Linear(1, 1)
        assert distributed.wrap_model(model) is model
    assert not torch.distributed.is_initialized()


def test_more_processes_than_cuda_devices_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "64"}.items():
        monkeypatch.setenv(name, value)
    with (
        pytest.raises(DeviceError, match=r"devices: expected at most .* got 64"),
        init_process_group(torch.device("cuda")),
    ):
        pass


def test_nan_in_one_process_is_found_in_the_same_step_of_both(results: list[dict[str, Any]]) -> None:
    """In fp16 it must not be an overflow of the scaled loss in one process, which would go on alone."""
    first, second = (r["nan_in_the_other"] for r in results)
    assert first == second and [failed for failed, _ in first] == [2, 2]
