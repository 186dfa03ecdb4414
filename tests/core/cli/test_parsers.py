"""The parsers: name of the program, help of every command, what start-up imports."""

from __future__ import annotations

import argparse
import errno
import subprocess
import sys
from collections.abc import Iterator

import pytest

from core.cli import COMMANDS, build_parser, completion, main
from core.cli.options import data_options_from
from core.cli.program import program_name, with_program_name
from core.config_data import DataConfig
from core.datasets import DataOptions
from core.paths import project_root


def sub_commands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parser and all below it."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from sub_commands(command)


@pytest.mark.parametrize(
    ("started_as", "name"),
    [
        ("/opt/venv/bin/segmentarium", "segmentarium"),
        ("segmentarium.exe", "segmentarium"),
        ("/src/core/__main__.py", "python -m core"),
        ("", "python -m core"),
    ],
)
def test_usage_and_messages_contain_the_name_the_program_was_started_by(
    started_as: str, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [started_as])
    assert program_name() == name
    assert with_program_name("run `python -m core runs rebuild`") == f"run `{name} runs rebuild`"
    with pytest.raises(SystemExit):
        main(["runs", "stop", "--help"])
    assert capsys.readouterr().out.startswith(f"usage: {name} runs stop [-h]")


def test_errors_of_core_contain_the_name_the_program_was_started_by(
    checkpoints: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from core.errors import RunError

    def fail(*args: object) -> None:
        raise RunError("damaged;\n`python -m core runs rebuild` makes it again")

    monkeypatch.setattr(sys, "argv", ["segmentarium"])
    monkeypatch.setattr("core.runs.list_runs", fail)
    assert main(["runs"]) == 1
    assert capsys.readouterr().err == "error: damaged; `segmentarium runs rebuild` makes it again\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--channels 4 8 16", "unrecognized arguments: 8 16, expected one word with commas: --channels 4,8,16"),
        (
            "--sub-volume 16 16 16",
            "unrecognized arguments: 16 16, expected one word with commas: --sub-volume 16,16,16",
        ),
        (
            "--modalities T1, T2 --seed 1",
            "unrecognized arguments: T2, expected one word with commas: --modalities T1,T2",
        ),
        ("--learningrate 0.1", "unrecognized arguments: --learningrate 0.1, did you mean --learning-rate?"),
        ("--seed 3 4", "unrecognized arguments: 4"),
        ("--device cpu ../more", "unrecognized arguments: ../more"),
    ],
)
def test_unknown_arguments_are_one_line_that_says_what_was_probably_meant(
    words: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        build_parser("segmentarium").parse_args(["train", "DATA", *words.split()])
    assert capsys.readouterr().err == f"segmentarium train: error: {message}; see `segmentarium train --help`\n"


def test_every_command_has_help_and_a_folder_of_runs() -> None:
    parsers = list(sub_commands(build_parser("segmentarium")))
    names = {parser.prog for parser in parsers}
    assert {f"segmentarium {command}" for command in COMMANDS} < names
    assert {"segmentarium runs annotate", "segmentarium bench augment", "segmentarium quiz report"} < names
    for parser in parsers:
        text = parser.format_help()
        assert "default: None" not in text and "default: )" not in text and "==SUPPRESS==" not in text, parser.prog
    for command in COMMANDS:
        (parser,) = [p for p in parsers if p.prog == f"segmentarium {command}"]
        assert "--checkpoints" in parser.format_help()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "not_imported"),
    [
        (["--help"], {"torch", "numpy", "streamlit", "core.runs", "core.config", "importlib.metadata"}),
        (["submit", "--help"], {"torch", "streamlit", "sqlalchemy", "nibabel", "rich"}),
    ],
)
def test_start_up_imports_only_what_the_command_needs(arguments: list[str], not_imported: set[str]) -> None:
    script = (
        "import sys\nfrom core.cli import main\ntry:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "print('IMPORTED', *sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=project_root(), capture_output=True, text=True, check=True
    )
    imported = set(done.stdout.rpartition("IMPORTED")[2].split())
    assert "core.cli" in imported and not imported & not_imported


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (["--nan-is-zero", "folder"], True),
        (["folder", "--nan-is-zero"], True),
        (["--nan-is-zero", "true", "folder"], True),
        (["--nan-is-zero", "false", "folder"], False),
        (["folder", "--nan-is-zero=no"], False),
        (["folder"], False),
    ],
)
@pytest.mark.parametrize("command", ["check", "train"])
def test_switch_may_stand_without_a_value_before_the_folder(command: str, words: list[str], value: bool) -> None:
    args = build_parser("segmentarium").parse_args([command, *words])
    assert args.data == "folder" and data_options_from(args).nan_is_zero is value


def test_options_that_are_not_given_are_those_of_the_run() -> None:
    args = build_parser("segmentarium").parse_args(["evaluate", "run", "data", "--ignore", "none"])
    options = data_options_from(args, DataConfig(ignore="x", nan_is_zero=True))
    assert options == DataOptions(ignore="none", nan_is_zero=True)


def test_an_error_of_the_system_that_names_a_file_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(args: argparse.Namespace) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", "/data/secret.nii.gz")

    monkeypatch.setattr(completion, "run", fail)
    assert main(["completion", "bash"]) == 1
    assert capsys.readouterr().err.startswith("error: /data/secret.nii.gz: Permission denied; ")
