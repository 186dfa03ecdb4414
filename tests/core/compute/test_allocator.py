"""Freed memory stays with the process that asked for it: page faults and resident size, in child processes."""

from __future__ import annotations

import json
import platform
import subprocess
import sys

import pytest

from core.compute.allocator import malloc_environment

CHILD = """
import json, resource, sys
import torch
from core.compute.allocator import give_back, enable_freed_memory_retention

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

enable_freed_memory_retention(sys.argv[1] == "keep")
torch.ones(2**24)  # 64 MiB
before, there = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, resident()
for _ in range(100):
    torch.ones(2**24)
faults, after = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, resident()
give_back()
print(json.dumps([faults, after - resident()]))
"""

if platform.libc_ver()[0] != "glibc":
    pytest.skip("only glibc can be told", allow_module_level=True)


def child(how: str) -> tuple[int, int]:
    """Page faults while 64 MiB were taken and freed a hundred times, and bytes that could be given back after that."""
    done = subprocess.run([sys.executable, "-c", CHILD, how], capture_output=True, text=True, timeout=120, check=True)
    faults, given = json.loads(done.stdout)
    return faults, given


def test_pages_are_not_asked_for_again() -> None:
    pages = 100 * 2**26 // 4096
    assert child("usual")[0] > 0.9 * pages
    assert child("keep")[0] < 0.5 * pages  # not none: a freed block may be a little short for an aligned one


def test_only_meanwhile() -> None:
    program = CHILD.replace(
        'enable_freed_memory_retention(sys.argv[1] == "keep")', "with retain_freed_memory(): torch.ones(2**24)"
    )
    program = program.replace("import give_back", "import retain_freed_memory, give_back")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert json.loads(done.stdout)[0] > 0.9 * 100 * 2**26 // 4096, "after it, as the C library does by itself"


def test_memory_is_given_back_when_told() -> None:
    assert child("keep")[1] > 0.9 * 2**26
    assert child("usual")[1] < 0.1 * 2**26


def test_a_process_that_computes_is_started_without_a_cache_of_small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    assert malloc_environment({"A": "b"}) == {"A": "b", "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"}
    given = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
    assert malloc_environment(given)["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=1:glibc.malloc.tcache_count=0"
    own = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=7"}
    assert malloc_environment(own) == own
    monkeypatch.setattr(sys, "platform", "darwin")
    assert malloc_environment({}) == {}
