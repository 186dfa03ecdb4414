"""Sets of voxels: of label maps in memory and in a file they give the same."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from core.sampling import voxel_sets
from core.sampling.voxel_sets import VoxelSet, voxel_set


def both(label: np.ndarray, tmp_path: Path, value: int) -> tuple[VoxelSet, VoxelSet]:
    """The voxels with a value, of a label map in memory and of the same one in a file."""
    label.tofile(tmp_path / "label")
    mapped = np.memmap(tmp_path / "label", np.uint8, "r", 0, label.shape)
    return voxel_set(label, partial(np.equal, value)), voxel_set(mapped, partial(np.equal, value))


@pytest.mark.parametrize("most", [7, 50_000])
def test_voxels_of_a_mapped_label_map_are_those_of_one_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(voxel_sets, "MAX_VOXELS", most)
    label = np.random.default_rng(0).integers(0, 4, (6, 5, 7)).astype(np.uint8)
    label[2] = 0  # a slice without the class
    for value in (1, 3, 9):
        resident, mapped = both(label, tmp_path, value)
        assert len(resident) == len(mapped) and resident.is_all == mapped.is_all
        for n in range(len(resident)):
            assert resident[n].tolist() == mapped[n].tolist() and resident[n].dtype == mapped[n].dtype == np.int16
    assert all(voxels.is_all for voxels in both(np.ones((2, 3, 4), np.uint8), tmp_path, 1))


def test_shares_are_those_of_counting_and_padding_does_not_belong(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    label = (rng.random((7, 9, 5)) < 0.4).astype(np.uint8)
    resident, mapped = both(label, tmp_path, 1)
    padded = np.pad(label, 20)
    for _ in range(50):
        start, size = rng.integers(-6, 9, 3).tolist(), rng.integers(1, 12, 3).tolist()
        i, j, k = (slice(s + 20, s + 20 + n) for s, n in zip(start, size, strict=True))
        expected = padded[i, j, k].sum() / np.prod(size)
        assert resident.share(tuple(start), tuple(size)) == mapped.share(tuple(start), tuple(size)) == expected
    for whole in both(np.ones((4, 8, 8), np.uint8), tmp_path, 1):
        assert whole.share((-2, 0, 0), (8, 8, 8)) == 0.5 and whole.share((-9, 0, 0), (8, 8, 8)) == 0
