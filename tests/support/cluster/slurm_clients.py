"""Stand-ins for the clients of Slurm: a folder of programs that record how they were called and answer from files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from core.runs.engines.slurm import JOB_FIELDS

_PROGRAM = """#!/bin/bash
cd {folder}
echo "{name} $*" >>calls
[ "{name}" != sbatch ] || [ "$1" = --version ] || cat >script
[ ! -f {name}.stderr ] || cat {name}.stderr >&2
names=$(echo " $*" | sed -n 's/.* --name \\([^ ]*\\) .*/\\1/p' | tr , ' ')
if [ -n "$names" ]; then
  for name in $names; do sed -n "s/^[0-9][0-9]*$/&|$name/p" {name}.stdout 2>/dev/null; done
elif [ -f {name}.stdout ]; then
  cat {name}.stdout
fi
exit $(cat {name}.status 2>/dev/null || echo 0)
"""


def job_line(
    number: str, state: str, reason: str = "None", *, nodes: str = "", gres: str = "N/A", restarts: int = 0
) -> str:
    """What ``squeue`` prints about a job (``7``, ``7_1``) where it is asked for its state."""
    fields = (number, number.partition("_")[2] or "N/A", state, reason, nodes, gres, str(restarts))
    return "".join(field[:width].ljust(width) for field, width in zip(fields, JOB_FIELDS.values(), strict=True))


class SlurmClients:
    """The programs ``sbatch``, ``squeue``, ``scancel``, ``sacct`` and ``sinfo`` on the path.

    Parameters
    ----------
    folder : Path. Folder for them.
    monkeypatch : pytest.MonkeyPatch.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder.mkdir()
        self.folder = folder
        for name in ("sbatch", "squeue", "scancel", "sacct", "sinfo"):
            (folder / name).write_text(_PROGRAM.format(folder=folder, name=name))
            (folder / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def answer(self, name: str, output: str = "", status: int = 0, error: str = "") -> None:
        """What a program prints and returns from now on. ``squeue`` prints a number alone for every name that it is
        asked for, and nothing else then."""
        for suffix, text in (("stdout", output), ("stderr", error), ("status", str(status))):
            (self.folder / f"{name}.{suffix}").write_text(text)

    def calls(self, name: str) -> list[str]:
        """The arguments of the calls of a program so far."""
        path = self.folder / "calls"
        lines = path.read_text().splitlines() if path.is_file() else []
        return [line.partition(" ")[2] for line in lines if line.startswith(f"{name} ")]

    @property
    def script(self) -> str:
        """The last batch script."""
        return (self.folder / "script").read_text()
