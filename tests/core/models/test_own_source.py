"""A user's network whose file is gone, changed or broken after training: what is said, and by what."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from core import runs
from core.checkpointing.metadata import read_metadata
from core.cli import main
from core.config import ModelConfig
from core.errors import ConfigError
from core.models import architecture, own_adapter
from core.models import own_networks as networks
from core.models.build import build_model
from core.models.own_source import code_change, code_files, describe_code
from core.runs.store.state import read_state, write_state
from tests.support import own_networks
from tests.support.own_networks import NET, forget_networks, run_of_network, write_network

CHANGED = "the code of the network Net has changed since it was trained"


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of the user's only network."""
    forget_networks(monkeypatch, tmp_path / "config")
    return write_network(tmp_path)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    values = np.random.default_rng(0).normal(size=(10, 9, 8)).astype(np.float32)
    nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "image.nii.gz")
    return tmp_path / "image.nii.gz"


def predict(run: str, image: Path) -> int:
    return main(["predict", run, str(image), "--out", str(image.with_name("out.nii.gz")), "--json"])


def replace(file: Path, text: str) -> None:
    """Other code, in a process that has not imported the earlier one."""
    file.write_text(text, "utf-8")
    for name in [name for name in sys.modules if name.startswith("segmentarium_own_")]:
        del sys.modules[name]


def test_record_names_no_folder_and_tells_changes(file: Path) -> None:
    record = describe_code("Net")
    assert (record["file"], record["class"], len(record["sha256"])) == ("net.py", "Net", 64)
    assert not code_change("Net", record) and not describe_code("unet3d") and not code_change("unet3d", {})
    file.write_bytes(NET.replace("\n", "\r\n").encode())
    assert not code_change("Net", record), "line ends are no change"
    file.write_text(NET.replace("classes, 1)", "classes, 3, padding=1)"))
    assert CHANGED in code_change("Net", record) and str(file) in code_change("Net", record)
    assert not code_change("Net", {}), "an earlier version recorded nothing"
    file.unlink()
    assert code_change("Net", record).endswith("(when it was trained: class Net of net.py)")
    assert f"{file}: the file of the network Net is gone" in code_change("Net", record)


def test_modules_beside_the_file_belong_to_its_code(file: Path) -> None:
    file.write_text("import helper\nfrom parts.block import Block\nimport numpy\n" + NET)
    (file.parent / "helper.py").write_text("import deeper\n")
    (file.parent / "deeper.py").write_text("import helper\n")
    (file.parent / "unrelated.py").write_text("")
    (file.parent / "parts").mkdir()
    (file.parent / "parts" / "block.py").write_text("class Block: pass\n")
    assert {path.name for path in code_files(architecture("Net"))} == {"net.py", "helper.py", "deeper.py", "block.py"}
    record = describe_code("Net")
    (file.parent / "deeper.py").write_text("import helper  # changed\n")
    assert CHANGED in code_change("Net", record)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("OTHER_SHAPE", r"net.py: expected logits of shape .*; the code of Net \(net.py\) has changed"),
        ("OTHER_PARAMETERS", r"network.conv.bias.* the code of Net \(net.py\) has changed .*: restore it"),
        ("NO_IMPORT", r"net.py: importing it failed: ModuleNotFoundError: .*; correct the file"),
        ("FAILS", r"net.py, line 12: AttributeError: .*; the code of Net \(net.py\) has changed"),
        ("EXITS", r"net.py: importing it failed: SystemExit: os._exit\(0\)"),
        ("NEVER_ENDS", r"net.py: importing it failed: TimeoutError: it took longer than 0 s"),
    ],
)
def test_broken_code_is_one_line_that_names_the_file(
    checkpoints: Path,
    file: Path,
    image: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    message: str,
) -> None:
    run = run_of_network(checkpoints, "own")
    replace(file, getattr(own_networks, kind))
    monkeypatch.setattr(own_adapter, "LIMIT_S", 0.3)
    assert predict(run, image) == 1
    captured = capsys.readouterr()
    assert not captured.out and len(captured.err.splitlines()) == 1
    assert re.search(message, captured.err), captured.err


def test_feature_maps_of_broken_code_are_one_line_that_names_the_file(
    checkpoints: Path, file: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of_network(checkpoints, "own")
    replace(file, own_networks.FAILS)
    assert main(["features", run, str(image), "--out", str(tmp_path / "maps")]) == 1
    assert "net.py, line 12: AttributeError: " in capsys.readouterr().err.splitlines()[-1]


def test_changed_code_is_used_with_a_warning_and_prints_on_standard_error(
    checkpoints: Path, file: Path, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of_network(checkpoints, "own")
    assert predict(run, image) == 0 and CHANGED not in "".join(json.loads(capsys.readouterr().out)["warnings"])
    replace(file, own_networks.PRINTS)
    assert predict(run, image) == 0
    captured = capsys.readouterr()
    assert any(CHANGED in warning for warning in json.loads(captured.out)["warnings"])
    assert "from import" in captured.err and "from forward" in captured.err and CHANGED in captured.err


def test_file_that_moved_is_known_once_it_was_of_use(
    checkpoints: Path, file: Path, image: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of_network(checkpoints, "own")
    moved = file.with_name("moved.py")
    file.rename(moved)
    monkeypatch.setenv(networks.NETWORKS_VARIABLE, "")
    predicts = ["predict", run, str(image), "--out", str(image.with_name("out.nii.gz")), "--model", f"{moved}:Net"]
    moved.write_text(own_networks.FAILS)
    assert main(predicts) == 1 and not networks.list_path().exists()
    replace(moved, NET)
    assert main(predicts) == 0 and json.loads(networks.list_path().read_text()) == {"Net": str(moved)}
    capsys.readouterr()


def test_ensemble_and_export_name_the_file_that_is_gone(
    checkpoints: Path, file: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = run_of_network(checkpoints, "one"), run_of_network(checkpoints, "two")
    assert main(["ensemble", f"{first}+{second}", "--name", "pair"]) == 0
    file.unlink()
    for command in (
        ["predict", "pair", str(image), "--out", str(tmp_path / "out.nii.gz")],
        ["predict", f"{first}+{second}", str(image), "--out", str(tmp_path / "out.nii.gz")],
        ["export", first, "--out", str(tmp_path / "shared.safetensors")],
        ["export", "pair", "--out", str(tmp_path / "shared.safetensors")],
        ["ensemble", f"{first}+{second}", "--name", "again"],
    ):
        capsys.readouterr()
        assert main(command) == 1
        assert f"{file}: the file of the network Net is gone" in capsys.readouterr().err
    assert not (tmp_path / "shared.safetensors").exists()


def test_run_is_not_resumed_with_other_code_unless_forced(
    checkpoints: Path, file: Path, no_supervisor: None, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of_network(checkpoints, "own")
    folder = checkpoints / run
    write_state(folder, read_state(folder).ended("stopped", ""))
    assert read_metadata(folder / "last.safetensors").network_code == describe_code("Net")
    replace(file, own_networks.OTHER_SHAPE)
    assert main(["runs", "resume", run]) == 1
    assert "expected the code of the network that the run began with, found changes" in capsys.readouterr().err
    assert runs.get_run(checkpoints, run).state.state == "stopped"
    assert main(["runs", "resume", run, "--force"]) == 0
    assert runs.get_run(checkpoints, run).state.state == "queued"


def test_process_is_as_before_after_code_of_the_user(file: Path) -> None:
    real_exit, real_out = os._exit, sys.stdout
    replace(file, own_networks.EXITS)
    with pytest.raises(ConfigError, match=r"os\._exit"):
        build_model(ModelConfig("Net"), 1, 2)
    assert os._exit is real_exit and sys.stdout is real_out
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
