"""Memory that a process frees stays with it or is returned: page faults and resident size of child processes."""

from __future__ import annotations

import json
import platform
import subprocess
import sys

import pytest

from core.compute.allocator import malloc_environment

REPETITIONS = 40
CHILD = f"""
import json, resource, sys
import torch
from core.compute.allocator import retain_freed_memory, set_freed_memory_retention, trim_heap

def resident_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

if sys.argv[1] == "after block":
    with retain_freed_memory():
        torch.ones(2**24)
else:
    set_freed_memory_retention(sys.argv[1] == "retain")
torch.ones(2**24)  # 64 MiB
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range({REPETITIONS}):
    torch.ones(2**24)
faults, resident = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, resident_bytes()
trim_heap()
print(json.dumps([faults, resident - resident_bytes()]))
"""
PAGES = REPETITIONS * 2**26 // 4096

if platform.libc_ver()[0] != "glibc":
    pytest.skip("needs glibc's malloc", allow_module_level=True)


def child(mode: str) -> tuple[int, int]:
    """Page faults while 64 MiB are allocated and freed repeatedly, and bytes that trimming returns afterwards."""
    done = subprocess.run([sys.executable, "-c", CHILD, mode], capture_output=True, text=True, timeout=120, check=True)
    faults, trimmed = json.loads(done.stdout)
    return faults, trimmed


@pytest.mark.long
@pytest.mark.slow
def test_retained_memory_is_reused_and_trimmed_on_request() -> None:
    faults, trimmed = child("retain")
    assert faults < 0.5 * PAGES  # not 0: a freed block may be a little too small for the aligned next one
    assert trimmed > 0.9 * 2**26


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("mode", ["default", "after block"])
def test_memory_is_returned_by_default_and_after_the_block(mode: str) -> None:
    faults, trimmed = child(mode)
    assert faults > 0.9 * PAGES
    assert trimmed < 0.1 * 2**26


def test_malloc_environment_turns_the_thread_cache_off_and_keeps_other_tunables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    assert malloc_environment({"A": "b"}) == {"A": "b", "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"}
    other = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
    assert malloc_environment(other)["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=1:glibc.malloc.tcache_count=0"
    own = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=7"}
    assert malloc_environment(own) == own
    monkeypatch.setattr(sys, "platform", "darwin")
    assert malloc_environment({}) == {}
