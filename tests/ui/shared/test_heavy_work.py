"""Work on volumes: once per result, and few at a time."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from ui.shared import heavy_work


def test_work_for_one_key_does_not_overlap_and_other_keys_do_not_wait() -> None:
    entered, inside = threading.Barrier(2), []

    def work(key: str) -> None:
        with heavy_work.one_at_a_time(key):
            inside.append(key)
            assert inside.count(key) == 1
            entered.wait(30)
            inside.remove(key)

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work, key) for key in ("a", "b", "a", "b")]:
            done.result()
    assert heavy_work._turns == {}


def test_number_of_threads_at_work_is_bounded() -> None:
    most, now, lock = 0, 0, threading.Lock()

    def work(_: int) -> None:
        nonlocal most, now
        with heavy_work.heavy_work():
            with lock:
                now += 1
                most = max(most, now)
            with lock:
                now -= 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(50)))
    assert 1 <= most <= heavy_work.MAX_AT_ONCE
