"""The place where a run would train: this machine or an engine, its device, its speed, and what is assumed of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from core import runs
from core.errors import ConfigError
from core.events import FORECAST_FACT
from core.runs.engines.settings import FILE
from core.runs.expected_place import expected_place
from core.runs.store.engine_records import EngineRecord, write_engine
from core.runs.store.state import write_state
from tests.support.run_folders import make_run


@pytest.fixture
def root(checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root with three clusters on a machine without a GPU."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    checkpoints.mkdir(exist_ok=True)
    tables = ('[big]\nkind = "slurm"', '[cpus]\nkind = "slurm"\ngpus = ""', '[ray]\nkind = "ray"\naddress = "http://h"')
    (checkpoints / FILE).write_text("\n".join(tables))
    return checkpoints


def trained_on(root: Path, engine: str, device: str, speed: float) -> None:
    folder = root / make_run(root, f"on {engine}", epochs=1)
    write_engine(folder, EngineRecord(engine))
    facts = {"device": device, FORECAST_FACT: "20 sub-volumes/s"}
    state = runs.get_run(root, folder.name).state
    write_state(folder, dataclasses.replace(state, facts=facts, sub_volumes_per_s=speed))


@pytest.mark.parametrize(
    ("engine", "device", "assumed"),
    [
        ("local", "cpu", ""),
        ("", "cpu", ""),
        ("big", "cuda", "big requests a GPU for a run; which one is not known before a run has trained there"),
        ("ray", "cuda", "ray requests a GPU for a run; which one is not known before a run has trained there"),
        ("cpus", "cpu", "cpus requests no GPU for a run; its processors are not known before a run has trained there"),
    ],
)
def test_before_a_run_has_trained_there_the_device_follows_from_what_the_engine_requests(
    root: Path, engine: str, device: str, assumed: str
) -> None:
    place = expected_place(root, engine)
    assert (place.device, place.assumed, place.measured.runs) == (device, assumed, 0)
    assert place.engine == ("" if engine in ("", "local") else engine)


def test_device_and_speed_of_an_engine_are_those_of_its_own_runs(root: Path) -> None:
    trained_on(root, "cpus", "NVIDIA A100", 80.0)
    place = expected_place(root, "cpus")
    assert (place.device, place.assumed) == ("cuda", "") and place.measured.expected == pytest.approx(0.25)
    assert expected_place(root, "big").measured.runs == 0 and expected_place(root).measured.runs == 0
    configured = expected_place(root, "cpus", "cpu")
    assert configured.device == "cpu" and configured.measured.runs == 0
    assert configured.assumed == "no run has trained on a device of this kind on cpus yet"


def test_unknown_engine_is_refused(root: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected one of local, big, cpus, ray, .* got 'small'"):
        expected_place(root, "small")
