"""Input channels that state which modalities exist: from a folder with missing files through training, checkpoint and
prediction."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from core.checkpointing.checkpoint import load
from core.config import ModelConfig, TrainConfig
from core.datasets import DataOptions, Dataset, load_subject, open_dataset
from core.errors import ConfigError
from core.evaluation.evaluate import evaluate
from core.events import Event, Note
from core.inference.ensemble_predictor import open_predictor
from core.inference.predictor import InferenceOverrides, Predictor
from core.inference.subject_image import SubjectImage
from core.inspection.feature_maps import compute_feature_maps
from core.models.build import build_model
from core.training import initial_network
from core.training.experiment import train_run
from tests.support.balls import tiny
from tests.support.described_balls import MODALITIES, write_described_balls
from tests.support.ensemble_members import copies_as_networks

SHORT = {"epochs": 1, "samples_train": 16, "samples_val": 4, "whole_every": 1, "channels": (4, 8)}
LACKING = [(1, "T2"), (4, "T1")]  # p0 and p1 are held out


class Inputs:
    """What networks get: modality channels of each input, and their indicator, which must be constant."""

    def __init__(self) -> None:
        self.training: list[tuple[Tensor, list[float]]] = []
        self.evaluating: list[tuple[Tensor, list[float]]] = []

    def record(self, network: nn.Module, args: tuple[Tensor, ...]) -> None:
        if args[0].device.type == "meta":
            return
        kept = self.training if network.training else self.evaluating
        for image in args[0].detach():
            channels, stated = image.chunk(2)
            flat = stated.flatten(1)
            assert torch.equal(flat.amin(1), flat.amax(1)), "constant, in the padding too"
            kept.append((channels, flat[:, 0].tolist()))


@pytest.fixture
def inputs(monkeypatch: pytest.MonkeyPatch) -> Inputs:
    """Of the networks that a run trains."""
    recorded = Inputs()

    def build(*args: Any) -> nn.Module:
        network = build_model(*args)
        network.register_forward_pre_hook(recorded.record)
        return network

    monkeypatch.setattr(initial_network, "build_model", build)
    return recorded


def config_of(data: Path, layout: Path, **values: Any) -> TrainConfig:
    chosen = {"missing_modalities": "zero", "modality_indicator": True, "val_subjects": ("p0", "p1"), **values}
    return tiny(path=str(data), layout=str(layout), **{**SHORT, **chosen})


def train(folder: Path, config: TrainConfig, listener: Callable[[Event], None] = lambda event: None) -> Path:
    folder.mkdir()
    train_run(config, folder, listener)
    return folder / "last.safetensors"


def opened(data: Path, layout: Path) -> Dataset:
    return open_dataset(data, str(layout), DataOptions(missing_modalities="zero"))


@pytest.mark.slow
def test_training_and_validation_state_missing_and_left_out_modalities(tmp_path: Path, inputs: Inputs) -> None:
    where = write_described_balls(tmp_path, lacking=LACKING)
    augmented: dict[str, Any] = {"noise": 0.3, "intensity": 1.0, "affine": 0.5, "modality_dropout": 0.4}
    events: list[Event] = []
    train(tmp_path / "run", config_of(*where, **augmented), events.append)
    notes = [event.text for event in events if isinstance(event, Note)]
    assert "training subjects that lack a modality: 1 of 4" in notes
    assert len(inputs.training) == 16
    found = {tuple(stated) for _, stated in inputs.training}
    assert found == {(1.0, 1.0), (1.0, 0.0), (0.0, 1.0)}, "both, and either left out, never none"
    for channels, stated in inputs.training:
        assert [bool(channel.any()) for channel in channels] == [bool(s) for s in stated]
    validated = [stated for _, stated in inputs.evaluating]
    assert {tuple(stated) for stated in validated} == {(1.0, 1.0), (1.0, 0.0)}, "p1 has no T2; nothing is left out"


@pytest.mark.slow
def test_a_missing_image_stays_zero_and_is_stated_without_dropout(tmp_path: Path, inputs: Inputs) -> None:
    where = write_described_balls(tmp_path, lacking=[*LACKING, (2, "T2"), (3, "T2"), (5, "T2")])
    values: dict[str, Any] = {"samples_val": 0, "whole_every": 0, "sub_volume": (8, 8, 8)}
    train(tmp_path / "run", config_of(*where, noise=0.5, intensity=1.0, **values))
    lacking_t1 = [channels for channels, stated in inputs.training if stated == [0.0, 1.0]]
    assert len(lacking_t1) == 4 and len(inputs.training) == 16, "p4 is one of four training subjects"
    for channels, stated in inputs.training:
        assert [bool(channel.any()) for channel in channels] == [bool(s) for s in stated], "no noise in its place"


@pytest.mark.long
def test_network_predicts_a_case_without_a_modality_as_training_showed_it(tmp_path: Path) -> None:
    """The whole way: checkpoint, predictor, ensemble, evaluation, feature maps."""
    data, layout = write_described_balls(tmp_path, lacking=LACKING)
    values = {"epochs": 10, "modality_dropout": 0.3, "channels": (8, 16)}
    file = train(tmp_path / "run", config_of(data, layout, **values))
    best = file.with_name("best.safetensors")
    assert load(best).metadata.train_config.data.modality_indicator
    dataset = opened(data, layout)
    evaluation = evaluate(Predictor(best), dataset, "val")
    dice = {id: score.dice for id, score in evaluation.subjects.items()}
    assert min(dice["p0"].values()) > 0.7 and min(dice["p1"].values()) > 0.7
    predictor = Predictor(best, InferenceOverrides(precision="fp32"))
    recorded = Inputs()
    predictor.model.register_forward_pre_hook(recorded.record)
    loaded = load_subject(dataset, "p1", MODALITIES)
    image = SubjectImage.of(loaded)
    labels = predictor.segment(image)
    stated = [of_tile for _, of_tile in recorded.evaluating]
    assert stated and all(of_tile == [1.0, 0.0] for of_tile in stated)
    assert predictor.warnings(loaded) == ()
    both = open_predictor(copies_as_networks(best, tmp_path), InferenceOverrides(precision="fp32"))
    assert np.mean(both.segment(image) == labels) > 0.999
    maps = compute_feature_maps(predictor, loaded.image, image.spacing_mm)
    shown = maps.stage("input")
    assert shown.names == ("T1", "T2", "T1 exists", "T2 exists")
    assert [float(channel.max()) for channel in shown.values[1:]] == [0.0, 1.0, 0.0]
    one, other = (predictor.model(torch.cat((torch.zeros(1, 2, 16, 16, 16), s), 1)) for s in _indicators())
    assert (one - other).abs().max() > 1e-3, "the network learned to use it"


def _indicators() -> list[Tensor]:
    return [torch.tensor(v).view(1, 2, 1, 1, 1).expand(1, 2, 16, 16, 16) for v in ([1.0, 1.0], [1.0, 0.0])]


@pytest.mark.slow
def test_weights_without_an_indicator_start_a_network_with_one_and_the_reverse(tmp_path: Path) -> None:
    where = write_described_balls(tmp_path)
    frozen: dict[str, Any] = {
        "learning_rate": 1e-12,
        "ema": 0.0,
        "whole_every": 0,
        "samples_val": 0,
        "samples_train": 2,
    }
    frozen |= {"sub_volume": (8, 8, 8)}
    plain = train(tmp_path / "plain", config_of(*where, modality_indicator=False, **frozen))
    texts: list[str] = []

    def listen(event: Event) -> None:
        texts.append(str(getattr(event, "facts", "")) + getattr(event, "text", ""))

    stating = train(tmp_path / "stating", config_of(*where, init_from=str(plain), **frozen), listen)
    before, after = load(plain).model, load(stating).model
    (first,) = [name for name in before if before[name].shape != after[name].shape]
    assert torch.allclose(after[first][:, :2], before[first], atol=1e-6)
    assert after[first][:, 2:].abs().max() < 1e-6, "the indicator changes nothing at first"
    assert all(torch.allclose(after[n], before[n], atol=1e-6) for n in before if n != first)
    assert any(f"{len(before)} of {len(before)} tensors" in t and "kernels of 0 for the indicator" in t for t in texts)
    assert any("does not learn what modality_indicator means" in t for t in texts), "nothing is missing or left out"
    texts.clear()
    back = train(
        tmp_path / "back", config_of(*where, modality_indicator=False, init_from=str(stating), **frozen), listen
    )
    assert all(torch.allclose(load(back).model[n], before[n], atol=1e-6) for n in before)
    assert any("without the kernels of its indicator" in t for t in texts)
    with pytest.raises(ConfigError, match=r"init_from: expected a network of the modalities T1, .*plain/last.*T1, T2"):
        train(tmp_path / "one", config_of(*where, modalities=("T1",), init_from=str(plain), **frozen))


def test_config_of_before_the_option_has_no_indicator(tmp_path: Path) -> None:
    stored = TrainConfig(model=ModelConfig("hyperdensenet")).to_json()
    del stored["data"]["modality_indicator"]
    assert TrainConfig.from_json(stored).data.modality_indicator is False
