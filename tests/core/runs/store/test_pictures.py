"""Pictures of validations: bounded in number and bytes, spread over the run, removed where a run resumes earlier."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core.runs.store import pictures
from core.runs.store.pictures import add_picture, drop_pictures_after, encode_png, list_pictures


def steps(folder: Path) -> list[int]:
    return [picture.step for picture in list_pictures(folder)]


def test_run_without_pictures_has_none(tmp_path: Path) -> None:
    assert list_pictures(tmp_path) == []


def test_picture_is_stored_as_it_is_and_replaced_by_that_of_the_same_step(tmp_path: Path) -> None:
    rgb = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    add_picture(tmp_path, 1, 20, b"earlier")
    add_picture(tmp_path, 2, 20, encode_png(rgb[::-1]))
    (picture,) = list_pictures(tmp_path)
    assert (picture.epoch, picture.step) == (2, 20)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(picture.path.read_bytes()))), rgb[::-1])


def test_long_run_keeps_a_bounded_number_spread_over_all_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MAX_PICTURES", 10)
    for epoch in range(1, 201):
        add_picture(tmp_path, epoch, epoch * 7, b"x")
    kept = steps(tmp_path)
    gaps = np.diff(kept)
    assert len(kept) == 10 and (kept[0], kept[-1]) == (7, 1400)
    assert gaps.max() <= 4 * gaps.min() + 7


def test_large_pictures_keep_within_the_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MAX_BYTES", 1000)
    for epoch in range(1, 21):
        add_picture(tmp_path, epoch, epoch, bytes(180))
    assert len(steps(tmp_path)) == 5 and steps(tmp_path)[-1] == 20


def test_resumed_run_drops_the_pictures_that_it_makes_again(tmp_path: Path) -> None:
    for epoch in (1, 2, 3):
        add_picture(tmp_path, epoch, epoch * 10, b"x")
    (tmp_path / pictures.PICTURES / "of-somebody-else.png").write_bytes(b"y")
    drop_pictures_after(tmp_path, 20)
    assert steps(tmp_path) == [10, 20]
    drop_pictures_after(tmp_path, 0)
    assert steps(tmp_path) == []
