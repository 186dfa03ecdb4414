"""Identity of a machine: for other processes, in containers, under a new name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from core import hosts
from core.paths import project_root
from tests.support.cluster.machines import can_simulate_machines

SHOW = "from core import hosts; print(hosts.pid_space(), *hosts.machine_marks())"


def shown(*apart: str) -> list[str]:
    """PID space and marks as another process sees them."""
    command = [*apart, sys.executable, "-c", SHOW]
    return subprocess.run(command, cwd=project_root(), capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.slow
def test_another_process_sees_the_same_and_a_container_another_pid_space() -> None:
    own = [hosts.pid_space(), *hosts.machine_marks()]
    assert shown() == own
    if not can_simulate_machines():
        pytest.skip("namespaces need Linux and root")
    space, *marks = shown("unshare", "--pid", "--net", "--fork", "--mount-proc")
    assert space.partition(":")[0] == own[0].partition(":")[0] and space != own[0]
    assert marks == [] or Path("/sys/class/net/eth0").exists()  # sysfs may still be that of the machine


def test_marks_do_not_give_away_the_id_of_the_system() -> None:
    machine_id = Path("/etc/machine-id")
    if machine_id.is_file() and machine_id.read_text().strip():
        assert all(machine_id.read_text().strip() not in mark for mark in hosts.machine_marks())
    assert all(len(mark) == 16 for mark in hosts.machine_marks())


def test_boot_began_in_the_past() -> None:
    import time

    assert 0 <= hosts.booted_at() < time.time()
