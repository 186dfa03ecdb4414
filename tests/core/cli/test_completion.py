"""Scripts that complete commands in a shell, used by the real shell."""

from __future__ import annotations

import io
import shutil
import subprocess
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from core.cli import COMMANDS, main
from core.cli.completion import SHELLS
from tests.conftest import missing

BASH = r"""
source "$1"
function_name=$(complete -p segmentarium | sed -E 's/.*-F ([^ ]+).*/\1/')
read -r -a COMP_WORDS <<< "$2"
[[ "$2" == *' ' ]] && COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMP_LINE="$2"; COMP_POINT=${#2}
"$function_name" segmentarium "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A script for each shell; its root of runs holds the run net-1."""
    folder = tmp_path_factory.mktemp("completion")
    (folder / "my runs" / "net-1").mkdir(parents=True)
    (folder / "my runs" / "net-1" / "run.json").touch()
    paths = {}
    for shell in SHELLS:
        with redirect_stdout(io.StringIO()) as text:
            assert main(["completion", shell, "--checkpoints", str(folder / "my runs")]) == 0
        paths[shell] = folder / shell
        paths[shell].write_text(text.getvalue())
    return paths


@pytest.fixture
def complete(scripts: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], set[str]]:
    """What bash offers for a line, in a folder that holds image.nii and the folder data."""
    if shutil.which("bash") is None:
        pytest.skip("needs bash")
    monkeypatch.delenv("SEGMENTARIUM_CHECKPOINTS", raising=False)
    (tmp_path / "data").mkdir()
    (tmp_path / "image.nii").touch()

    def offered(line: str) -> set[str]:
        words = ["bash", "--norc", "-c", BASH, "bash", str(scripts["bash"]), line]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert done.stderr == ""
        return set(done.stdout.split())

    return offered


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("segmentarium ", set(COMMANDS)),
        ("segmentarium runs st", {"stop"}),
        ("segmentarium runs stop --", {"--help", "--checkpoints", "--json", "--now", "--no-more-trials"}),
        ("segmentarium runs move x --to ", {"first", "earlier", "later", "last"}),
        ("segmentarium train data --preset q", {"quick"}),
        ("segmentarium train data --learning-ra", {"--learning-rate"}),
        ("segmentarium predict --device c", {"cuda", "cpu"}),
        ("segmentarium check --layout ise", {"iseg", "iseg-challenge"}),
        ("segmentarium train data --layout dhcp/", {"dhcp/tissues"}),
        ("segmentarium check --layout im", {"image.nii"}),
        ("segmentarium bench ", {"train", "infer", "augment", "models", "gpu-check"}),
        ("segmentarium check ", {"data"}),
        ("segmentarium runs show n", {"net-1"}),
        ("segmentarium predict net-1 im", {"image.nii"}),
        ("segmentarium predict ", {"net-1", "data", "image.nii"}),
    ],
)
def test_bash_completes(complete: Callable[[str], set[str]], line: str, expected: set[str]) -> None:
    assert complete(line) - {"-h"} == expected


@pytest.mark.parametrize("shell", SHELLS)
def test_script_is_valid(scripts: dict[str, Path], shell: str) -> None:
    if shutil.which(shell) is None:
        missing(f"needs the shell {shell}")
    done = subprocess.run([shell, "-n", str(scripts[shell])], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
