"""Two processes that train one network: what they tell one another, and that two are as one that accumulates."""

from __future__ import annotations

import math
import os
import socket
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
from core.compute.device import set_threads
from core.compute.distributed import ALONE, DistributedContext, joined
from core.config import TrainConfig
from core.errors import ConfigError, DeviceError, LostProcessError
from core.events import Ended, Event, Metrics
from core.training.trainer import TrainingFailedError, fit
from tests.core.training.test_trainer import task
from tests.support.balls import tiny, training_subjects

pytestmark = pytest.mark.slow
CPU = torch.device("cpu")
# Everything that a step is made of; a rate at which fp32 sums in another order stay close.
COMMON = dict(
    batch_dice=False, batch_size=1, samples_train=12, epochs=2, whole_every=1, samples_val=5, affine=0.7,
    elastic=0.7, intensity=0.5, noise=0.1, clip_norm=1.0, learning_rate=3e-3, threads=1, checkpoint_minutes=100.0,
)  # fmt: skip
CASES: dict[str, dict[str, Any]] = {
    "instance": dict(norm="instance", optimizer="muon"),
    "group": dict(norm="group", optimizer="adamw", accumulate=2),
    "batch": dict(norm="batch", optimizer="sgd", batch_size=2),
    "streamed": dict(norm="instance", optimizer="sgd", resident_gb=1e-6),
}


VALIDATED = ("val/", "whole/")


def train(
    folder: Path, config: TrainConfig, team: DistributedContext, stop_at: int = -1, spoilt: bool = False
) -> list[Event]:
    """Train on four balls; the third is not a number if spoilt. Only the leader is asked to stop."""
    folder.mkdir(exist_ok=True)
    subjects = training_subjects(4)
    if spoilt:
        subjects[2] = replace(subjects[2], image=np.full_like(subjects[2].image, math.nan))
    resident = int(config.data.resident_gb * 1e9) or 2**62
    heard: list[Event] = []
    steps = iter(range(10**6))
    fit(
        replace(
            task(folder, config, subjects), held_out=training_subjects(3, first=50), resident_bytes=resident, team=team
        ),
        heard.append, should_stop=lambda: team.is_main and next(steps) == stop_at,
    )  # fmt: skip
    return heard


def two(**values: object) -> TrainConfig:
    return tiny(**{**COMMON, **values, "devices": 2})


def one(**values: Any) -> TrainConfig:
    return tiny(**{**COMMON, **values, "accumulate": 2 * int(values.get("accumulate", 1))})


def member(rank: int, folder: Path, port: int) -> None:
    """What each of the two does; its findings are left in the folder."""
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    set_threads(1)
    found: dict[str, Any] = {}
    with joined(CPU) as (team, device):
        found["who"] = (team.rank, team.size, team.is_main, device.type)
        found["agreed"] = team.broadcast([rank + 0.5, 10 + rank])
        found["sum"] = team.sum(torch.tensor([1.0, rank])).tolist()
        items = list("abcde")
        found["dealt"] = list(team.shard(items))
        found["gathered"] = team.gather(team.shard(items))
        mine = torch.full((2,), float(rank))
        team.broadcast_tensors([mine])
        found["shared"] = mine.tolist()
        for name, values in CASES.items():
            found[name] = train(folder / name, two(**values), team)
        found["stopped"] = train(folder / "stopped", two(epochs=100), team, stop_at=10)
        found["budget"] = train(folder / "budget", two(epochs=100, minutes=0.1), team)
        try:
            train(folder / "spoilt", two(foreground=0.0), team, spoilt=True)
        except TrainingFailedError as error:
            found["spoilt"] = str(error)
        team.broadcast([0.0])
        if rank == 0:  # leaves without a word
            torch.save(found, folder / "found-0.pt")
            os._exit(0)
        try:
            while True:
                team.broadcast([0.0])
        except LostProcessError as error:
            found["alone"] = str(error)
    torch.save(found, folder / "found-1.pt")


def guarded_member(rank: int, folder: Path, port: int) -> None:
    try:
        member(rank, folder, port)
    except BaseException:
        (folder / f"error-{rank}.txt").write_text(traceback.format_exc())
        raise


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the two have worked, once for all tests."""
    folder = tmp_path_factory.mktemp("team")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pair = spawn(guarded_member, (folder, port), nprocs=2, join=False)
    try:
        while not pair.join(timeout=240):
            pass
    finally:
        for text in folder.glob("error-*.txt"):
            print(text.read_text())
    return folder


@pytest.fixture(scope="module")
def found(folder: Path) -> list[dict[str, Any]]:
    return [torch.load(folder / f"found-{rank}.pt", weights_only=False) for rank in range(2)]


def test_they_agree_with_the_leader(found: list[dict[str, Any]]) -> None:
    assert [f["who"] for f in found] == [(0, 2, True, "cpu"), (1, 2, False, "cpu")]
    assert [f["agreed"] for f in found] == [[0.5, 10]] * 2
    assert [f["sum"] for f in found] == [[2.0, 1.0]] * 2
    assert [f["shared"] for f in found] == [[0.0, 0.0]] * 2


def test_what_is_dealt_comes_back_in_order(found: list[dict[str, Any]]) -> None:
    assert [f["dealt"] for f in found] == [list("ace"), list("bd")]
    assert [f["gathered"] for f in found] == [list("abcde")] * 2


@pytest.fixture(scope="module", params=["instance", "group", "streamed"])
def case(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def single(case: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Event]]:
    """The same by one process: where, and what it told."""
    folder = tmp_path_factory.mktemp("single")
    return folder, train(folder, one(**CASES[case]), ALONE)


def test_two_are_as_one_that_accumulates(folder: Path, case: str, single: tuple[Path, list[Event]]) -> None:
    alone, both = (load(path / LAST, training_state=True) for path in (single[0], folder / case))
    assert alone.description.progress["step"] == both.description.progress["step"] > 0
    groups = [(alone.model, both.model), (alone.average, both.average)]
    for mine, theirs in [*groups, *zip(alone.optimizer.values(), both.optimizer.values(), strict=True)]:
        assert mine.keys() == theirs.keys()
        for key in mine:
            torch.testing.assert_close(theirs[key], mine[key], rtol=1e-4, atol=1e-5, msg=lambda m: f"{key}: {m}")  # noqa: B023


def test_what_is_measured_is_the_same(found: list[dict[str, Any]], case: str, single: tuple[Path, list[Event]]) -> None:
    # How often the loss is reported depends on the clock; what is validated does not.
    mine, theirs = (
        [
            (e.step, k, v)
            for e in events
            if isinstance(e, Metrics)
            for k, v in e.values.items()
            if k.startswith(VALIDATED)
        ]
        for events in (single[1], found[0][case])
    )
    assert [m[:2] for m in mine] == [t[:2] for t in theirs]
    assert {m[1].partition("/")[0] for m in mine} == {"val", "whole"}
    assert [m[2] for m in mine] == pytest.approx([t[2] for t in theirs], abs=2e-3, nan_ok=True)
    assert not found[1][case], "the leader alone tells"


def test_statistics_of_batches_are_the_leaders(found: list[dict[str, Any]], folder: Path) -> None:
    """Each sees batches of its own, so this is no accumulation; but it trains, and its checkpoint is whole."""
    assert isinstance(found[0]["batch"][-1], Ended)
    assert all(torch.isfinite(v.float()).all() for v in load(folder / "batch" / LAST).weights.values())


def test_both_stop_when_the_leader_is_asked(found: list[dict[str, Any]], folder: Path) -> None:
    ended = found[0]["stopped"][-1]
    assert (ended.reason, ended.step) == ("stopped", 11)
    assert load(folder / "stopped" / LAST).description.progress["step"] == 11


def test_both_keep_to_a_time_budget(found: list[dict[str, Any]]) -> None:
    ended = found[0]["budget"][-1]
    assert ended.reason == "finished" and ended.elapsed_s < 6.5 + 1


def test_what_is_not_finite_is_named_by_both(found: list[dict[str, Any]]) -> None:
    assert found[0]["spoilt"] == found[1]["spoilt"]
    assert "ball-2" in found[0]["spoilt"] and "not finite" in found[0]["spoilt"]


def test_who_is_left_alone_learns_it(found: list[dict[str, Any]]) -> None:
    assert "another process of the team is gone" in found[1]["alone"]


def test_a_team_of_one_talks_to_nobody() -> None:
    with joined(CPU) as (team, device):
        assert team is ALONE and device is CPU
        assert team.broadcast([1, 2.5]) == [1.0, 2.5]
        assert team.gather(["a"]) == ["a"] and list(team.shard("abc")) == list("abc")
        model = torch.nn.Linear(1, 1)
        assert team.wrap(model) is model
    assert not torch.distributed.is_initialized()


def test_more_devices_than_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "64"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(DeviceError, match=r"devices: expected at most .* got 64"), joined(torch.device("cuda")):
        pass


def test_a_graph_is_recorded_on_one_device() -> None:
    with pytest.raises(ConfigError, match="acceleration"):
        tiny(devices=2, acceleration="graph")
