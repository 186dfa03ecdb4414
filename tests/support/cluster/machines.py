"""Starts the other machines of a test, which are processes of this one; skips the test where that is not possible."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

import pytest

from tests.conftest import missing
from tests.support.watching import TOYS

# Trainers are the toys of the tests; an epoch takes this long.
TOY_RUNS = {"PYTHONPATH": str(TOYS), "TOY_EPOCH_S": "0.3"}


class Machines(Protocol):
    """A cluster, or a network file system with its clients."""

    def start(self) -> None: ...

    def stop(self) -> None: ...


Started = TypeVar("Started", bound=Machines)


def can_simulate_machines() -> bool:
    """Whether processes here can have their own host name, boot id and PIDs: with the namespaces of Linux, as root."""
    return sys.platform.startswith("linux") and os.geteuid() == 0


@contextmanager
def started(
    kind: Callable[[Path], Started], not_installed: str, environment: Mapping[str, str] | None = None
) -> Iterator[Started]:
    """Machines that are stopped at the end.

    Parameters
    ----------
    kind : callable. Makes them, in a folder with a short path.
    not_installed : str. What is missing for them; empty if nothing.
    environment : mapping of str to str, optional. Variables of this process meanwhile, which theirs inherit.
    """
    if not can_simulate_machines():
        pytest.skip("other machines on this one need Linux and root")
    if not_installed:
        missing(not_installed)
    with tempfile.TemporaryDirectory(prefix="nodes") as folder, pytest.MonkeyPatch.context() as patch:
        for name, value in (environment or {}).items():
            patch.setenv(name, value)
        machines = kind(Path(folder))
        try:
            machines.start()
            yield machines
        finally:
            machines.stop()
