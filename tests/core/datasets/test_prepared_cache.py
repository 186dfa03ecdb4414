"""Prepared subjects that are kept: exact, renamed by all that they depend on, safe against kills and other writers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from core import library_versions
from core.datasets import Dataset, content_digests, load_subject, open_dataset, prepared_cache
from core.datasets.content_digests import ContentDigests
from core.datasets.layouts.recipe import Recipe
from core.datasets.prepare import prepare_loaded
from core.datasets.prepared_cache import Preparation, PreparedCache, write_with_holes
from core.imaging.normalise import Normaliser, to_float16
from tests.support.balls import write_balls

PREPARATION = Preparation(("M0",), (), Normaliser(("z_score",)), (1.1, 1.0, 1.5))
KEEP = (  # a script that keeps a subject and is killed when it has written some part of it
    "import os, sys; from pathlib import Path; from core.datasets import open_dataset\n"
    "from core.datasets import prepared_cache; from tests.core.datasets.test_prepared_cache import PREPARATION\n"
    "write, calls = prepared_cache.os.fsync, []\n"
    "prepared_cache.os.fsync = lambda file: os.kill(os.getpid(), 9)\n"
    "cache = prepared_cache.PreparedCache(Path(sys.argv[1])); dataset = open_dataset(sys.argv[2])\n"
    "found = cache.identify(dataset, 'ball_1', PREPARATION)\n"
    "cache.add(found.key, PREPARATION.prepare(dataset, 'ball_1'))\n"
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_balls(tmp_path / "data", 3)


def key(dataset: Dataset, id: str = "ball_1", preparation: Preparation = PREPARATION) -> str:
    found = PreparedCache().identify(dataset, id, preparation)
    assert found is not None
    return found.key


def test_what_is_kept_is_bit_for_bit_what_training_would_compute(data: Path) -> None:
    dataset, cache = open_dataset(data), PreparedCache()
    name = key(dataset)
    assert cache.open(name, "ball_1") is None
    direct = PREPARATION.prepare(dataset, "ball_1")
    cache.add(name, direct)
    kept = cache.open(name, "ball_1")
    assert kept is not None and isinstance(kept.subject.image, np.memmap) and isinstance(kept.subject.label, np.memmap)
    full = prepare_loaded(load_subject(dataset, "ball_1"), PREPARATION.normaliser, PREPARATION.spacing_mm)
    assert kept.subject.image.dtype == np.float16 and np.array_equal(kept.subject.image, to_float16(full.image))
    assert kept.subject.label.dtype == np.uint8 and np.array_equal(kept.subject.label, full.label)
    assert kept.subject.spacing_mm == full.spacing_mm
    assert (
        json.dumps(kept.facts.to_json()) == json.dumps(direct.facts.to_json()) and kept.facts.positions.id == "ball_1"
    )
    alone = kept.in_memory()
    assert not isinstance(alone.image, np.memmap) and np.array_equal(alone.image, kept.subject.image)
    assert cache.use().entries == 1 and cache.clear().entries == 1 and cache.open(name, "ball_1") is None


def changed_file(dataset: Dataset) -> Dataset:
    path = dataset.subject("ball_1").files[0]
    content = bytearray(path.read_bytes())
    before = path.stat()
    content[-9] ^= 1  # as many bytes, at the same time
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    return dataset


def renamed_class(dataset: Dataset) -> Dataset:
    classes = tuple(replace(c, name=c.name + "x") for c in dataset.labels.classes)
    return replace(dataset, labels=replace(dataset.labels, classes=classes))


@pytest.mark.parametrize(
    "change",
    [
        changed_file,
        renamed_class,
        lambda d: replace(d, nan_is_zero=True),
        lambda d: replace(d, labels_follow_images=True),
        lambda d: replace(d, value_map={7: 1}),
        lambda d: replace(d, later_mask_wins=True),
        lambda d: replace(d, recipe=Recipe(take_qform=("ball_1",))),
        lambda d: replace(d, recipe=Recipe(follow_image=("ball_1",))),
        lambda d: replace(d, recipe=Recipe(nearest_label=("ball_1",))),
    ],
)
def test_an_entry_is_of_all_that_reading_depends_on(data: Path, change: Callable[[Dataset], Dataset]) -> None:
    dataset = open_dataset(data)
    before = key(dataset)
    assert key(dataset) == before and key(dataset, "ball_0") != before
    assert key(replace(dataset, recipe=Recipe(take_qform=("ball_2",)))) == before, "of another subject"
    assert key(change(dataset)) != before


def test_an_entry_is_of_settings_code_and_content_and_not_of_the_place(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = open_dataset(data)
    before = key(dataset)
    other = [
        replace(PREPARATION, spacing_mm=None),
        replace(PREPARATION, normaliser=Normaliser(("max",))),
        replace(PREPARATION, normaliser=Normaliser(("z_score",), version=1)),
        replace(PREPARATION, classes=("dark",)),
        replace(PREPARATION, crop=True),
        replace(PREPARATION, crop=True, spacing_mm=None),
    ]
    assert len({key(dataset, preparation=p) for p in other} | {before}) == 1 + len(other)
    assert key(open_dataset(shutil.copytree(data, tmp_path / "copy"))) == before
    monkeypatch.setattr(prepared_cache, "code_digest", lambda: "another version")
    assert key(dataset) != before


def test_a_damaged_entry_is_removed_and_a_file_that_cannot_be_read_has_none(data: Path) -> None:
    dataset, cache = open_dataset(data), PreparedCache()
    name = key(dataset)
    for file, damage in ((prepared_cache.VOXELS, b"x"), (prepared_cache.FACTS, b"{"), (prepared_cache.FACTS, b"{}")):
        cache.add(name, PREPARATION.prepare(dataset, "ball_1"))
        (cache.folder / name / file).write_bytes(damage)
        assert cache.open(name, "ball_1") is None and not (cache.folder / name).exists()
    dataset.subject("ball_1").files[0].unlink()
    assert cache.identify(dataset, "ball_1", PREPARATION) is None


@pytest.mark.slow
def test_a_killed_writer_leaves_nothing_that_is_opened(data: Path, tmp_path: Path) -> None:
    dataset, cache = open_dataset(data), PreparedCache(tmp_path / "cache")
    killed = subprocess.run([sys.executable, "-c", KEEP, str(cache.folder), str(data)], timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert any(cache.folder.glob(".*.tmp/voxels")), "it was killed while it wrote"
    assert cache.open(key(dataset), "ball_1") is None and cache.use().entries == 0
    cache.add(key(dataset), PREPARATION.prepare(dataset, "ball_1"))
    cache.tidy()
    assert cache.open(key(dataset), "ball_1") is not None and not any(cache.folder.glob(".*.tmp"))


def test_of_two_writers_both_find_a_complete_entry(data: Path) -> None:
    dataset, cache = open_dataset(data), PreparedCache()
    name, made = key(dataset), PREPARATION.prepare(dataset, "ball_1")
    meet, opened = threading.Barrier(2), []

    def keep() -> None:
        meet.wait(20)
        PreparedCache().add(name, made)
        opened.append(PreparedCache().open(name, "ball_1"))

    threads = [threading.Thread(target=keep) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(opened) == 2 and all(
        o is not None and np.array_equal(o.subject.image, made.subject.image) for o in opened
    )
    assert cache.use().entries == 1


def test_an_entry_that_is_removed_stays_readable_where_it_is_mapped(data: Path) -> None:
    dataset, cache = open_dataset(data), PreparedCache()
    cache.add(key(dataset), PREPARATION.prepare(dataset, "ball_1"))
    kept = cache.open(key(dataset), "ball_1")
    assert kept is not None
    before = np.array(kept.subject.image)
    cache.clear()
    assert np.array_equal(kept.subject.image, before)


def test_zeros_take_no_room_on_the_disk(tmp_path: Path) -> None:
    air = np.zeros(2**22, np.uint8)
    head = np.random.default_rng(0).integers(0, 256, 2**18).astype(np.uint8)
    write_with_holes(tmp_path / "file", [air, head, air[:5]])
    status = (tmp_path / "file").stat()
    assert (tmp_path / "file").read_bytes() == air.tobytes() + head.tobytes() + bytes(5)
    if getattr(status, "st_blocks", 0) and sys.platform == "linux":
        assert status.st_blocks * 512 < 2**20 < status.st_size


def test_digests_are_computed_once_for_a_state_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content_digests, "SETTLED_S", -1.0)
    file, path = tmp_path / "file", tmp_path / "digests"
    file.write_bytes(b"content")
    digest = ContentDigests(path).digest(file)
    assert path.read_bytes().count(b"\n") == 1
    again = ContentDigests(path)
    assert again.digest(file) == digest and path.read_bytes().count(b"\n") == 1
    time.sleep(0.02)  # the change time has the resolution of the system's clock
    file.write_bytes(b"CONTENT")
    assert again.digest(file) != digest and path.read_bytes().count(b"\n") == 2
    path.write_bytes(b"torn" + path.read_bytes()[:-20])
    assert ContentDigests(path).digest(file) == again.digest(file)
    monkeypatch.setattr(content_digests, "MAX_BYTES", 10)
    ContentDigests(path).digest(file)
    monkeypatch.setattr(content_digests, "SETTLED_S", 3600.0)
    other = tmp_path / "fresh"
    other.write_bytes(b"x")
    size = path.stat().st_size
    ContentDigests(path).digest(other)
    assert path.stat().st_size <= size, "a file that may still change in this moment is not remembered"


def test_another_version_of_a_library_that_decodes_files_makes_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    def digest() -> str:
        library_versions.installed_versions.cache_clear()
        prepared_cache.code_digest.cache_clear()
        return prepared_cache.code_digest()

    before, version = digest(), metadata.version
    for library in ("nibabel", "SimpleITK", "pydicom"):
        with monkeypatch.context() as changed:
            changed.setattr(metadata, "version", lambda name, of=library: "9" if name == of else version(name))
            assert digest() != before, library
    assert digest() == before
