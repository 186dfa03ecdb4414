"""The preset auto on the command line: choices for a folder, for demo data that is not made yet, and given flags."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from core.cli import submit
from core.cli.auto_preset import chosen_lines
from core.cli.options import add_config_flags, config_from, run_config
from core.config import TrainConfig
from core.datasets import DataOptions
from core.errors import DatasetError, RunError
from tests.support.checkpoint_files import trained, write_checkpoint
from tests.support.heads import write_heads


def parsed(root: Path, *words: str, of_run: bool = False) -> TrainConfig:
    parser = argparse.ArgumentParser()
    add_config_flags(parser)
    args = parser.parse_args(list(words))
    args.checkpoints = str(root)
    return run_config(args) if of_run else config_from(args)


def test_choices_follow_from_the_headers_and_given_flags_stay(tmp_path: Path) -> None:
    data = write_heads(tmp_path / "heads", 10)
    config = parsed(tmp_path, str(data), "--preset", "auto", "--minutes", "1", "--affine", "0.1", "--device", "cpu")
    assert (config.preset, config.run.minutes, config.augment.affine) == ("auto", 1.0, 0.1)
    reasons = dict(reason.split(": ", 1) for reason in config.reasons)
    assert reasons["Time"].startswith("60 s (CPU) are about")
    assert "8 training subjects" in reasons["Augmentation"] and "--affine 0.1" in reasons["Augmentation"]
    assert "2 held-out subjects" in reasons["Validation"]
    nothing_held_out = parsed(tmp_path, str(data), "--preset", "auto", "--fold", "none")
    assert chosen_lines(str(data), "auto", DataOptions()) and not chosen_lines(str(data), "nothing", DataOptions())
    assert nothing_held_out.reasons[-1] == "Validation: none: no subject is held out"


def test_given_channels_are_those_of_the_estimate(tmp_path: Path) -> None:
    words = (str(write_heads(tmp_path / "heads", 10)), "--preset", "auto", "--minutes", "10", "--device", "cpu")
    few, many = (parsed(tmp_path, *words, "--channels", channels) for channels in ("8,16", "256,512"))
    assert few.model.channels == (8, 16) and many.model.channels == (256, 512)
    assert "U-Net of 256-512 channels, as given: about" in many.reasons[1] and many.reasons[0] != few.reasons[0]


def test_initial_weights_bring_their_network_and_have_to_exist(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source.safetensors")
    words = (str(write_heads(tmp_path / "heads", 10)), "--preset", "auto", "--device", "cpu", "--init-from")
    config = parsed(tmp_path, *words, source)
    assert config.model == trained().metadata.train_config.model and config.run.init_from == source
    assert config.reasons[1].startswith("Network: U-Net of 2-4 channels, those of the initial weights: about")
    other = parsed(tmp_path, *words, source, "--model", "vnet")
    assert other.model.model == "vnet" and other.reasons[1].startswith("Network: the given vnet")
    alias = parsed(tmp_path, *words, source, "--model", "UNET3D")
    assert alias.model.channels == (2, 4), "another name of the same network"
    with pytest.raises(RunError, match="init_from: expected a checkpoint file or a run, found no file 'nobody'"):
        parsed(tmp_path, *words, "nobody")


def test_the_engine_of_a_run_decides_for_which_device_is_chosen(
    tmp_path: Path, checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_heads(tmp_path / "heads", 10)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    checkpoints.mkdir(exist_ok=True)
    (checkpoints / "engines.toml").write_text('[gpus]\nkind = "slurm"\n')
    parser = argparse.ArgumentParser()
    submit.add_arguments(parser)
    args = parser.parse_args([str(data), "--preset", "auto", "--engine", "gpus"])
    args.checkpoints = str(checkpoints)
    (time, *_) = config_from(args).reasons
    assert "(CUDA on gpus) are about" in time and "gpus requests a GPU for a run; which one is not known" in time


def test_demo_data_that_is_not_made_yet_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGMENTARIUM_DATA", str(tmp_path))
    config = parsed(tmp_path, "demo", "--preset", "auto", "--epochs", "2")
    assert config.reasons[0].startswith("Time: 2 epochs are about 500 steps") and config.run.minutes == 0
    assert not any(tmp_path.iterdir()), "nothing is made to choose"


def test_a_folder_without_data_is_an_error_of_the_command_and_no_line_of_the_check(tmp_path: Path) -> None:
    with pytest.raises(DatasetError):
        parsed(tmp_path, str(tmp_path), "--preset", "auto")
    assert chosen_lines(str(tmp_path), "auto", DataOptions()) == []


def test_aliases_become_names_and_options_without_effect_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--focal-gamma", "3", "--loss", "ce", "--resnet-depth", "50", "--channels", "4,8"]
    config = parsed(tmp_path, "data", "--preset", "quick", "--model", "HyPerDenseNET", *words, of_run=True)
    assert config.model.model == "hyperdensenet"
    assert capsys.readouterr().err.splitlines() == [
        "note: without effect, as hyperdensenet does not use it: --resnet-depth",
        "note: without effect, as ce does not use it: --focal-gamma",
    ]
    parsed(tmp_path, "data", "--preset", "quick", "--loss", "focal", "--focal-gamma", "3", of_run=True)
    parsed(tmp_path, "data", "--preset", "quick", "--resnet-depth", "18")  # of a sweep, which may search the network
    source = write_checkpoint(tmp_path / "source.safetensors", model="med3d", channels=(), resnet_depth="18")
    data = str(write_heads(tmp_path / "heads", 10))
    words = ["--preset", "auto", "--device", "cpu", "--init-from", source, "--resnet-depth", "18"]
    assert parsed(tmp_path, data, *words, of_run=True).model.model == "med3d"
    assert not capsys.readouterr().err
