"""Test files are distributed so that one process waits for services while the others compute."""

from __future__ import annotations

from itertools import chain
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("xdist")

from tests.support.scheduling import WaitingFilesApart


class Process:
    """A test process that runs what it is sent.

    Parameters
    ----------
    number : int. Which one.
    """

    def __init__(self, number: int) -> None:
        self.gateway = SimpleNamespace(id=f"gw{number}")
        self.sent: list[int] = []
        self.shutting_down = False

    def send_runtest_some(self, indices: list[int]) -> None:
        assert not self.shutting_down
        self.sent += indices

    def shutdown(self) -> None:
        self.shutting_down = True


def files_of_processes(files: list[str], processes: int) -> list[list[str]]:
    """The files that each process runs, where each runs one of its four tests in turn."""
    tests = [f"{file}::test_{n}" for file in files for n in range(4)]
    config: Any = SimpleNamespace(
        getvalue=lambda name: ["popen"] * processes, option=SimpleNamespace(loadscopereorder=False)
    )
    scheduler = WaitingFilesApart(config)
    nodes: list[Any] = [Process(n) for n in range(processes)]
    for node in nodes:
        scheduler.add_node(node)
    for node in nodes:
        scheduler.add_node_collection(node, tests)
    scheduler.schedule()
    ran: list[list[int]] = [[] for _ in nodes]
    while not scheduler.tests_finished or any(len(r) < len(n.sent) for r, n in zip(ran, nodes, strict=True)):
        before = sum(map(len, ran))
        for done, node in zip(ran, nodes, strict=True):
            if len(done) < len(node.sent):
                done.append(node.sent[len(done)])
                scheduler.mark_test_complete(node, done[-1])
        assert sum(map(len, ran)) > before, "no process has anything to run, and tests are left"
    assert sorted(test for done in ran for test in done) == list(range(len(tests)))
    return [list(dict.fromkeys(tests[test].split("::")[0] for test in done)) for done in ran]


COMPUTING = [f"tests/core/test_{n}.py" for n in range(8)]
WAITING = [
    "tests/browser/test_cluster_loop.py",
    "tests/cluster/test_slurm.py",
    "tests/cluster/test_ray.py",
    "tests/database/test_postgres.py",
]


def test_one_of_three_processes_takes_the_files_that_wait() -> None:
    waits, *compute = files_of_processes(COMPUTING[:2] + WAITING + COMPUTING[2:], 3)
    assert waits == WAITING
    assert sorted(chain(*compute)) == COMPUTING and min(map(len, compute)) >= 3


def test_files_that_wait_are_taken_by_others_when_nothing_else_is_left() -> None:
    many = [f"tests/cluster/test_{n}.py" for n in range(9)]
    found = files_of_processes([*COMPUTING, *many], 3)
    assert not set(found[0]) & set(COMPUTING)
    assert all(set(files) & set(many) for files in found)


@pytest.mark.parametrize("files", [COMPUTING, WAITING, COMPUTING[:1], [COMPUTING[0], WAITING[0]]])
def test_files_of_one_kind_and_few_files_are_shared_as_usual(files: list[str]) -> None:
    assert sorted(chain(*files_of_processes(files, 3))) == sorted(files)


def test_two_processes_share_everything() -> None:
    assert all(set(files) & set(COMPUTING) for files in files_of_processes(COMPUTING + WAITING, 2))
