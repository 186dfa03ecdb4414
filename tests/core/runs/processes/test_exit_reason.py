"""Reasons of death: evidence is read where the kernel gives it, and never invented."""

from __future__ import annotations

import pytest

from core.compute.cgroups import OomKills
from core.runs.processes.exit_reason import reason, signal_name

NOTHING = OomKills(None, None)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (OomKills(0, 3), OomKills(1, 4), "out of memory (the kernel killed for lack of memory in its control group"),
        (OomKills(None, 3), OomKills(None, 4), "out of memory (the kernel killed for lack of memory in this machine"),
        (NOTHING, NOTHING, "probably out of memory (the kernel's own count cannot be read here"),
        (OomKills(1, 3), OomKills(1, 3), "out of memory is the usual cause, but the kernel counted no such kill"),
    ],
)
def test_a_kill_we_did_not_send_names_its_evidence(before: OomKills, after: OomKills, expected: str) -> None:
    told = reason(-9, before, after, 3 * 2**30)
    assert told.startswith("its process was killed by SIGKILL, which Segmentarium did not send: ")
    assert expected in told and "its peak was 3.2 GB" in told


def test_other_deaths() -> None:
    assert reason(-7, NOTHING, NOTHING, None).startswith("its process died of SIGBUS: a memory-mapped file")
    assert reason(-10, NOTHING, NOTHING, None) == "its process died of SIGUSR1"
    assert "status 3" in reason(3, NOTHING, NOTHING, None)
    assert (signal_name(0), signal_name(1), signal_name(-15), signal_name(-64)) == (None, None, "SIGTERM", "SIGRTMAX")
    assert signal_name(-99) == "signal 99"
