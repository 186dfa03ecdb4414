"""Left and right in a training run: decided from names and label maps, kept, and learned."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core.checkpointing.checkpoint import load, save
from core.config import TrainConfig
from core.datasets import open_dataset
from core.datasets.loading import load_subject
from core.datasets.single_case import read_images
from core.datasets.splits import Split
from core.errors import ConfigError
from core.evaluation.metrics import dice_per_class
from core.events import Event, Note, Ready
from core.inference.predictor import InferenceOverrides, Predictor
from core.inference.subject_image import SubjectImage
from core.presets import preset
from core.regions import Region, RegionSpace
from core.runs.launch import resolve_config
from core.sampling.streaming import StreamedSubjects
from core.training.experiment import train_run
from core.training.run_data import RunData
from core.training.run_mirroring import FACT, decide_mirroring, keep_mirroring
from core.training.subject_sets import SubjectSets
from tests.support.balls import tiny
from tests.support.kidneys import kidneys, write_kidneys

SHORT = {"epochs": 1, "samples_train": 4, "samples_val": 2, "whole_every": 0}
PAIR = ("left kidney", "right kidney")


def train(data: Path, run: Path, resume: bool = False, **values: Any) -> tuple[TrainConfig, str, list[str]]:
    """The configuration in the checkpoint, the fact about left and right, and the notes of the log."""
    run.mkdir(exist_ok=True)
    events: list[Event] = []
    train_run(tiny(path=str(data), **{**SHORT, **values}), run, events.append, resume=resume)
    facts = next(e for e in events if isinstance(e, Ready)).facts
    notes = [e.text for e in events if isinstance(e, Note)]
    return load(run / "last.safetensors").metadata.train_config, facts.get(FACT, ""), notes


def test_pair_is_swapped_and_the_checkpoint_says_so(tmp_path: Path) -> None:
    config, fact, notes = train(write_kidneys(tmp_path / "data"), tmp_path / "run", mirror=True)
    assert (config.augment.lateral, config.augment.lateral_pairs) == ("swap", PAIR)
    assert config.swapped_classes == ((1, 2),) and config.augment.flip == 0.5
    assert fact == "swapped when an image is mirrored: left kidney / right kidney" and notes == []
    options = Predictor(tmp_path / "run" / "last.safetensors").options
    assert options.mirror and options.swapped == ((1, 2),)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "values", "reason"),
    [
        (("background", "left kidney", "right kidney"), {"classes": ("left kidney",)}, "left kidney has a side"),
        (("background", "left kidney", "liver"), {}, "left kidney has a side"),
        (("background", "kidney 1", "kidney 2"), {}, "kidney 1 / kidney 2 lie as mirror images"),
        (("background", *PAIR), {"lateral": "off"}, "images are not mirrored"),
    ],
)
def test_mirroring_is_off_where_it_would_be_wrong(
    tmp_path: Path, names: tuple[str, ...], values: dict[str, Any], reason: str
) -> None:
    config, fact, _ = train(write_kidneys(tmp_path / "data", names), tmp_path / "run", mirror=True, **values)
    assert config.augment.lateral == "off" and config.augment.flip == 0 and not config.validation.mirror
    assert reason in fact
    checkpoint = tmp_path / "run" / "last.safetensors"
    assert not Predictor(checkpoint).options.mirror
    with pytest.raises(ConfigError, match="lateral off"):
        Predictor(checkpoint, InferenceOverrides(mirror=True))


def test_unknown_orientation_turns_mirroring_off(tmp_path: Path) -> None:
    config, fact, notes = train(write_kidneys(tmp_path / "data", oriented=False), tmp_path / "run")
    assert config.augment.lateral == "off" and "no orientation" in fact and notes == []


@pytest.mark.slow
def test_subjects_with_exchanged_sides_are_named_in_the_log(tmp_path: Path) -> None:
    data = write_kidneys(tmp_path / "data", mirrored=(1, 2))
    config, _, notes = train(data, tmp_path / "run", test_subjects=("case_0",))
    assert config.augment.lateral == "swap"
    assert notes == ["left kidney lies to the right of right kidney in 2 of 5 subjects: case_1, case_2"]


def test_classes_without_a_side_say_nothing(tmp_path: Path) -> None:
    data = write_kidneys(tmp_path / "data", ("background", "liver", "spleen"))
    config, fact, _ = train(data, tmp_path / "run", classes=("liver",))
    assert config.augment.lateral == "ignore" and config.augment.flip == 0.5 and fact == ""


def test_unknown_stated_pair_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="lateral_pairs: expected classes out of left kidney"):
        train(write_kidneys(tmp_path / "data"), tmp_path / "run", lateral_pairs=("left kidney", "spleen"))


def test_region_without_a_mirror_image_refuses_mirrored_predictions_unless_auto_chose_them(tmp_path: Path) -> None:
    dataset = open_dataset(write_kidneys(tmp_path / "data"))
    classes = dataset.labels.names
    regions = RegionSpace((Region("kidneys", PAIR), Region("one kidney", PAIR[:1])), classes)
    data = RunData(dataset, Split((), (), ()), ("M0",), dataset.labels, {}, {}, (), regions, "regions")
    config = TrainConfig().with_values({"mirror": True, "classes": classes[1:]})
    with pytest.raises(ConfigError, match="mirror image of each region to be a region, got none for one kidney"):
        decide_mirroring(config, data, {})
    decided = decide_mirroring(replace(config, preset="auto"), data, {})
    assert not decided.config.validation.mirror and decided.config.augment.flip == config.augment.flip
    (note,) = decided.notes
    assert note.startswith("predictions are not mirrored, which auto had chosen: mirror: expected the mirror image")
    assert not keep_mirroring(replace(config, preset="auto"), decided.config).config.validation.mirror, "resumed too"
    labels = replace(data, targets="labels")
    assert decide_mirroring(config, labels, {}).config.validation.mirror


def test_mirrored_predictions_that_auto_chose_are_left_out_with_a_note(tmp_path: Path) -> None:
    dataset = open_dataset(write_kidneys(tmp_path / "data", ("background", "left kidney", "tumour")))
    data = RunData(dataset, Split((), (), ()), ("M0",), dataset.labels, {}, {}, (), None, "labels")
    config = TrainConfig().with_values({"mirror": True})
    assert decide_mirroring(config, data, {}).notes == ()
    decided = decide_mirroring(replace(config, preset="auto"), data, {})
    (note,) = decided.notes
    assert not decided.config.validation.mirror and note.endswith(decided.facts[FACT])
    assert note.startswith("predictions are not mirrored, which auto had chosen: ") and "left kidney has a side" in note
    unchosen = replace(config.with_values({"mirror": False}), preset="auto")
    assert decide_mirroring(unchosen, data, {}).notes == ()


@pytest.mark.slow
def test_resumed_run_keeps_its_decision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also that of a run of version 0.1, which swapped nothing."""
    data, run = write_kidneys(tmp_path / "data"), tmp_path / "run"
    train(data, run)
    monkeypatch.delattr("core.training.experiment.decide_mirroring")
    config, fact, notes = train(data, run, resume=True, epochs=2)
    assert config.augment.lateral_pairs == PAIR and PAIR[0] in fact and notes == []
    old = load(run / "last.safetensors", training_state=True)
    for name in ("lateral", "lateral_pairs"):
        del old.metadata.config["augment"][name]
    save(run / "last.safetensors", old)
    assert Predictor(run / "last.safetensors").options.swapped == ()
    config, fact, _ = train(data, run, resume=True, epochs=3)
    assert config.augment.lateral == "ignore" and config.augment.flip == 0.5 and fact == ""


@pytest.mark.slow
def test_weights_do_not_depend_on_the_request_without_sides(tmp_path: Path) -> None:
    data = write_kidneys(tmp_path / "data", ("background", "liver", "spleen"))
    weights = []
    for lateral in ("auto", "ignore"):
        train(data, tmp_path / lateral, lateral=lateral, classes=("spleen",), deterministic=True, samples_train=8)
        weights.append(load(tmp_path / lateral / "last.safetensors").model)
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.slow
def test_streamed_subjects_are_swapped_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same weights from memory and from disk."""
    data = write_kidneys(tmp_path / "data")
    streamed: list[bool] = []
    enter = SubjectSets.__enter__

    def noted(sets: SubjectSets) -> SubjectSets:
        streamed.append(isinstance(sets.train, StreamedSubjects))
        return enter(sets)

    monkeypatch.setattr(SubjectSets, "__enter__", noted)
    weights = []
    for name, resident_gb in (("memory", 1.0), ("disk", 1e-9)):
        train(data, tmp_path / name, resident_gb=resident_gb, deterministic=True, flip=0.5, samples_train=8)
        weights.append(load(tmp_path / name / "last.safetensors").model)
    assert streamed == [False, True]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


# --- learning ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield write_kidneys(tmp_path_factory.mktemp("kidneys") / "data")


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("lateral", ["auto", pytest.param("ignore", marks=pytest.mark.long)])
def test_left_and_right_are_learned_with_mirroring(folder: Path, tmp_path: Path, lateral: str) -> None:
    """A short training with the preset ``quick`` and its mirroring: unswapped, the kidneys cannot be told apart."""
    values = {
        "path": str(folder),
        "epochs": 4,
        "samples_train": 32,
        "minutes": 0.0,
        "channels": (8, 16),
        "device": "cpu",
        "precision": "fp32",
        "threads": 1,
        "lateral": lateral,
    }
    train_run(preset("quick").with_values(values), tmp_path, lambda event: None)
    for mirror in (False, True):
        predictor = Predictor(tmp_path / "last.safetensors", InferenceOverrides(mirror=mirror))
        subject = load_subject(open_dataset(folder), predictor.metadata.split["val"][0])
        prediction = predictor.segment(SubjectImage.of(subject))
        assert subject.label is not None
        left, right = dice_per_class(subject.label, prediction, 3)[1:]
        if lateral == "auto":
            assert min(left, right) > 0.7, mirror
        else:
            assert min(left, right) < 0.5, mirror


@pytest.mark.slow
def test_unoriented_image_is_not_averaged_with_its_mirror_image(tmp_path: Path) -> None:
    train(write_kidneys(tmp_path / "data"), tmp_path / "run")
    checkpoint = tmp_path / "run" / "last.safetensors"
    image = kidneys(9)[0][None]
    mirrored = Predictor(checkpoint, InferenceOverrides(mirror=True))
    plain = Predictor(checkpoint).segment(SubjectImage(image, (1.0, 1.0, 1.0)))
    unoriented = mirrored.segment(SubjectImage(image, (1.0, 1.0, 1.0), oriented=False))
    np.testing.assert_array_equal(unoriented, plain)


@pytest.mark.slow
def test_predictions_that_may_exchange_sides_have_a_warning(tmp_path: Path) -> None:
    data = write_kidneys(tmp_path / "data")
    train(data, tmp_path / "run")
    train(data, tmp_path / "ignoring", lateral="ignore")
    oriented, unoriented = (
        read_images([write_kidneys(tmp_path / str(known), oriented=known) / "imagesTr" / "case_0.nii.gz"], ("M0",))
        for known in (True, False)
    )
    swapping, ignoring = (tmp_path / name / "last.safetensors" for name in ("run", "ignoring"))
    mirrored = InferenceOverrides(mirror=True)
    assert Predictor(swapping, mirrored).warnings(oriented) == () == Predictor(ignoring).warnings(oriented)
    (warning,) = Predictor(swapping).warnings(unoriented)
    assert warning.startswith("the image states no orientation: left kidney, right kidney may be on the other side")
    (warning,) = Predictor(ignoring, mirrored).warnings(oriented)
    assert warning.startswith("mirrored prediction averages the two sides of left kidney, right kidney")


def test_unknown_stated_pair_is_refused_before_a_run_is_made(tmp_path: Path) -> None:
    config = tiny(path=str(write_kidneys(tmp_path / "data")), lateral_pairs=("left kidney", "spleen"))
    with pytest.raises(ConfigError, match=r"lateral_pairs: .* got spleen"):
        resolve_config(tmp_path, config)
