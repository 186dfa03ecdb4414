"""Streamed subjects equal resident ones and leave no file; prefetching keeps order and ends its thread."""

from __future__ import annotations

import contextlib
import errno
import os
import re
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
from core.sampling.patches import PatchLocation, ResidentSubjects
from core.sampling.streaming import StreamedSubjects, SubjectStore, prefetch, resident_or_streamed
from core.types import TrainingSubject, VoxelIndex, triple
from tests.support.balls import training_subjects

CPU = torch.device("cpu")


@pytest.mark.parametrize("start", [(0, 0, 0), (-3, 2, 5), (15, 20, 12), (40, 0, 0)])
@pytest.mark.parametrize("count", [1, 3])
def test_streamed_subjects_equal_resident_ones(tmp_path: Path, start: VoxelIndex, count: int) -> None:
    subjects = training_subjects(3, channels=2)
    subjects[1].image[0] = 0  # it has no such image
    resident, streamed = ResidentSubjects(subjects, CPU), StreamedSubjects(subjects, CPU, tmp_path)
    assert (streamed.ids, streamed.channels, len(streamed)) == (resident.ids, resident.channels, 3)
    locations = [PatchLocation(n, start) for n in range(count)]
    for streamed_patch, patch in zip(
        streamed.crop(locations, (8, 9, 7)), resident.crop(locations, (8, 9, 7)), strict=True
    ):
        assert streamed_patch.dtype == patch.dtype and torch.equal(streamed_patch, patch)
    for n in range(3):
        assert torch.equal(streamed.image(n), resident.image(n)) and torch.equal(streamed.label(n), resident.label(n))
        assert streamed.present(n) == resident.present(n) == (n != 1, True)
    assert (streamed.nbytes, streamed.stored_bytes) == (0, resident.nbytes)


def test_augmented_streamed_subjects_equal_resident_ones(tmp_path: Path) -> None:
    subjects = training_subjects(2, channels=2)
    size = triple([n - 6 for n in subjects[0].label.shape])
    resident, streamed = ResidentSubjects(subjects, CPU), StreamedSubjects(subjects, CPU, tmp_path)
    augment = Augmenter(AugmentConfig(affine=0.7, elastic=0.7, intensity=0.5, noise=0.1), size)
    corners = [PatchLocation(n % 2, triple([-5 if n >> a & 1 else 11 for a in range(3)])) for n in range(8)]
    for locations in (corners, corners[:1]):
        one, other = (
            augment(subjects_on, locations, torch.Generator().manual_seed(3)) for subjects_on in (resident, streamed)
        )
        assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])


def test_writing_to_a_crop_leaves_the_file_unchanged(tmp_path: Path) -> None:
    streamed = StreamedSubjects(training_subjects(1), CPU, tmp_path)
    before = streamed.image(0)
    for tensor in (*streamed.crop([PatchLocation(0, (0, 0, 0))], (8, 8, 8)), streamed.image(0), streamed.label(0)):
        tensor.zero_()
    assert torch.equal(streamed.image(0), before) and streamed.label(0).any()


def test_limit_decides_between_resident_and_streamed(tmp_path: Path) -> None:
    subjects = training_subjects(2)
    needed = sum(3 * s.label.size for s in subjects)
    assert isinstance(resident_or_streamed(subjects, CPU, needed, tmp_path), ResidentSubjects)
    assert isinstance(resident_or_streamed(subjects, CPU, needed - 1, tmp_path), StreamedSubjects)
    assert isinstance(resident_or_streamed([], CPU, 0, tmp_path), ResidentSubjects)


def test_subjects_that_are_stored_one_by_one_are_not_stored_again(tmp_path: Path) -> None:
    store = SubjectStore(tmp_path)
    stored = [store.add(s) for s in training_subjects(2)]
    assert all(isinstance(a, np.memmap) for s in stored for a in (s.image, s.label))
    written = store.nbytes
    streamed = resident_or_streamed(stored, CPU, 2**40, tmp_path)
    assert isinstance(streamed, StreamedSubjects) and store.nbytes == written == streamed.stored_bytes
    store.close()
    assert torch.equal(streamed.image(1), ResidentSubjects(training_subjects(2), CPU).image(1)), "still readable"


def test_foreign_memory_map_is_stored_like_any_array(tmp_path: Path) -> None:
    """Such as the float32 image of a file that was not compressed."""
    (subject,) = training_subjects(1)
    mapped = np.memmap(tmp_path / "image", np.float32, "w+", shape=subject.image.shape)
    mapped[:] = subject.image
    other = replace(subject, image=mapped)
    assert isinstance(resident_or_streamed([other], CPU, 2**40, tmp_path), ResidentSubjects)
    streamed = StreamedSubjects([other], CPU, tmp_path)
    assert torch.equal(streamed.image(0), ResidentSubjects([subject], CPU).image(0))
    assert streamed.stored_bytes == 3 * subject.label.size


def test_transposed_image_is_stored_by_value(tmp_path: Path) -> None:
    image = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4).transpose(0, 3, 1, 2)
    label = np.arange(24, dtype=np.uint8).reshape(2, 3, 4).transpose(2, 0, 1)
    stored = SubjectStore(tmp_path).add(TrainingSubject("s", image, label, (1, 1, 1)))
    np.testing.assert_array_equal(stored.image, image)
    np.testing.assert_array_equal(stored.label, label)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows cannot remove what is open")
def test_killed_process_leaves_no_file(tmp_path: Path) -> None:
    code = (
        "import sys, torch; from pathlib import Path; from core.sampling.streaming import StreamedSubjects;"
        "from tests.support.balls import training_subjects;"
        "streamed = StreamedSubjects(training_subjects(2), torch.device('cpu'), Path(sys.argv[1]));"
        "print(float(streamed.image(0).sum()), flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert float(child.stdout.readline()) == pytest.approx(
        float(ResidentSubjects(training_subjects(1), CPU).image(0).sum())
    )
    child.send_signal(signal.SIGKILL)
    child.wait(30)
    assert not list(tmp_path.iterdir())


def test_full_disk_error_names_the_needed_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SubjectStore(tmp_path)

    class Full:
        closed = False

        def seek(self, _: int) -> None: ...

        def write(self, _: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store, "_file", Full())
    with pytest.raises(DeviceError, match=r"no space left for the subjects.*\d+ kB were needed so far.*resident_gb"):
        store.add(training_subjects(1)[0])


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs to mount a small disk")
def test_full_file_system_is_reported_and_no_file_remains(tmp_path: Path) -> None:
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
    assert re.search(rf"{tmp_path}: \d+ kB were needed", done.stdout), done.stderr
    assert done.stdout.strip().endswith("[]"), "no file is left"


def test_unwritable_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"cannot keep the subjects on disk, in .*missing"):
        SubjectStore(tmp_path / "missing")


# --- prefetch ---------------------------------------------------------------------------------------------------------


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("prefetch")]


def test_prefetched_results_come_in_order_up_to_depth_ahead() -> None:
    made: list[int] = []

    def work(n: int) -> int:
        made.append(n)
        return n * n

    results = prefetch(range(20), work, depth=2)
    assert next(results) == 0
    deadline = time.monotonic() + 30
    while len(made) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert made == [0, 1, 2], "two ahead"
    assert list(results) == [n * n for n in range(1, 20)]
    assert not threads()


def test_error_is_raised_in_place_of_its_result() -> None:
    def work(n: int) -> int:
        if n == 3:
            raise ValueError("the third")
        return n

    results = prefetch(range(10), work, depth=2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="the third"):
        next(results)
    assert not threads()


def test_thread_ends_when_the_consumer_raises() -> None:
    def consume() -> None:
        with contextlib.closing(prefetch(counting(), lambda n: n, depth=2)) as results:
            for n in results:
                if n == 4:
                    raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        consume()
    assert not threads()


def test_no_items_give_no_results() -> None:
    assert list(prefetch([], lambda n: n, depth=2)) == []
    unused = prefetch(range(3), lambda n: n, depth=2)
    unused.close()
    assert not threads()


def test_closing_early_ends_the_thread() -> None:
    endless = prefetch(counting(), lambda n: n, depth=2)
    assert [next(endless) for _ in range(5)] == [0, 1, 2, 3, 4]
    endless.close()
    assert not threads()


def counting() -> Iterator[int]:
    n = 0
    while True:
        yield n
        n += 1
