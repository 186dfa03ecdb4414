"""Subjects of a run are prepared on all cores, opened where they are kept, and the same either way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.datasets import open_dataset, parallel_preparation
from core.datasets.parallel_preparation import Resources, SubjectPreparation
from core.datasets.prepared_cache import Preparation, PreparedCache, PreparedSubject
from core.errors import VolumeError
from core.imaging.normalise import Normaliser
from tests.support.balls import write_balls

PREPARATION = Preparation(("M0",), (), Normaliser(("z_score",)), (1.3, 1.2, 1.1))
BYTES = 30_000  # of a subject


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_balls(tmp_path / "data", 6)


def work(data: Path, workers: int = 1) -> SubjectPreparation:
    return SubjectPreparation(open_dataset(data), PREPARATION, PreparedCache(), Resources(workers))


def run(data: Path, workers: int = 1) -> tuple[dict[str, PreparedSubject], SubjectPreparation]:
    preparation = work(data, workers)
    return dict(preparation.subjects(dict.fromkeys(preparation.dataset.ids, BYTES))), preparation


def same(a: PreparedSubject, b: PreparedSubject) -> bool:
    equal = np.array_equal(a.subject.image, b.subject.image) and np.array_equal(a.subject.label, b.subject.label)
    return equal and a.subject.spacing_mm == b.subject.spacing_mm and str(a.facts.to_json()) == str(b.facts.to_json())


def test_the_second_time_all_are_opened(data: Path) -> None:
    first, one = run(data)
    second, two = run(data)
    assert (one.opened, two.opened) == (0, 6) and not one.not_kept
    assert all(same(first[id], second[id]) for id in open_dataset(data).ids)
    assert all(isinstance(p.subject.image, np.memmap) for p in (*first.values(), *second.values()))


@pytest.mark.long(8)
def test_processes_give_the_same_and_name_the_first_file_that_cannot_be_read(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel_preparation, "MIN_PARALLEL_BYTES", 0)
    by_processes, _ = run(data, workers=2)
    PreparedCache().clear()
    here, _ = run(data)
    assert by_processes.keys() == here.keys() and all(same(by_processes[id], here[id]) for id in here)
    dataset = open_dataset(data)
    for id in ("ball_1", "ball_4"):
        dataset.subject(id).files[0].write_bytes(b"damaged")
    with pytest.raises(VolumeError, match=r"ball_1\.nii\.gz"):
        run(data, workers=2)
    with pytest.raises(VolumeError, match=r"ball_1\.nii\.gz"):
        run(data)


@pytest.mark.slow
def test_a_stop_ends_after_the_subject_at_work_and_what_is_done_is_kept(data: Path) -> None:
    preparation = work(data)
    done: list[str] = []
    for id, _ in preparation.subjects(dict.fromkeys(preparation.dataset.ids, BYTES), lambda: len(done) == 2):
        done.append(id)
    assert len(done) == 2 and PreparedCache().use().entries == 2
    assert run(data)[1].opened == 2


def test_beyond_the_limit_nothing_is_kept_and_it_is_said(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full, _ = run(data)
    nbytes = PreparedCache().use().nbytes
    PreparedCache().clear()
    monkeypatch.setenv("SEGMENTARIUM_CACHE_GB", str(nbytes / 2 / 1e9))
    some, preparation = run(data)
    assert 0 < PreparedCache().use().entries < 6 and "SEGMENTARIUM_CACHE_GB" in preparation.not_kept
    assert some.keys() == full.keys() and all(same(some[id], full[id]) for id in full)
    _, preparation = run(data)
    assert preparation.opened > 0, "what was kept is not pushed out by the rest"
    monkeypatch.setenv("SEGMENTARIUM_CACHE_GB", "0")
    PreparedCache().clear()
    none, preparation = run(data)
    assert PreparedCache().use().entries == 0 and none.keys() == full.keys() and not preparation.not_kept


def test_a_cache_that_cannot_be_written_is_no_failure(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = PreparedCache(tmp_path / "file" / "cache")
    preparation = SubjectPreparation(open_dataset(data), PREPARATION, cache)
    assert len(dict(preparation.subjects(dict.fromkeys(preparation.dataset.ids, BYTES)))) == 6
    assert "prepared data is not kept in" in preparation.not_kept
