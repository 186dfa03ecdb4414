"""The Train page without a browser."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from streamlit.testing.v1 import AppTest

from core import runs
from core.config import field_specs
from core.losses import unused_options
from core.models import MODELS, unused_model_options
from core.presets import preset
from tests.support.app_pages import (
    button,
    button_labels,
    choose,
    click,
    component_data,
    go_to_page,
    open_page,
    run_page,
    texts,
)
from tests.support.background_jobs import poll
from tests.support.checkpoint_files import write_checkpoint
from tests.support.heads import write_heads
from tests.support.kidneys import write_kidneys
from ui.train.forecast import ESTIMATING

pytestmark = pytest.mark.usefixtures("empty_app")


@pytest.mark.slow
@pytest.mark.usefixtures("known_cost")
def test_form_has_a_field_for_every_option_and_submits_its_configuration(checkpoints: Path) -> None:
    app = choose(open_page("train"), "Preset", "quick")
    hidden = {"path"} | unused_options(preset("quick").loss.loss) | unused_model_options(preset("quick").model.model)
    for spec in field_specs():
        if spec.name not in hidden:
            assert field(app, spec.name).help.startswith(spec.help), spec.name
    run_page(field(app, "learning_rate").set_value("0.01"))
    assert "--learning-rate 0.01" in app.code[0].value
    assert "back to 0.02" in button_labels(app)
    click(app, "Start training")
    (run,) = runs.list_runs(checkpoints)
    assert run.config == preset("quick").with_values({"path": "demo", "learning_rate": 0.01})


@pytest.mark.slow
@pytest.mark.usefixtures("known_cost")
def test_values_and_labels_are_words(checkpoints: Path) -> None:
    app = open_page("train", preset="fast")
    budget = field(app, "minutes")
    assert (budget.label, budget.value, budget.placeholder) == ("Time budget (minutes)", "", "none")
    assert field(app, "flip").label == "Probability of a left-right flip"
    assert field(app, "patience").value is None and field(app, "patience").placeholder == "never"
    assert "Dice and cross-entropy" in field(app, "loss").options
    run_page(budget.set_value("3"))
    assert "back to none" in button_labels(app)
    run_page(field(app, "minutes").set_value("none"))
    assert not button(app, "Start training").disabled and "back to none" not in button_labels(app)


@pytest.mark.slow
@pytest.mark.usefixtures("known_cost")
def test_networks_are_listed_with_a_description_and_only_the_options_that_they_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("XDG_CONFIG_HOME", "APPDATA"):  # a user without networks of their own
        monkeypatch.setenv(variable, str(tmp_path / "config"))
    app = open_page("train")
    assert list(field(app, "model").options) == list(MODELS)
    assert field(app, "full_resolution") and field(app, "deep_supervision")
    run_page(field(app, "model").set_value("vnet"))
    assert any("V-Net (Milletari et al. 2016)" in caption.value for caption in app.caption)
    assert field(app, "channels") and field(app, "deep_supervision")
    for name in unused_model_options("vnet"):
        with pytest.raises(AssertionError, match=f"no widget for {name}"):
            field(app, name)


@pytest.mark.slow
@pytest.mark.usefixtures("known_cost")
def test_losses_are_described_and_offer_only_their_options() -> None:
    app = open_page("train")
    assert any("Dice plus cross-entropy" in caption.value for caption in app.caption)
    run_page(field(app, "loss").set_value("tversky"))
    assert any("false positives and false negatives" in caption.value for caption in app.caption)
    assert field(app, "tversky_beta").value == "0.7"
    with pytest.raises(AssertionError, match="no widget for focal_gamma"):
        field(app, "focal_gamma")
    run_page(field(app, "tversky_beta").set_value("0.9"))
    assert "--loss tversky --tversky-beta 0.9" in app.code[0].value
    run_page(field(app, "loss").set_value("ce"))
    assert "--tversky-beta" not in app.code[0].value, "an option that is not used has the value of the preset"
    run_page(field(app, "loss").set_value("vae"))
    assert "Vae needs a network with the outputs" in texts(app) and button(app, "Start training").disabled


@pytest.mark.slow
def test_first_question_is_how_long_it_may_take_and_auto_chooses_for_it(checkpoints: Path) -> None:
    app = open_page("train")
    groups: Any = app.get("button_group")
    labels = [control.label for control in groups]
    assert labels[:2] == ["How long may it take?", "Preset"]
    assert answer(app) == 10.0 and app.session_state["preset"] == "auto", "minutes, not hours"
    assert "ends within 10 min" in forecast(app)
    assert "--preset auto" in app.code[0].value and "--minutes" not in app.code[0].value
    choose(app, "How long may it take?", 2.0)
    assert app.session_state["preset"] == "auto" and field(app, "minutes").value == "2.0"
    assert "U-Net of 8-16-32-64 channels" in reasons(app) and field(app, "channels").value == "8,16,32,64"
    choose(app, "How long may it take?", 480.0)
    assert "U-Net of 16-32-64-128 channels" in reasons(app) and field(app, "channels").value == "16,32,64,128"
    assert "--preset auto --minutes 480" in app.code[0].value
    choose(app, "Preset", "fast")  # the answer stays
    assert answer(app) == 480.0 and "--preset fast --minutes 480" in app.code[0].value
    assert not reasons(app)
    run_page(field(app, "minutes").set_value("7"))
    assert answer(app) is None and "--minutes 7" in app.code[0].value
    choose(app, "How long may it take?", 0.0)
    assert field(app, "minutes").value == "" and "--minutes" not in app.code[0].value
    assert answer(open_page("train", preset="quick")) == 2.0


@pytest.mark.slow
@pytest.mark.usefixtures("known_cost")
def test_values_of_auto_that_are_changed_by_hand_are_named_and_submitted(checkpoints: Path) -> None:
    app = open_page("train")
    run_page(field(app, "ema").set_value("0.5"))
    assert "given instead: --ema 0.5" in reasons(app) and app.code[0].value.endswith("--preset auto --ema 0.5")
    choose(app, "How long may it take?", 2.0)
    assert field(app, "learning_rate").value == "0.02", "a value that is the same for any time"
    assert field(app, "ema").value == "0.5", "a value that was given by hand stays"
    run_page(field(app, "ema").set_value("0.6"))
    choose(app, "How long may it take?", 10.0)
    assert field(app, "ema").value == "0.6"
    choose(app, "How long may it take?", 2.0)
    click(app, "Start training")
    (run,) = runs.list_runs(checkpoints)
    assert run.config.preset == "auto" and run.config.run.minutes == 2.0
    assert run.config.reasons[0].startswith("Time: 2 min (CPU) are about")


@pytest.mark.slow
@pytest.mark.usefixtures("known_cost")
def test_estimates_of_auto_are_for_channels_that_were_changed_by_hand() -> None:
    app = open_page("train")
    chosen, time = field(app, "channels").value, reasons(app).partition(" steps")[0]
    for _ in range(2):  # the same however often the page runs
        run_page(field(app, "channels").set_value("64,128"))
        assert "U-Net of 64-128 channels, as given: about" in reasons(app) and field(app, "channels").value == "64,128"
        assert reasons(app).partition(" steps")[0] != time and app.code[0].value.endswith("--channels 64,128")
    run_page(next(b for b in app.button if b.label == f"back to {chosen}").click())
    assert "as given" not in reasons(app) and field(app, "channels").value == chosen
    assert reasons(app).partition(" steps")[0] == time


@pytest.mark.slow
@pytest.mark.usefixtures("known_cost")
def test_initial_weights_bring_their_network_with_auto(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source.safetensors", model="UNET3D")  # an alias
    app = open_page("train")
    chosen = field(app, "channels").value
    run_page(field(app, "init_from").set_value(source))
    for _ in range(3):  # the same however often the page runs
        assert field(run_page(app), "channels").value == "2,4" and field(app, "norm").value == "batch"
        assert "U-Net of 2-4 channels, those of the initial weights: about" in reasons(app)
    assert app.code[0].value.endswith(f"--preset auto --init-from {source}")
    run_page(field(app, "norm").set_value("instance"))
    again = open_page("train", **dict(app.query_params))
    assert field(again, "norm").value == "instance" and again.code[0].value == app.code[0].value
    run_page(field(app, "init_from").set_value(""))
    assert field(app, "channels").value == chosen and "initial weights" not in reasons(app)


@pytest.mark.slow
@pytest.mark.usefixtures("known_cost")
@pytest.mark.parametrize("name", ["unet3d", "med3d"])
def test_another_network_than_that_of_the_initial_weights_stays_chosen(
    name: str, tmp_path: Path, checkpoints: Path
) -> None:
    source = write_checkpoint(tmp_path / "source.safetensors", model="vnet", channels=(4, 8, 16))
    app = open_page("train")
    run_page(field(app, "init_from").set_value(source))
    assert field(app, "model").value == "vnet" and "That of the initial weights, vnet" in reasons(app)
    run_page(field(app, "model").set_value(name))
    for _ in range(3):
        run_page(app)
        assert field(app, "model").value == name and "given instead" not in reasons(app).partition("Sub-volume")[0]
        assert ("U-Net of" if name == "unet3d" else "The given med3d") in reasons(app)
    assert f"--model {name} --init-from {source}" in app.code[0].value
    run_page(next(b for b in app.button if ".model." in (b.key or "")).click())
    assert field(app, "model").value == "vnet" and field(app, "channels").value == "4,8,16"
    run_page(field(app, "model").set_value(name))
    click(app, "Start training")
    (run,) = runs.list_runs(checkpoints)
    assert run.config.model.model == name


@pytest.mark.slow
@pytest.mark.usefixtures("known_cost")
@pytest.mark.parametrize("preset_name", ["auto", "fast"])
def test_initial_weights_that_cannot_be_used_are_named_at_their_field(tmp_path: Path, preset_name: str) -> None:
    damaged, foreign = tmp_path / "damaged.safetensors", tmp_path / "other.pth"
    damaged.write_bytes(b"nothing of the kind")
    torch.save({"kernel": torch.zeros(1)}, foreign)
    own = write_checkpoint(tmp_path / "own.safetensors", model="Lost", channels=())
    app = open_page("train", preset=preset_name)
    before = reasons(app)
    for value, message in (
        ("nobody", "Expected a checkpoint file or a run, found no file 'nobody'"),
        (str(damaged), f"{damaged.name}"),
        (own, "got 'Lost'"),
    ):
        run_page(field(app, "init_from").set_value(value))
        assert "Initial weights" in app.warning[0].value and message in texts(app)
        assert button(app, "Start training").disabled and reasons(app) == ""
    run_page(field(app, "init_from").set_value(str(foreign)))
    assert reasons(app) == before and not button(app, "Start training").disabled


@pytest.mark.slow
@pytest.mark.usefixtures("known_cost")
def test_error_is_shown_at_its_field_until_the_field_is_reset() -> None:
    app = open_page("train")
    for name, value, message in (
        ("learning_rate", "fast", "Expected a number"),
        ("sub_volume", "64,64", "Expected 3 values, got 2"),
        ("fold", 7, "Expected 0 to 4 with 5 folds, got 7"),
    ):
        run_page(field(app, name).set_value(value))
        assert message in texts(app) and "Not valid" in app.warning[0].value, name
        assert button(app, "Start training").disabled
        run_page(next(b for b in app.button if b.label.startswith("back to") and f".{name}." in (b.key or "")).click())
        assert message not in texts(app)
    assert not button(app, "Start training").disabled


@pytest.mark.slow
@pytest.mark.usefixtures("known_cost")
def test_form_keeps_values_when_the_page_is_left() -> None:
    app = open_page("train")
    field(app, "learning_rate").set_value("0.01")
    field(app, "loss").set_value("dice")
    run_page(app.text_input(key="run_name").set_value("mine"))
    go_to_page(go_to_page(app, "runs"), "train")
    assert field(app, "learning_rate").value == "0.01" and field(app, "loss").value == "dice"
    assert app.text_input(key="run_name").value == "mine"


@pytest.mark.slow
def test_forecast_is_shown_for_real_data(empty_app: Path, test_data: Path) -> None:
    (empty_app / "hippo").symlink_to(test_data / "Task04_Hippocampus")
    app = open_page("train", data="hippo")
    shown = forecast(app)
    assert "64 for training, 16 for validation" in shown and "parameters" in shown


@pytest.mark.long
@pytest.mark.slow
def test_forecast_is_a_range_and_sub_volumes_are_previewed(empty_app: Path) -> None:
    write_heads(empty_app / "heads", 5)
    app = open_page("train", data="heads")
    assert re.search(r"\d+ (s|min) to \d+ (s|min) per epoch.*rough estimate; the run itself corrects it", forecast(app))
    run_page(field(app, "foreground").set_value("0.5"))
    run_page(field(app, "sub_volume").set_value("16,16,16"))
    run_page(next(t for t in app.toggle if t.label == "Preview the sub-volumes").set_value(True))
    data = poll(lambda: component_data(run_page(app), "draws"), interval_s=0.5)
    (draw,) = data["draws"][0]
    assert draw["foreground"] == 0.5 and draw["sub_volume"] == [16, 16, 16] and len(draw["starts"]) == 200
    assert data["rules"][0]["name"] == "50 % centred on a class"
    assert "places in the whole image" not in texts(app)
    run_page(field(app, "crop").set_value(True))
    assert "training draws them in what cropping leaves" in texts(app)


@pytest.mark.slow
@pytest.mark.usefixtures("known_cost")
def test_duration_of_epochs_includes_validation() -> None:
    app = open_page("train", preset="fast")
    duration = re.compile(r"per epoch, (.+) for 300 epochs with validation; ")
    seldom = duration.search(forecast(app))
    run_page(field(app, "whole_every").set_value(1))
    often = duration.search(forecast(app))
    assert seldom and often and seldom[1] != often[1]


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.usefixtures("known_cost")
def test_augmentation_is_previewed_and_follows_the_settings(
    empty_app: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The app waits for the child process at the end of a run of the page."""
    monkeypatch.setattr("ui.train.augmentation_view.cache_root", lambda: tmp_path)
    write_heads(empty_app / "heads", 5)
    app = open_page("train", data="heads")
    run_page(field(app, "sub_volume").set_value("16,16,16"))
    for name in ("flip", "affine", "elastic", "intensity", "noise"):
        run_page(field(app, name).set_value("0"))
    run_page(next(t for t in app.toggle if t.label == "Preview the augmentation").set_value(True))
    assert captions(app) == ["as it is", *["unchanged"] * 4] and not app.error
    place = next(c.value for c in app.caption if "Middle slice of a sub-volume of 16 × 16 × 16 voxels" in c.value)
    run_page(field(app, "flip").set_value("1"))
    assert captions(app) == ["as it is", *["mirrored left-right"] * 4]
    assert place in [c.value for c in app.caption], "the same place with other settings"
    click(app, "Another sub-volume")
    assert place not in [c.value for c in app.caption]
    assert "normalised by this subject alone" in texts(app) and "margins of 0" not in texts(app)
    assert place.endswith("of 24 × 24 × 24")
    run_page(field(app, "crop").set_value(True))
    assert "The margins of 0 are left out: 20x20x20 of 24x24x24 voxels remain" in texts(app)
    assert any(c.value.endswith("of 20 × 20 × 20") for c in app.caption)
    for file in (empty_app / "heads" / "imagesTr").iterdir():
        file.write_bytes(file.read_bytes()[:200])
    click(app, "Another sub-volume")
    assert any("The preview cannot be made" in error.value for error in app.error)


def captions(app: AppTest) -> list[str]:
    """Captions of the pictures."""
    return [str(text).replace("\\", "") for picture in app.get("image") for text in picture.captions]  # type: ignore[union-attr]


@pytest.mark.slow
@pytest.mark.usefixtures("known_cost")
def test_data_set_is_read_in_the_layout_that_is_set(empty_app: Path) -> None:
    write_heads(empty_app / "heads", 5)
    app = open_page("train", data="heads")
    assert not app.error
    run_page(field(app, "layout").set_value("iseg"))
    assert any("expected files subject" in error.value.replace("\\", "") for error in app.error), "as a run would say"


@pytest.mark.slow
@pytest.mark.usefixtures("known_cost")
def test_left_and_right_classes_are_named_with_what_mirroring_does(empty_app: Path) -> None:
    write_kidneys(empty_app / "kidneys")
    app = open_page("train", data="kidneys")
    assert "Swapped when an image is mirrored: left kidney / right kidney, if" in forecast(app)
    run_page(field(app, "classes").set_value(["left kidney"]))
    assert "Images are not mirrored, since left kidney has a side" in forecast(app)
    run_page(field(app, "lateral").set_value("ignore"))
    assert "Labels are not swapped" in forecast(app)


def forecast(app: AppTest) -> str:
    """The list of what will happen, with the cost of the network."""

    def shown() -> str:
        return "\n".join(e.proto.body for e in run_page(app).get("html"))  # type: ignore[attr-defined]

    return poll(shown, lambda text: ESTIMATING not in text, interval_s=0.3)


def field(app: AppTest, name: str) -> Any:
    """The widget of a configuration field."""
    for kind in ("text_input", "number_input", "selectbox", "toggle", "multiselect"):
        for widget in app.get(kind):
            key = str(getattr(widget, "key", ""))
            if key.startswith("form.") and f".{name}." in key:
                return widget
    raise AssertionError(f"no widget for {name}")


def reasons(app: AppTest) -> str:
    """Why the preset auto chose its values, as text."""
    found = [expander for expander in app.expander if expander.label.startswith("Chosen for this time")]
    return " ".join(re.sub(r"<[^>]+>", " ", html.proto.body) for expander in found for html in expander.get("html"))


def answer(app: AppTest) -> Any:
    """The answer to the first question."""
    groups: Any = app.get("button_group")
    return next(c for c in groups if c.label == "How long may it take?").value
