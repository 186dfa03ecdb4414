"""Streamed subjects are the resident ones, leave nothing on disk, and say what is wrong with it."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from core.augmentation.augmenter import Augmenter
from core.config import AugmentConfig
from core.errors import DeviceError
from core.sampling.patches import DeviceSubjects, Place
from core.sampling.streaming import StreamedSubjects, SubjectStore, ahead, hold
from core.types import TrainingSubject, VoxelIndex, triple
from tests.support.balls import training_subjects

CPU = torch.device("cpu")


@pytest.mark.parametrize("start", [(0, 0, 0), (-3, 2, 5), (15, 20, 12), (40, 0, 0)])
@pytest.mark.parametrize("count", [1, 3])
def test_streamed_subjects_are_the_resident_ones(tmp_path: Path, start: VoxelIndex, count: int) -> None:
    subjects = training_subjects(3, channels=2)
    resident, streamed = DeviceSubjects(subjects, CPU), StreamedSubjects(subjects, CPU, tmp_path)
    assert (streamed.ids, streamed.channels, len(streamed)) == (resident.ids, resident.channels, 3)
    places = [Place(n, start) for n in range(count)]
    for mine, theirs in zip(streamed.crop(places, (8, 9, 7)), resident.crop(places, (8, 9, 7)), strict=True):
        assert mine.dtype == theirs.dtype and torch.equal(mine, theirs)
    for n in range(3):
        assert torch.equal(streamed.image(n), resident.image(n)) and torch.equal(streamed.label(n), resident.label(n))
    assert (streamed.nbytes, streamed.stored_bytes) == (0, resident.nbytes)


def test_streamed_subjects_are_the_resident_ones_after_augmentation_too(tmp_path: Path) -> None:
    subjects = training_subjects(2, channels=2)
    size = triple([n - 6 for n in subjects[0].label.shape])
    resident, streamed = DeviceSubjects(subjects, CPU), StreamedSubjects(subjects, CPU, tmp_path)
    augment = Augmenter(AugmentConfig(affine=0.7, elastic=0.7, intensity=0.5, noise=0.1), size)
    corners = [Place(n % 2, triple([-5 if n >> a & 1 else 11 for a in range(3)])) for n in range(8)]
    for places in (corners, corners[:1]):
        one, other = (
            augment(held, places, torch.Generator().manual_seed(3))
            for held in (resident, streamed)
        )  # fmt: skip
        assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])


def test_what_was_cut_can_be_written_to(tmp_path: Path) -> None:
    streamed = StreamedSubjects(training_subjects(1), CPU, tmp_path)
    before = streamed.image(0)
    for tensor in (*streamed.crop([Place(0, (0, 0, 0))], (8, 8, 8)), streamed.image(0), streamed.label(0)):
        tensor.zero_()
    assert torch.equal(streamed.image(0), before) and streamed.label(0).any()


def test_the_limit_decides(tmp_path: Path) -> None:
    subjects = training_subjects(2)
    needed = sum(3 * s.label.size for s in subjects)
    assert isinstance(hold(subjects, CPU, needed, tmp_path), DeviceSubjects)
    assert isinstance(hold(subjects, CPU, needed - 1, tmp_path), StreamedSubjects)
    assert isinstance(hold([], CPU, 0, tmp_path), DeviceSubjects)


def test_subjects_that_are_stored_one_by_one_are_not_stored_again(tmp_path: Path) -> None:
    store = SubjectStore(tmp_path)
    stored = [store.add(s) for s in training_subjects(2)]
    assert all(isinstance(a, np.memmap) for s in stored for a in (s.image, s.label))
    written = store.nbytes
    held = hold(stored, CPU, 2**40, tmp_path)
    assert isinstance(held, StreamedSubjects) and store.nbytes == written == held.stored_bytes
    store.close()
    assert torch.equal(held.image(1), DeviceSubjects(training_subjects(2), CPU).image(1)), "still readable"


def test_another_memory_map_is_stored_like_any_array(tmp_path: Path) -> None:
    """Such as the float32 image of a file that was not compressed."""
    (subject,) = training_subjects(1)
    mapped = np.memmap(tmp_path / "image", np.float32, "w+", shape=subject.image.shape)
    mapped[:] = subject.image
    other = replace(subject, image=mapped)
    assert isinstance(hold([other], CPU, 2**40, tmp_path), DeviceSubjects)
    streamed = StreamedSubjects([other], CPU, tmp_path)
    assert torch.equal(streamed.image(0), DeviceSubjects([subject], CPU).image(0))
    assert streamed.stored_bytes == 3 * subject.label.size


def test_a_transposed_image_is_stored_as_it_looks(tmp_path: Path) -> None:
    image = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4).transpose(0, 3, 1, 2)
    label = np.arange(24, dtype=np.uint8).reshape(2, 3, 4).transpose(2, 0, 1)
    stored = SubjectStore(tmp_path).add(TrainingSubject("s", image, label, (1, 1, 1)))
    np.testing.assert_array_equal(stored.image, image)
    np.testing.assert_array_equal(stored.label, label)


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot remove what is open")
def test_nothing_is_left_behind_after_a_kill(tmp_path: Path) -> None:
    code = (
        "import sys, time, torch; from pathlib import Path; from core.sampling.streaming import StreamedSubjects;"
        "from tests.support.balls import training_subjects;"
        "held = StreamedSubjects(training_subjects(2), torch.device('cpu'), Path(sys.argv[1]));"
        "print(float(held.image(0).sum()), flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert float(child.stdout.readline()) == pytest.approx(
        float(DeviceSubjects(training_subjects(1), CPU).image(0).sum())
    )
    child.send_signal(signal.SIGKILL)
    child.wait(30)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_says_how_much_was_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SubjectStore(tmp_path)

    class Full:
        closed = False

        def seek(self, _: int) -> None: ...

        def write(self, _: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store, "_file", Full())
    with pytest.raises(DeviceError, match=r"no space left for the subjects.*0\.00 GB were needed so far.*resident_gb"):
        store.add(training_subjects(1)[0])


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs to mount a small disk")
def test_a_disk_that_is_really_full_is_told_and_left_clean(tmp_path: Path) -> None:
    code = (
        "import sys, torch; from pathlib import Path; from core.errors import UserError;"
        "from core.sampling.streaming import StreamedSubjects; from tests.support.balls import training_subjects\n"
        "try: StreamedSubjects(training_subjects(99), torch.device('cpu'), Path(sys.argv[1]))\n"
        "except UserError as error: print(error, list(Path(sys.argv[1]).iterdir()))"
    )
    script = 'mount -t tmpfs -o size=256k none "$1" && exec "$2" -c "$3" "$1"'
    command = ["unshare", "-m", "sh", "-c", script, "sh", str(tmp_path), sys.executable, code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if "mount:" in done.stderr or "unshare:" in done.stderr:
        pytest.skip("mounting is not allowed here")
    assert f"in {tmp_path}: 0.00 GB were needed so far" in done.stdout, done.stderr
    assert done.stdout.strip().endswith("[]"), "nothing is left"


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"cannot keep the subjects on disk, in .*missing"):
        SubjectStore(tmp_path / "missing")


# --- ahead ------------------------------------------------------------------------------------------------------------


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("ahead")]


def test_results_come_in_order_and_are_made_ahead() -> None:
    made: list[int] = []

    def work(n: int) -> int:
        made.append(n)
        return n * n

    results = ahead(range(20), work, depth=2)
    assert next(results) == 0
    deadline = time.monotonic() + 30
    while len(made) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert made == [0, 1, 2], "two more, and no others"
    assert list(results) == [n * n for n in range(1, 20)]
    assert not threads()


def test_an_error_comes_where_its_result_would_have() -> None:
    def work(n: int) -> int:
        if n == 3:
            raise ValueError("the third")
        return n

    results = ahead(range(10), work, depth=2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="the third"):
        next(results)
    assert not threads()


def test_the_thread_ends_with_the_consumers_error() -> None:
    def consume() -> None:
        with contextlib.closing(ahead(counting(), lambda n: n, depth=2)) as results:
            for n in results:
                if n == 4:
                    raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        consume()
    assert not threads()


def test_nothing_to_do_is_no_result() -> None:
    assert list(ahead([], lambda n: n, depth=2)) == []
    unasked = ahead(range(3), lambda n: n, depth=2)
    unasked.close()
    assert not threads()


def test_stopping_early_ends_the_thread() -> None:
    endless = ahead(counting(), lambda n: n, depth=2)
    assert [next(endless) for _ in range(5)] == [0, 1, 2, 3, 4]
    endless.close()
    assert not threads()


def counting() -> Iterator[int]:
    n = 0
    while True:
        yield n
        n += 1
