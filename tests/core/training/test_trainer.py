"""The training loop: learning, validation, checkpoints, stopping and resuming."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from core.checkpointing.checkpoint import Checkpoint, load
from core.evaluation.metrics import dice_per_class
from core.events import (
    SUB_VOLUMES_MEASURED,
    WHOLE_VOLUMES_MEASURED,
    Ended,
    Event,
    Metrics,
    Picture,
    Progress,
    Ready,
    Saved,
    Segmented,
)
from core.inference.forward_pass import forward_pass
from core.training.early_stopping import EarlyStopping
from core.training.state import TrainingState
from core.training.trainer import fit
from tests.support.balls import CLASSES, tiny
from tests.support.training_tasks import (
    checkpoint_tensors,
    equal_tensors,
    fixed_dice,
    make_task,
    metric_values,
    stop_after,
    validations,
)


@pytest.fixture
def events() -> list[Event]:
    return []


@dataclass(frozen=True)
class FinishedRun:
    """Events and checkpoints of a run to its end; never written to."""

    folder: Path
    events: list[Event]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    run = FinishedRun(tmp_path_factory.mktemp("finished"), [])
    fit(make_task(run.folder, tiny(epochs=8, whole_every=2, inference_mode="tiles")), run.events.append)
    return run


@pytest.mark.slow
def test_training_learns_and_reports(finished: FinishedRun) -> None:
    events = finished.events
    losses = metric_values(events, "train/loss")
    assert losses[-1] < 0.5 * losses[0]
    whole = metric_values(events, "whole/dice_mean")
    assert len(whole) == 4 and whole[-1] > 0.8  # epochs 2, 4 and 6, and the end
    assert isinstance(events[0], Ready) and events[0].classes == CLASSES
    assert events[-1] == replace(events[-1], reason="finished", epoch=8, step=64)  # type: ignore[arg-type]
    assert [e.epoch for e in events if isinstance(e, Picture)] == list(range(1, 9))
    assert {e.activity for e in events if isinstance(e, Progress)} >= {"training", "validating"}


@pytest.mark.slow
def test_metrics_have_the_documented_names(finished: FinishedRun) -> None:
    names = {name for e in finished.events if isinstance(e, Metrics) for name in e.values}
    by_class = {f"{kind}/dice/{name}" for kind in ("val", "whole") for name in CLASSES[1:]}
    means = {"val/dice_mean", "whole/dice_mean", "val/sub_volume_dice_with_background"}
    assert names == {"train/loss", "lr", "speed", "val/loss", *means, *by_class}


@pytest.mark.slow
def test_best_checkpoint_has_the_averaged_weights_of_the_best_epoch(finished: FinishedRun) -> None:
    by_epoch = {
        e.epoch: e.values["whole/dice_mean"]
        for e in finished.events
        if isinstance(e, Metrics) and "whole/dice_mean" in e.values
    }
    best, last = (load(finished.folder / f"{kind}.safetensors") for kind in ("best", "last"))
    stored = best.metadata.progress["best"]
    assert stored["mean_dice"] == max(by_epoch.values()) and by_epoch[stored["epoch"]] == stored["mean_dice"]
    assert stored["measured_on"] == "held-out whole volumes"
    assert last.average and not equal_tensors(last.model, last.average)
    if stored["epoch"] == 8:
        assert equal_tensors(best.model, last.average)
    assert [e.kind for e in finished.events if isinstance(e, Saved)][-1] == "last"


@pytest.mark.slow
def test_early_stopping_ends_training_and_survives_a_resume(tmp_path: Path, events: list[Event]) -> None:
    """With a learning rate of nearly 0 the Dice does not change."""
    config = tiny(
        epochs=50, samples_train=4, whole_every=1, patience=3, learning_rate=1e-9, ema=0.0, inference_mode="tiles"
    )
    fit(make_task(tmp_path, config), events.append)
    ended = events[-1]
    assert isinstance(ended, Ended) and (ended.reason, ended.epoch) == ("finished", 4)
    assert "3 validations" in ended.detail
    last = load(tmp_path / "last.safetensors", training_state=True)
    assert last.metadata.progress["patience"]["waited"] == 3
    events.clear()
    fit(make_task(tmp_path, config), events.append, resume=last)
    assert isinstance(events[-1], Ended) and events[-1].epoch == 4


@pytest.mark.slow
def test_checkpoints_are_kept_every_few_epochs(tmp_path: Path, events: list[Event]) -> None:
    fit(make_task(tmp_path, tiny(epochs=5, samples_train=4, whole_every=0, keep_every=2)), events.append)
    kept = ["epoch-0002", "epoch-0004"]
    names = {p.stem for p in tmp_path.glob("*.safetensors")}
    assert names == {"last", "previous", "best", *kept}
    assert load(tmp_path / "epoch-0002.safetensors").metadata.progress["step"] == 4
    assert [e.kind for e in events if isinstance(e, Saved) and e.kind.startswith("epoch")] == kept


# --- stop and resume --------------------------------------------------------------------------------------------------


# Its noise and its losses are part of training alone.
AUTOENCODER = {"model": "resnet3d_vae", "loss": "vae", "channels": (8, 16)}
AUGMENTED = {"draw_once": True, "affine": 0.8, "elastic": 0.5, "intensity": 0.5}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("values", "stop_steps"),
    [({}, (3, 8)), (AUGMENTED, (5, 13, 16)), (AUTOENCODER, (3,))],
    ids=["", "augmented", "vae"],
)
def test_resumed_run_equals_uninterrupted_run(
    tmp_path: Path, values: dict[str, object], stop_steps: tuple[int, ...]
) -> None:
    """Stopped within an epoch of 8 steps, or at its end before the validation."""
    config = tiny(epochs=2, whole_every=0, samples_val=2, noise=0.1, **values)
    uninterrupted: list[Event] = []
    fit(make_task(tmp_path / "uninterrupted", config), uninterrupted.append)
    for stop_step in stop_steps:
        events: list[Event] = []
        folder = tmp_path / f"stopped-{stop_step}"
        fit(make_task(folder, config), events.append, should_stop=stop_after(stop_step))
        assert isinstance(events[-1], Ended) and (events[-1].reason, events[-1].step) == ("stopped", stop_step)
        fit(make_task(folder, config), events.append, resume=load(folder / "last.safetensors", training_state=True))
        for name in ("last.safetensors", "best.safetensors"):
            expected = checkpoint_tensors(tmp_path / "uninterrupted" / name)
            assert equal_tensors(checkpoint_tensors(folder / name), expected)
        assert validations(events) == validations(uninterrupted)


@pytest.mark.slow
def test_validation_in_the_checkpoint_is_not_repeated(tmp_path: Path, events: list[Event]) -> None:
    """A run that is killed after its last checkpoint, but before it is recorded as finished."""
    config = tiny(epochs=1, samples_train=4, whole_every=1)
    fit(make_task(tmp_path, config), events.append)
    measured = [e for e in events if isinstance(e, Metrics) and "lr" not in e.values]
    assert len(measured) == 2  # sub-volumes, and whole volumes in every mode
    before = load(tmp_path / "last.safetensors", training_state=True)
    events.clear()
    fit(make_task(tmp_path, config), events.append, resume=before)
    assert not [e for e in events if isinstance(e, (Metrics, Picture))]
    assert isinstance(events[-1], Ended) and events[-1].reason == "finished"
    after = load(tmp_path / "last.safetensors")
    assert after.metadata.inference == before.metadata.inference and "dice" in after.metadata.inference
    assert after.metadata.progress["best"] == before.metadata.progress["best"]


@pytest.mark.slow
def test_final_validation_that_is_not_in_the_checkpoint_is_repeated(tmp_path: Path, events: list[Event]) -> None:
    config = tiny(epochs=1, samples_train=4, whole_every=1)
    fit(make_task(tmp_path, config), events.append)
    last = load(tmp_path / "last.safetensors", training_state=True)
    del last.metadata.progress["final_validation_step"]  # as checkpoints of earlier versions, or at the end of an epoch
    repeated: list[Event] = []
    fit(make_task(tmp_path, config), repeated.append, resume=last)
    (dice,) = metric_values(repeated, "whole/dice_mean")
    assert dice == metric_values(events, "whole/dice_mean")[-1]


@pytest.mark.slow
def test_another_seed_is_another_run(tmp_path: Path) -> None:
    weights = []
    for number, seed in enumerate((0, 0, 1)):
        folder = tmp_path / str(number)
        fit(make_task(folder, tiny(epochs=1, samples_train=4, whole_every=0, seed=seed)), lambda event: None)
        weights.append(checkpoint_tensors(folder / "last.safetensors"))
    assert equal_tensors(weights[0], weights[1]) and not equal_tensors(weights[0], weights[2])


def test_whole_volumes_replace_a_best_of_sub_volumes_and_never_the_other_way_round() -> None:
    state = TrainingState(EarlyStopping(0))
    assert state.is_best(0.1, SUB_VOLUMES_MEASURED)
    state.best = {"epoch": 1, "mean_dice": 0.9, "measured_on": SUB_VOLUMES_MEASURED}
    assert state.is_best(0.91, SUB_VOLUMES_MEASURED) and not state.is_best(0.9, SUB_VOLUMES_MEASURED)
    assert state.is_best(0.5, WHOLE_VOLUMES_MEASURED)
    state.best |= {"mean_dice": 0.5, "measured_on": WHOLE_VOLUMES_MEASURED}
    assert state.is_best(0.6, WHOLE_VOLUMES_MEASURED) and not state.is_best(0.99, SUB_VOLUMES_MEASURED)
    del state.best["measured_on"]  # as in checkpoints of earlier versions
    assert state.is_best(0.6, SUB_VOLUMES_MEASURED) and not state.is_best(0.4, WHOLE_VOLUMES_MEASURED)


@pytest.mark.slow
def test_resumed_run_with_whole_volumes_replaces_a_best_of_sub_volumes(tmp_path: Path, events: list[Event]) -> None:
    config = tiny(epochs=1, samples_train=4, whole_every=0, inference_mode="tiles")
    fit(make_task(tmp_path, config), events.append)
    last = load(tmp_path / "last.safetensors", training_state=True)
    last.metadata.progress["best"]["mean_dice"] = 1.0
    fit(make_task(tmp_path, config.with_values({"epochs": 2, "whole_every": 5})), events.append, resume=last)
    best = load(tmp_path / "best.safetensors").metadata.progress["best"]
    assert (best["epoch"], best["measured_on"]) == (2, WHOLE_VOLUMES_MEASURED) and best["mean_dice"] < 1


@pytest.mark.slow
def test_segmentations_of_the_best_checkpoint_are_handed_over_worst_first(finished: FinishedRun) -> None:
    (segmented,) = [e for e in finished.events if isinstance(e, Segmented)]
    best = load(finished.folder / "best.safetensors").metadata
    assert (segmented.epoch, segmented.step) == (best.progress["epoch"], best.progress["step"])
    truth = {subject.id: subject.label for subject in make_task(finished.folder, tiny()).held_out}
    dice = [
        np.nanmean(dice_per_class(truth[id], labels.unpack(), len(CLASSES))[1:])
        for id, labels in segmented.label_maps.items()
        if labels is not None
    ]
    assert len(dice) == 2 and dice == sorted(dice)
    assert np.mean(dice) == pytest.approx(best.progress["best"]["mean_dice"], abs=1e-6)


# --- configurations ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_run_without_validation_has_no_best_checkpoint(tmp_path: Path) -> None:
    fit(make_task(tmp_path, tiny(epochs=1, samples_train=4, samples_val=0, whole_every=0)), lambda event: None)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last.safetensors", "previous.safetensors"]


def test_temporary_files_of_an_interrupted_run_are_removed(tmp_path: Path) -> None:
    stale = tmp_path / ".last.safetensors.123.tmp"
    stale.write_bytes(b"half a checkpoint")
    fit(make_task(tmp_path, tiny(epochs=1, samples_train=2, samples_val=0, whole_every=0)), lambda event: None)
    assert not stale.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "optimizer"), [*(("unet3d", o) for o in ("sgd", "adam", "rmsprop", "adamw", "muon")), ("vnet", "muon")]
)
def test_every_optimizer_and_model_trains(tmp_path: Path, model: str, optimizer: str) -> None:
    config = tiny(model=model, optimizer=optimizer, learning_rate=1e-3, epochs=1, samples_train=4, whole_every=0)
    before = [p.clone() for p in make_task(tmp_path, config).model.parameters()]
    fit(make_task(tmp_path, config), lambda event: None)
    after: Checkpoint = load(tmp_path / "last.safetensors", training_state=True)
    changed = [not torch.equal(b, a) for b, a in zip(before, list(after.model.values()), strict=False)]
    assert any(changed) and all(torch.isfinite(v).all() for v in after.model.values())


@pytest.mark.slow
@pytest.mark.parametrize("one_pass_is_worse", [False, True])
def test_one_pass_is_chosen_only_if_held_out_dice_does_not_suffer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_pass_is_worse: bool
) -> None:
    fixed_dice(monkeypatch, tiles=0.5, whole=0.49 if one_pass_is_worse else 0.5)
    fit(make_task(tmp_path, tiny(epochs=1, samples_train=2, whole_every=10)), lambda event: None)
    inference = load(tmp_path / "last.safetensors").metadata.inference
    assert inference["mode"] == ("tiles" if one_pass_is_worse else "whole")
    assert inference["dice"] == {"tiles": 0.5, "whole": 0.49 if one_pass_is_worse else 0.5}


def test_memory_that_does_not_suffice_for_one_pass_does_not_fail_a_trained_run(
    tmp_path: Path, events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The optional mode of the final validation falls back to tiles."""
    failed: list[tuple[int, ...]] = []

    def limited(network: torch.nn.Module, images: torch.Tensor, precision: str) -> torch.Tensor:
        if max(images.shape[2:]) > 16:
            failed.append(tuple(images.shape))
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB.")
        return forward_pass(network, images, precision)

    monkeypatch.setattr("core.inference.sliding_window.forward_pass", limited)
    fit(make_task(tmp_path, tiny(epochs=1, samples_train=4, whole_every=1, inference_mode="auto")), events.append)
    assert failed and isinstance(events[-1], Ended) and events[-1].reason == "finished"
    dice = load(tmp_path / "last.safetensors").metadata.inference["dice"]
    assert dice["whole"] == dice["tiles"], "in the same tiles"
