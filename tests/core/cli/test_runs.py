"""The command ``runs``, as people and scripts use it."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.text import Text

from core import cli, runs
from core.config import TrainConfig
from core.presets import preset
from core.runs.launch import create_run
from core.runs.store import folder as files
from core.runs.store import metrics_file
from core.runs.store.database import FILE
from core.runs.store.engine_records import engine_of, read_engine
from core.runs.store.state import Best, read_state, write_state
from tests.support.cluster.slurm_clients import SlurmClients
from tests.support.elsewhere import CLUSTER, SETTINGS
from tests.support.run_folders import make_run


@pytest.fixture
def folder(checkpoints: Path) -> Path:
    """A stopped run with a name, a best epoch and an elapsed time."""
    made = create_run(checkpoints, preset("quick").with_values({"path": "demo", "epochs": 12}), "My [net]")
    state = replace(
        read_state(made), state="stopped", epoch=7, epochs=12, best=Best(6, 0.8125, "whole volumes"), elapsed_s=65.0
    )
    write_state(made, state)
    return made


def test_show_as_json_has_the_promised_keys(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["runs", "show", "My [net]", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert {k: shown[k] for k in ("id", "name", "state", "message", "pid", "epoch", "epochs", "best")} == {
        "id": folder.name,
        "name": "My [net]",
        "state": "stopped",
        "message": "",
        "pid": None,
        "epoch": 7,
        "epochs": 12,
        "best": {"epoch": 6, "mean_dice": 0.8125, "measured_on": "whole volumes"},
    }
    assert TrainConfig.from_json(shown["config"]) == files.read_config(folder)
    assert shown["folder"] == str(folder)
    assert shlex.split(shown["tensorboard"]) == ["tensorboard", "--logdir", str(folder / "tensorboard")]


def test_show_prints_results_and_commands_to_copy(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["runs", "show", folder.name[:8]]) == 0
    shown = capsys.readouterr().out
    for expected in ("My [net]", "stopped", "7/12", "0.8125 (whole volumes)", f"tensorboard --logdir {folder}"):
        assert expected in shown
    assert "python -m core train demo --preset quick --name 'My [net]' --epochs 12" in shown


def test_dice_so_far_is_listed_before_a_best_epoch_is_chosen(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    latest = Best(1, 0.9071, "held-out sub-volumes", 240)
    write_state(folder, replace(read_state(folder), best=None, latest=latest))
    for command in (["runs"], ["runs", "show", folder.name]):
        assert cli.main(command) == 0
        assert "0.9071 so far (held-out sub-volumes)" in capsys.readouterr().out


def test_list_is_cut_to_the_width_of_a_terminal_and_coloured_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs.rename(folder.parent, folder.name, "a name 大 that is longer than the column in a narrow terminal")
    assert cli.main(["runs"]) == 0
    assert "longer than the column in a narrow terminal" in capsys.readouterr().out
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert cli.main(["runs"]) == 0
    written = capsys.readouterr().out
    header, row = (Text.from_ansi(line).plain for line in written.splitlines())
    assert cell_len(header) <= 100 and cell_len(row) <= 100 and "a name 大" in row and "…" in row
    assert folder.name in row and "\x1b[" in written


def test_list_is_a_table_or_json(folder: Path, checkpoints: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["runs"]) == 0
    header, row = capsys.readouterr().out.splitlines()
    assert header.split()[:4] == ["RUN", "NAME", "STATE", "EPOCH"]
    assert row.startswith(folder.name) and "My [net]" in row and "7/12" in row and "1:05" in row
    assert cli.main(["runs", "list", "--json"]) == 0
    assert [item["id"] for item in json.loads(capsys.readouterr().out)] == [folder.name]
    assert cli.main(["runs", "--checkpoints", str(checkpoints / "empty"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert cli.main(["runs", "--checkpoints", str(checkpoints / "empty")]) == 0
    assert "no runs in" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["show", "nothing"], "my-net-"),
        (["stop", "my-net"], "expected a queued or running run, it is stopped already"),
        (["delete", "my-net"], "confirm with --yes"),
        (["rename", "my-net"], "expected --name TEXT"),
        (["--yes", "list"], "got --yes; `python -m core runs list --help`"),
        (["annotate", "my-net"], "expected --name, --notes or --tags"),
        (["annotate", "my-net", "--tags", "x" * 41], "at most 40 printable characters"),
        (["compare", "my-net"], "expected two or more different runs"),
        (["rename", "my-net", "--name", "x" * 99], "expected at most 80 printable characters"),
    ],
)
def test_error_is_one_line(
    folder: Path, arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["runs", *arguments]) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and len(captured.err.splitlines()) == 1
    assert captured.err.startswith("error: ") and expected in captured.err
    assert folder.is_dir()


@pytest.mark.parametrize(
    "arguments",
    [
        ["show"],
        ["show", "my-net", "another"],
        ["compare"],
        ["walk"],
        ["stop", "my-net", "--to", "first"],
        ["--lines", "x"],
    ],
)
def test_wrong_usage_has_status_2(folder: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["runs", *arguments])
    captured = capsys.readouterr()
    assert captured.out == "" and len(captured.err.splitlines()) == 1 and ": error: " in captured.err


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["--json", "--checkpoints", "ROOT", "show", "my-net"], ["show", "my-net", "--json", "--checkpoints", "ROOT"]),
        (["--lines", "2", "log", "my-net"], ["log", "--lines", "2", "my-net"]),
        (["--name", "new", "rename", "my-net"], ["rename", "my-net", "--name", "new"]),
        (["--json"], ["list", "--json"]),
    ],
)
def test_options_are_accepted_before_and_after_the_sub_command(
    folder: Path,
    checkpoints: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    before: list[str],
    after: list[str],
) -> None:
    monkeypatch.delenv("SEGMENTARIUM_CHECKPOINTS")
    root = [] if "ROOT" in before else ["--checkpoints", str(checkpoints)]
    for i in range(5):
        files.append_log(folder, f"line {i}")
    outputs = []
    for arguments in ([*root, *before], [*after, *root]):
        assert cli.main(["runs", *(str(checkpoints) if word == "ROOT" else word for word in arguments)]) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1] != ""


def test_stop_rename_and_delete(checkpoints: Path, capsys: pytest.CaptureFixture[str]) -> None:
    waiting = create_run(checkpoints, preset("quick").with_values({"path": "demo"}))
    assert cli.main(["runs", "stop", waiting.name]) == 0
    assert capsys.readouterr().out == f"{waiting.name}: stopped\n"
    assert cli.main(["runs", "rename", waiting.name, "--name", "new", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "new"
    assert cli.main(["runs", "delete", "new", "--yes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"deleted": waiting.name}
    assert runs.list_runs(checkpoints) == []


def test_annotate_changes_only_notes_and_tags(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["annotate", folder.name, "--notes", " first line\nsecond ", "--tags", "baseline, good,,good"]
    assert cli.main(["runs", *words, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["notes"], shown["tags"], shown["name"]) == ("first line\nsecond", ["baseline", "good"], "My [net]")
    assert cli.main(["runs", "annotate", folder.name, "--tags", ""]) == 0
    capsys.readouterr()
    assert cli.main(["runs", "show", folder.name]) == 0
    shown_text = capsys.readouterr().out
    assert "first line" in shown_text and "baseline" not in shown_text


def test_compare_as_table_json_and_csv(
    folder: Path, checkpoints: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = create_run(checkpoints, preset("quick").with_values({"path": "demo", "learning_rate": 0.5}), "other")
    metrics_file.append_metrics(other, 1, 10, 1.0, {"train/loss": 0.25})
    assert cli.main(["runs", "compare", folder.name, "other", "--csv", str(tmp_path / "all.csv")]) == 0
    table = capsys.readouterr().out
    for expected in ("My [net]", "other", "learning_rate", "0.5", "train/loss", "0.2500", "queued"):
        assert expected in table
    assert f"{other.name},1,10,1.0,train/loss,0.25" in (tmp_path / "all.csv").read_text().splitlines()
    assert cli.main(["runs", "compare", folder.name, "other", "--json"]) == 0
    comparison = json.loads(capsys.readouterr().out)
    assert comparison["differences"]["learning_rate"][1] == "0.5"
    assert comparison["measured"]["train/loss"][1] == 0.25


def test_duplicate_queues_the_same_configuration(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Path] = []
    monkeypatch.setattr("core.runs.engines.local.ensure_supervisor", lambda root, worker: started.append(root))
    assert cli.main(["runs", "duplicate", folder.name]) == 0
    copy = next(run for run in runs.list_runs(folder.parent) if run.id != folder.name)
    assert (copy.name, copy.state.state, started) == ("My [net] again", "queued", [folder.parent])
    assert copy.config == files.read_config(folder)


def test_run_goes_on_or_is_repeated_on_another_engine(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_supervisor: None
) -> None:
    slurm = SlurmClients(tmp_path / "bin", monkeypatch)
    slurm.answer("sbatch", "42\n")
    (folder.parent / "engines.toml").write_text(SETTINGS)
    assert cli.main(["runs", "resume", folder.name, "--engine", "nowhere"]) == 1
    assert read_state(folder).state == "stopped"
    assert cli.main(["runs", "resume", folder.name, "--engine", CLUSTER]) == 0
    record = read_engine(folder)
    assert record is not None and (record.engine, record.job) == (CLUSTER, "42")
    assert cli.main(["runs", "duplicate", folder.name, "--name", "here", "--engine", "local"]) == 0
    assert cli.main(["runs", "duplicate", folder.name, "--name", "there"]) == 0
    engines = {run.name: engine_of(run.engine) for run in runs.list_runs(folder.parent)}
    assert engines == {"My [net]": CLUSTER, "here": "local", "there": CLUSTER}


def test_runs_of_other_folders_are_listed_on_request(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEGMENTARIUM_DATABASE", f"sqlite:///{tmp_path / 'shared.sqlite'}")
    other = make_run(tmp_path / "other", "from afar")
    assert cli.main(["runs"]) == 0 and "from afar" not in capsys.readouterr().out
    for command in (["runs", "--all-roots"], ["runs", "list", "--all-roots"]):
        assert cli.main(command) == 0
        shown = capsys.readouterr().out
        assert shown.startswith(f"{folder.parent}:\n") and f":{tmp_path / 'other'}:\n" in shown
        assert shown.index("My [net]") < shown.index("from afar")
    assert cli.main(["runs", "--all-roots", "--json"]) == 0
    listed = {item["id"]: item["place"] for item in json.loads(capsys.readouterr().out)}
    assert listed[folder.name] == "" and listed[other].endswith(str(tmp_path / "other"))


def test_log_prints_the_last_lines(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(5):
        files.append_log(folder, f"line {i}")
    assert cli.main(["runs", "log", "my-net", "--lines", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[-6:] for line in lines] == ["line 3", "line 4"]
    assert cli.main(["runs", "log", "my-net", "--lines", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"id": folder.name, "lines": lines}


def test_rebuild_restores_a_lost_index(folder: Path, checkpoints: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metrics_file.append_metrics(folder, 1, 10, 0.5, {"lr": 0.1})
    assert runs.metrics_after(checkpoints, folder.name) == []
    assert cli.main(["runs", "rebuild", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "runs": 1, "damaged": None, "answers_saved": 0, "answers_lost": 0, "lost_by_game": {},
    }  # fmt: skip
    assert [row.name for row in runs.metrics_after(checkpoints, folder.name)] == ["lr"]
    assert (checkpoints / FILE).is_file()
    assert cli.main(["runs", "rebuild", "--checkpoints", str(checkpoints / "nowhere")]) == 1
    assert not (checkpoints / "nowhere").exists()
