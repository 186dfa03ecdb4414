"""Reasons of a trainer's death: the kernel's counters are evidence where they can be read, and never invented."""

from __future__ import annotations

import pytest

from core.compute.cgroups import OomKills
from core.runs.processes.exit_reason import describe_exit, signal_name

UNKNOWN = OomKills(None, None)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (OomKills(0, 3), OomKills(1, 4), "lack of memory in its control group"),
        (OomKills(None, 3), OomKills(None, 4), "lack of memory in this machine"),
        (UNKNOWN, UNKNOWN, "probably out of memory"),
        (OomKills(1, 3), OomKills(1, 3), "the kernel counted no such kill"),
    ],
)
def test_message_after_sigkill_gives_the_oom_evidence(before: OomKills, after: OomKills, expected: str) -> None:
    message = describe_exit(-9, before, after, 3 * 2**30)
    assert "SIGKILL" in message and expected in message and "3.2 GB" in message


def test_other_signals_and_exit_statuses_are_named() -> None:
    message = describe_exit(-7, UNKNOWN, UNKNOWN, None)
    assert "SIGBUS" in message and "memory-mapped file" in message
    assert "SIGUSR1" in describe_exit(-10, UNKNOWN, UNKNOWN, None)
    assert "status 3" in describe_exit(3, UNKNOWN, UNKNOWN, None)
    assert (signal_name(0), signal_name(1), signal_name(-15), signal_name(-64)) == (None, None, "SIGTERM", "SIGRTMAX")
    assert signal_name(-99) == "signal 99"
