"""A run from its configuration: data on disk to checkpoints with complete metadata."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from core.checkpointing.checkpoint import load, save
from core.datasets import load_subject, prepared_cache
from core.datasets.synthetic.demo import make_demo
from core.errors import CheckpointError, DatasetError, DeviceError, UserError
from core.events import Ended, Event, Metrics, Preparing, Ready
from core.formatting import format_size
from core.presets import preset
from core.training.experiment import train_run
from core.training.plan import DEVICE_KINDS
from core.training.step import TrainingStep
from tests.support.balls import tiny, write_balls
from tests.support.fetal_folder import make_fetal_folder
from tests.support.ignored import write_ignored_balls
from tests.support.quick_demo import replace_generator
from tests.support.training_tasks import FakeClock

SHORT = {"epochs": 1, "samples_train": 4, "samples_val": 2, "whole_every": 0}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_balls(tmp_path / "data")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    return folder


@pytest.mark.slow
def test_checkpoint_metadata_describes_the_run(data: Path, run: Path) -> None:
    events: list[Event] = []
    train_run(tiny(path=str(data), spacing_mm=(1.5, 1.5, 1.5), test_subjects=("ball_5",), **SHORT), run, events.append)
    metadata = load(run / "last.safetensors").metadata
    assert metadata.modalities == ("M0",) and metadata.label_space.names == ("background", "bright", "dark")
    assert metadata.spacing_mm == (1.5, 1.5, 1.5)
    roles = metadata.split
    assert roles["test"] == ["ball_5"]
    assert sorted(id for ids in roles.values() for id in ids) == [f"ball_{n}" for n in range(6)]
    config = metadata.train_config
    assert (config.run.precision, config.sampling.sub_volume, config.data.modalities) == ("fp32", (16, 16, 16), ("M0",))
    assert metadata.dataset["name"] == "Balls" and metadata.dataset["synthetic"] is False
    reading = [e for e in events if isinstance(e, Preparing)]
    assert [(e.done, e.total) for e in reading] == [(n, 5) for n in range(6)]
    ready = next(e for e in events if isinstance(e, Ready))
    assert ready.facts["voxel size"] == "1.5x1.5x1.5 mm" and "3 train, 2 validate, 1 test" in ready.facts["subjects"]


@pytest.mark.slow
def test_time_budget_begins_when_the_subjects_are_read(data: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A budget of one minute, of which reading six subjects would take ten."""
    clock = FakeClock(monkeypatch)

    def slow(function: Callable[..., Any], seconds: float) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            clock.now += seconds
            return function(*arguments)

        return call

    monkeypatch.setattr(prepared_cache, "load_subject", slow(load_subject, 100.0))
    monkeypatch.setattr(TrainingStep, "compute_loss", slow(TrainingStep.compute_loss, 5.0))
    events: list[Event] = []
    train_run(tiny(path=str(data), minutes=1.0, **{**SHORT, "epochs": 100}), run, events.append)
    ended = events[-1]
    assert isinstance(ended, Ended) and ended.step >= 10 and 55 <= ended.elapsed_s <= 65


@pytest.mark.slow
def test_selected_modalities_and_classes(tmp_path: Path, run: Path) -> None:
    data = write_balls(tmp_path / "two", channels=2)
    train_run(tiny(path=str(data), modalities=("M1",), classes=("dark",), **SHORT), run, lambda event: None)
    metadata = load(run / "last.safetensors").metadata
    assert metadata.modalities == ("M1",) and metadata.label_space.names == ("background", "dark")
    assert metadata.label_space.raw_values == (0, 2)


def test_stop_request_while_subjects_are_read(data: Path, run: Path) -> None:
    events: list[Event] = []
    reading = iter(range(100))
    train_run(tiny(path=str(data)), run, events.append, should_stop=lambda: next(reading) >= 2)
    ended = events[-1]
    assert isinstance(ended, Ended) and (ended.reason, ended.step) == ("stopped", 0)
    assert list(run.iterdir()) == []


@pytest.mark.slow
def test_resumed_run_keeps_its_split(data: Path, run: Path) -> None:
    config = tiny(path=str(data), **{**SHORT, "epochs": 2})
    steps = iter(range(100))
    train_run(config, run, lambda event: None, should_stop=lambda: next(steps) >= 7)  # six subjects are read first
    before = load(run / "last.safetensors").metadata
    assert before.progress["step"] == 2
    content = json.loads((data / "dataset.json").read_text())
    for part in ("imagesTr", "labelsTr"):
        shutil.copy(data / part / "ball_0.nii.gz", data / part / "a_new.nii.gz")
    content["training"].insert(0, {"image": "./imagesTr/a_new.nii.gz", "label": "./labelsTr/a_new.nii.gz"})
    (data / "dataset.json").write_text(json.dumps(content))
    events: list[Event] = []
    train_run(config, run, events.append, resume=True)
    after = load(run / "last.safetensors").metadata
    assert after.split == before.split and after.progress["step"] == 4
    assert next(e for e in events if isinstance(e, Ready)).start_step == 2


@pytest.mark.slow
def test_run_resumed_on_another_kind_of_device_keeps_its_sub_volume(
    data: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Begun on a GPU, say, whose memory gives larger sub-volumes than the CPU that it is resumed on."""
    config = tiny(path=str(data), **{**SHORT, "epochs": 2, "sub_volume": ()})
    steps = iter(range(100))
    train_run(config, run, lambda event: None, should_stop=lambda: next(steps) >= 7)  # six subjects are read first
    begun_with = load(run / "last.safetensors").metadata.train_config.sampling.sub_volume
    smaller = replace(DEVICE_KINDS["cpu"], sub_volume_voxels=math.prod(begun_with) // 2)
    monkeypatch.setitem(DEVICE_KINDS, "cpu", smaller)
    events: list[Event] = []
    train_run(config, run, events.append, resume=True)
    assert next(e for e in events if isinstance(e, Ready)).facts["sub-volume"] == format_size(begun_with) + " voxels"
    after = load(run / "last.safetensors").metadata
    assert (after.train_config.sampling.sub_volume, after.progress["step"]) == (begun_with, 4)


@pytest.mark.slow
def test_resuming_on_changed_data_is_refused(data: Path, run: Path) -> None:
    config = tiny(path=str(data), **SHORT)
    train_run(config, run, lambda event: None)
    content = json.loads((data / "dataset.json").read_text())
    (data / "dataset.json").write_text(json.dumps({**content, "training": content["training"][1:]}))
    with pytest.raises(DatasetError, match="no ball_0"):
        train_run(config, run, lambda event: None, resume=True)
    renamed = {**content, "labels": {"0": "background", "1": "bright", "2": "other"}}
    (data / "dataset.json").write_text(json.dumps(renamed))
    with pytest.raises(CheckpointError, match="classes"):
        train_run(config, run, lambda event: None, resume=True)


@pytest.mark.slow
def test_fine_tuning_with_the_same_or_other_classes(data: Path, run: Path, tmp_path: Path) -> None:
    train_run(tiny(path=str(data), **SHORT), run, lambda event: None)
    source = run / "last.safetensors"
    pretrained = load(source).weights
    for classes, copied in ((("bright", "dark"), "all"), (("bright",), "all but the classifier")):
        folder = tmp_path / copied
        folder.mkdir()
        events: list[Event] = []
        config = tiny(path=str(data), classes=classes, init_from=str(source), learning_rate=1e-12, ema=0.0, **SHORT)
        train_run(config, folder, events.append)
        tuned = load(folder / "last.safetensors")
        close = [
            k for k, v in tuned.model.items() if v.shape == pretrained[k].shape and torch.allclose(v, pretrained[k])
        ]
        missing = set(pretrained) - set(close)
        assert missing == (set() if copied == "all" else {"classifier.weight", "classifier.bias"})
        weights = next(e for e in events if isinstance(e, Ready)).facts["weights"]
        assert "tensors from run/last.safetensors" in weights and "warning" not in weights
    events = []
    deeper = tiny(path=str(data), channels=(8, 16, 32, 32), init_from=str(source), **SHORT)
    train_run(deeper, folder, events.append)
    weights = next(e for e in events if isinstance(e, Ready)).facts["weights"]
    assert "warning: the rest begins untrained; choose the network and channels" in weights
    with pytest.raises(CheckpointError, match="model and channels"):
        other = tiny(path=str(data), init_from=str(source), model="vnet", channels=(4, 8), **SHORT)
        train_run(other, tmp_path, lambda event: None)


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"path": "nowhere"}, DatasetError, "nothing there"),
        ({"layout": "iseg"}, DatasetError, "subject-1-T1"),
        ({"modalities": ("T3",)}, DatasetError, "M0; got T3"),
        ({"classes": ("x",)}, DatasetError, "classes"),
        ({"val_subjects": ("x",)}, DatasetError, "val_subjects"),
        ({"folds": 7}, DatasetError, "at most 6"),
        ({"init_from": "nowhere.safetensors"}, CheckpointError, "nowhere.safetensors"),
    ],
)
def test_unusable_data_or_configuration_is_refused(
    data: Path, run: Path, values: dict[str, object], error: type[UserError], message: str
) -> None:
    with pytest.raises(error, match=message):
        train_run(tiny(**{"path": str(data), **SHORT, **values}), run, lambda event: None)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_missing_cuda_device_is_refused(data: Path, run: Path) -> None:
    with pytest.raises(DeviceError, match="CUDA device"):
        train_run(tiny(path=str(data), device="cuda"), run, lambda event: None)


def test_out_of_memory_is_a_device_error(data: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object, **__: object) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr("core.training.experiment.fit", exhausted)
    with pytest.raises(DeviceError, match=r"free now.*training step .* batch_size 1 would take about"):
        train_run(tiny(path=str(data)), run, lambda event: None)


@pytest.mark.slow
def test_run_that_cannot_fit_is_refused_before_data_is_read(
    data: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.training.experiment.suggest_smaller", lambda *_: "a batch of 1 would fit")
    events: list[Event] = []
    config = tiny(path=str(data), sub_volume=(512, 512, 512), channels=(256, 512), batch_size=8)
    with pytest.raises(
        DeviceError,
        match=r"would take about [\d.]+ GB, and this machine's memory is [\d.]+ GB.*; a batch of 1 would fit",
    ):
        train_run(config, run, events.append)
    assert events == []


@pytest.mark.long
@pytest.mark.data
@pytest.mark.slow
def test_eight_classes_of_the_fetal_atlas(test_data: Path, tmp_path: Path, run: Path) -> None:
    data = make_fetal_folder(test_data / "fetal_atlas", tmp_path / "fetal", cases=2)
    held_out = sorted((data / "imagesTr").iterdir())[-1].name.removesuffix(".nii.gz")
    values = {
        "path": str(data),
        "channels": (8, 16),
        "sub_volume": (32, 32, 32),
        "samples_train": 16,
        "samples_val": 4,
        "epochs": 2,
        "whole_every": 0,
        "precision": "fp32",
        "val_subjects": (held_out,),
    }
    events: list[Event] = []
    train_run(preset("fast").with_values(values), run, events.append)
    scores = [e.values for e in events if isinstance(e, Metrics) and "val/dice_mean" in e.values]
    assert len([name for name in scores[0] if name.startswith("val/dice/")]) == 8
    assert scores[-1]["val/loss"] < scores[0]["val/loss"]


@pytest.mark.long
@pytest.mark.slow
def test_article_preset_trains_on_the_demo_data(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGMENTARIUM_DATA", str(tmp_path / "data"))
    replace_generator(monkeypatch)
    make_demo(tmp_path / "data" / "demo", subjects=2, workers=1)
    events: list[Event] = []
    shorter = {"sub_volume": (32, 32, 16), "samples_train": 1, "samples_val": 1, "epochs": 1}
    config = preset("article").with_values({"path": "demo", **shorter})
    train_run(config, run, events.append)
    facts = next(e for e in events if isinstance(e, Ready)).facts
    assert "19,074,724 parameters" in facts["network"] and facts["precision"] == "fp32"
    metadata = load(run / "last.safetensors").metadata
    assert metadata.dataset["synthetic"] is True and metadata.split["val"] == ["subject-1"]
    assert any("val/sub_volume_dice_with_background" in e.values for e in events if isinstance(e, Metrics))


@pytest.mark.slow
def test_ignore_label_is_no_class_and_its_voxels_do_not_train(tmp_path: Path) -> None:
    """The weights are the same whatever the value, the name and the way of choosing the label."""
    weights = []
    for n, (value, name, ignore) in enumerate([(255, "ignore", "auto"), (-1, "Void", "auto"), (7, "", "7")]):
        data = write_ignored_balls(tmp_path / f"data-{n}", value, name)
        run = tmp_path / f"run-{n}"
        run.mkdir()
        events: list[Event] = []
        train_run(tiny(path=str(data), ignore=ignore, threshold=0.05, **SHORT), run, events.append)
        checkpoint = load(run / "last.safetensors")
        labels = checkpoint.metadata.label_space
        assert labels.names == ("background", "bright", "dark") and labels.ignore is not None
        assert labels.ignore.raw == value
        ready = next(e for e in events if isinstance(e, Ready))
        assert ready.classes == labels.names and str(value) in ready.facts["left out"]
        assert ready.colours == tuple(c.colour for c in labels.classes)
        measured = [e.values for e in events if isinstance(e, Metrics)]
        assert all(math.isfinite(value) for values in measured for value in values.values())
        weights.append(checkpoint.model)
    for other in weights[1:]:
        assert all(torch.equal(weights[0][name], other[name]) for name in weights[0])


@pytest.mark.slow
def test_ignore_label_can_be_trained_as_a_class(tmp_path: Path, run: Path) -> None:
    data = write_ignored_balls(tmp_path / "data")
    train_run(tiny(path=str(data), ignore="none", **SHORT), run, lambda event: None)
    assert load(run / "last.safetensors").metadata.label_space.names == ("background", "bright", "dark", "ignore")


@pytest.mark.slow
def test_run_of_an_earlier_version_with_a_class_named_ignore_is_resumed(tmp_path: Path, run: Path) -> None:
    data = write_ignored_balls(tmp_path / "data")
    config = tiny(path=str(data), ignore="none", **{**SHORT, "epochs": 2})
    steps = iter(range(100))
    train_run(config, run, lambda event: None, should_stop=lambda: next(steps) >= 7)
    checkpoint = load(run / "last.safetensors")
    del checkpoint.metadata.config["data"]["ignore"]
    save(run / "last.safetensors", checkpoint)
    train_run(config.with_values({"ignore": "auto"}), run, lambda event: None, resume=True)
    metadata = load(run / "last.safetensors").metadata
    assert metadata.progress["step"] == 4 and metadata.label_space.names[-1] == "ignore"
    assert metadata.train_config.data.ignore == "none"
