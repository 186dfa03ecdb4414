"""The training loop: it learns, says what it does, ends in time, goes on exactly, and never keeps what is not
finite."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from core.checkpointing.checkpoint import Checkpoint, Description, load
from core.config import TrainConfig
from core.events import Ended, Event, Metrics, Picture, Progress, Ready, Saved
from core.labels import LabelSpace
from core.models import build_model
from core.training import validator
from core.training.trainer import Task, TrainingFailedError, fit
from core.training.validation_scores import WholeVolumeScore, score_whole_volumes
from core.types import TrainingSubject
from tests.support.balls import CLASSES, COLOURS, tiny, training_subjects


def task(folder: Path, config: TrainConfig, subjects: list[TrainingSubject] | None = None) -> Task:
    subjects = training_subjects(4) if subjects is None else subjects
    torch.manual_seed(config.run.seed)
    labels = LabelSpace.from_raw(list(enumerate(CLASSES)))
    return Task(
        config=config,
        model=build_model(config.model, 1, len(CLASSES)),
        train=subjects,
        held_out=training_subjects(2, first=50),
        classes=CLASSES,
        colours=COLOURS,
        folder=folder,
        description=Description(config.to_json(), labels.to_json(), ("M0",), None),
    )


def tensors(path: Path) -> dict[str, torch.Tensor]:
    found = load(path, training_state=True)
    named = {f"model/{k}": v for k, v in found.model.items()} | {f"average/{k}": v for k, v in found.average.items()}
    return named | {f"{i}/{k}": v for i, state in found.optimizer.items() for k, v in state.items()}


def measured(events: list[Event]) -> list[tuple[int, dict[str, float]]]:
    return [(e.step, dict(e.values)) for e in events if isinstance(e, Metrics) and "val/loss" in e.values]


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.fixture
def events() -> list[Event]:
    return []


def test_it_learns_and_says_so(tmp_path: Path, events: list[Event]) -> None:
    fit(task(tmp_path, tiny(epochs=8)), events.append)
    losses = [e.values["train/loss"] for e in events if isinstance(e, Metrics) and "train/loss" in e.values]
    assert losses[-1] < 0.5 * losses[0]
    whole = [e.values["whole/dice_mean"] for e in events if isinstance(e, Metrics) and "whole/dice_mean" in e.values]
    assert len(whole) == 3 and whole[-1] > 0.8  # epochs 3 and 6, and the end
    assert isinstance(events[0], Ready) and events[0].classes == CLASSES
    assert events[-1] == replace(events[-1], reason="finished", epoch=8, step=64)  # type: ignore[arg-type]
    assert [e.epoch for e in events if isinstance(e, Picture)] == list(range(1, 9))
    assert {p.what for e in events if isinstance(e, Progress) for p in [e]} >= {"training", "validating"}


def test_every_validation_has_the_documented_names(tmp_path: Path, events: list[Event]) -> None:
    fit(task(tmp_path, tiny(epochs=1, whole_every=1)), events.append)
    names = {name for e in events if isinstance(e, Metrics) for name in e.values}
    tissues = {f"{where}/dice/{name}" for where in ("val", "whole") for name in CLASSES[1:]}
    means = {"val/dice_mean", "whole/dice_mean", "val/sub_volume_dice_with_background"}
    assert names == {"train/loss", "lr", "speed", "val/loss", *means, *tissues}


def test_the_best_checkpoint_is_the_best_epoch_with_averaged_weights(tmp_path: Path, events: list[Event]) -> None:
    fit(task(tmp_path, tiny(epochs=4, whole_every=1, inference_mode="tiles")), events.append)
    by_epoch = {
        e.epoch: e.values["whole/dice_mean"] for e in events if isinstance(e, Metrics) and "whole/dice_mean" in e.values
    }
    best = load(tmp_path / "best.safetensors")
    told = best.description.progress["best"]
    assert told["mean_dice"] == max(by_epoch.values()) and by_epoch[told["epoch"]] == told["mean_dice"]
    assert told["measured_on"] == "held-out whole volumes"
    last = load(tmp_path / "last.safetensors")
    assert last.average and not same(last.model, last.average)
    if told["epoch"] == 4:
        assert same(best.model, last.average)
    assert [e.kind for e in events if isinstance(e, Saved)][-1] == "last"


def test_it_ends_early_where_nothing_grows(tmp_path: Path, events: list[Event]) -> None:
    """A learning rate of next to nothing: the Dice stands still."""
    config = tiny(epochs=50, whole_every=1, patience=3, learning_rate=1e-9, ema=0.0, inference_mode="tiles")
    fit(task(tmp_path, config), events.append)
    ended = events[-1]
    assert isinstance(ended, Ended) and (ended.reason, ended.epoch) == ("finished", 4)
    assert ended.why.startswith("ended early: the smoothed Dice of held-out volumes has not grown in 3 validations")
    stored = load(tmp_path / "last.safetensors").description.progress["patience"]
    assert stored["waited"] == 3
    events.clear()
    fit(task(tmp_path, config), events.append, resume=load(tmp_path / "last.safetensors", training_state=True))
    assert isinstance(events[-1], Ended) and events[-1].epoch == 4, "resumed, it has not forgotten"


def test_checkpoints_are_kept_for_good_every_few_epochs(tmp_path: Path, events: list[Event]) -> None:
    fit(task(tmp_path, tiny(epochs=5, whole_every=0, keep_every=2)), events.append)
    names = {p.name for p in tmp_path.glob("*.safetensors")}
    assert names == {
        "last.safetensors", "previous.safetensors", "best.safetensors", "epoch-0002.safetensors",
        "epoch-0004.safetensors",
    }  # fmt: skip
    assert load(tmp_path / "epoch-0002.safetensors").description.progress["step"] == 16
    assert [e.kind for e in events if isinstance(e, Saved) and e.kind.startswith("epoch")] == [
        "epoch-0002",
        "epoch-0004",
    ]


@pytest.mark.parametrize("values", [{}, {"draw_once": True, "affine": 0.8, "elastic": 0.5, "intensity": 0.5}])
@pytest.mark.parametrize("stop_after", [3, 8, 13, 16])
def test_stopped_and_resumed_equals_never_stopped(tmp_path: Path, stop_after: int, values: dict[str, object]) -> None:
    config = tiny(epochs=2, whole_every=0, samples_val=2, noise=0.1, **values)
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    never: list[Event] = []
    fit(task(tmp_path / "one", config), never.append)
    asked = iter(range(1, 1000))
    events: list[Event] = []
    fit(task(tmp_path / "two", config), events.append, should_stop=lambda: next(asked) >= stop_after)
    assert isinstance(events[-1], Ended) and (events[-1].reason, events[-1].step) == ("stopped", stop_after)
    halfway = load(tmp_path / "two" / "last.safetensors", training_state=True)
    fit(task(tmp_path / "two", config), events.append, resume=halfway)
    for kind in ("last", "best"):
        one, two = (tensors(tmp_path / which / f"{kind}.safetensors") for which in ("one", "two"))
        assert same(one, two)
    assert measured(events) == measured(never)


def test_another_seed_is_another_run(tmp_path: Path) -> None:
    found: list[dict[str, torch.Tensor]] = []
    for seed in (0, 0, 1):
        folder = tmp_path / str(len(found))
        folder.mkdir()
        fit(task(folder, tiny(epochs=1, samples_train=4, whole_every=0, seed=seed)), lambda event: None)
        found.append(tensors(folder / "last.safetensors"))
    assert same(found[0], found[1]) and not same(found[0], found[2])


class Clock:
    """A clock that every training step moves by a second and every validation by five."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def reign(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Be the clock of everything that training does."""
        for module in ("train", "schedule", "validation", "held_out", "closing"):
            monkeypatch.setattr(f"core.{module}.time", self)


def test_a_time_budget_fits_the_schedule_and_keeps_time_for_the_last_validation(
    tmp_path: Path, events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    clock.reign(monkeypatch)
    work = task(tmp_path, tiny(minutes=4.0, whole_every=1000, samples_val=0, inference_mode="tiles"))
    work.model.register_forward_hook(
        lambda module, *_: setattr(clock, "now", clock.now + (1 if module.training else 5))
    )
    fit(work, events.append, started=0.0)
    ended = events[-1]
    assert isinstance(ended, Ended) and ended.reason == "finished"
    validations = [e.elapsed_s for e in events if isinstance(e, Metrics) and "whole/dice_mean" in e.values]
    assert len(validations) == 1, "the one at the end"
    assert 200 < validations[0] <= 240, "it is over within the budget, and little of it is wasted"
    rates = [e.values["lr"] for e in events if isinstance(e, Metrics) and "lr" in e.values]
    assert rates == sorted(rates, reverse=True) and rates[-1] < 0.01 * rates[0], "the cosine comes to its end"
    assert load(tmp_path / "best.safetensors").description.progress["best"]["mean_dice"] > 0


@pytest.mark.parametrize(("minutes", "modes"), [(60.0, 2), (4.0, 1), (1.0, 0)])
def test_a_validation_that_a_time_budget_does_not_afford_is_left_out(
    tmp_path: Path, events: list[Event], monkeypatch: pytest.MonkeyPatch, minutes: float, modes: int
) -> None:
    clock = Clock()
    clock.reign(monkeypatch)
    work = task(tmp_path, tiny(minutes=minutes, whole_every=1000, samples_val=2))
    seconds = lambda module: 120 if module.training else 5  # noqa: E731
    work.model.register_forward_hook(lambda module, *_: setattr(clock, "now", clock.now + seconds(module)))
    fit(work, events.append, started=0.0)
    best = load(tmp_path / "best.safetensors").description
    assert len(best.inference.get("dice", ())) == modes
    facts = next(e for e in events if isinstance(e, Ready)).facts
    assert ("whole volumes" in facts) == (modes == 0)
    assert best.progress["best"]["measured_on"] == ("held-out whole volumes" if modes else "held-out sub-volumes")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_ends_training_and_keeps_the_last_finite_checkpoint(
    tmp_path: Path, bad: float
) -> None:
    config = tiny(epochs=4, whole_every=0, checkpoint_minutes=0.01)
    work = task(tmp_path, config)
    steps = iter(range(1, 1000))

    def poison(module: torch.nn.Module, inputs: object, output: torch.Tensor) -> torch.Tensor | None:
        return output * bad if module.training and next(steps) == 12 else None

    work.model.register_forward_hook(poison)
    with pytest.raises(TrainingFailedError, match=r"not finite any more .*learning_rate"):
        fit(work, lambda event: None)
    kept = load(tmp_path / "last.safetensors", training_state=True)
    assert 8 <= kept.description.progress["step"] < 12, "the end of the first epoch, or later where steps are slow"
    assert all(torch.isfinite(v).all() for v in tensors(tmp_path / "last.safetensors").values())
    assert all(torch.isfinite(p).all() for p in work.model.parameters()), "the bad step never reached the weights"


def test_without_held_out_measurements_there_is_a_last_checkpoint_and_no_best(tmp_path: Path) -> None:
    fit(task(tmp_path, tiny(epochs=1, samples_val=0, whole_every=0)), lambda event: None)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last.safetensors", "previous.safetensors"]


def test_stale_temporary_files_are_swept(tmp_path: Path) -> None:
    stale = tmp_path / ".last.safetensors.123.tmp"
    stale.write_bytes(b"half a checkpoint")
    fit(task(tmp_path, tiny(epochs=1, samples_train=2, samples_val=0, whole_every=0)), lambda event: None)
    assert not stale.exists()


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "rmsprop", "adamw", "muon"])
@pytest.mark.parametrize("model", ["unet3d", "vnet"])
def test_every_optimizer_trains_every_model(tmp_path: Path, optimizer: str, model: str) -> None:
    config = tiny(model=model, optimizer=optimizer, learning_rate=1e-3, epochs=1, samples_train=4, whole_every=0)
    before = [p.clone() for p in task(tmp_path, config).model.parameters()]
    fit(task(tmp_path, config), lambda event: None)
    after: Checkpoint = load(tmp_path / "last.safetensors", training_state=True)
    moved = [not torch.equal(b, a) for b, a in zip(before, list(after.model.values()), strict=False)]
    assert any(moved) and all(torch.isfinite(v).all() for v in after.model.values())


@pytest.mark.parametrize("one_pass_is_worse", [False, True])
def test_one_pass_is_chosen_only_where_held_out_dice_does_not_suffer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_pass_is_worse: bool
) -> None:
    honest = score_whole_volumes

    def scored(*arguments: object, mode: str, **options: object) -> WholeVolumeScore:
        score = honest(*arguments, mode=mode, **options)  # type: ignore[arg-type]
        loss = 0.01 if mode == "whole" and one_pass_is_worse else 0.0
        return replace(score, dice=np.full(score.dice.shape, 0.5 - loss))

    monkeypatch.setattr(validator, "score_whole_volumes", scored)
    fit(task(tmp_path, tiny(epochs=1, samples_train=2, whole_every=10)), lambda event: None)
    inference = load(tmp_path / "last.safetensors").description.inference
    assert inference["mode"] == ("tiles" if one_pass_is_worse else "whole")
    assert inference["dice"] == {"tiles": 0.5, "whole": 0.49 if one_pass_is_worse else 0.5}
