"""Values of label maps: how many there may be, and the classes that they become."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.datasets.label_values import MAX_VALUES, default_classes, label_values
from core.errors import DatasetError
from tests.support.volume_files import write_nifti


def write(path: Path, first: int, last: int) -> Path:
    """A label map of all values from first to last, 0 elsewhere."""
    values = np.zeros((8, 8, 8), np.int16)
    values.flat[: last - first + 1] = np.arange(first, last + 1)
    return write_nifti(path, values, np.eye(4))


def test_as_many_values_are_read_as_a_label_space_has_classes(tmp_path: Path) -> None:
    files = [write(tmp_path / "a.nii", -1, 200), write(tmp_path / "b.nii", 200, MAX_VALUES)]
    steps: list[tuple[int, int]] = []
    values = label_values(files, lambda *step: steps.append(step))
    assert list(values) == list(range(-1, MAX_VALUES + 1)) and (values[0], values[200], values[-1]) == (2, 2, 1)
    assert steps == [(0, 2), (1, 2), (2, 2)]
    named = default_classes(tmp_path, values)
    assert next(iter(named)) == "background" and named["ignore"] == -1 and named["label 254"] == MAX_VALUES
    files.append(write(tmp_path / "c.nii", MAX_VALUES + 1, MAX_VALUES + 1))
    with pytest.raises(DatasetError, match=r"c\.nii: expected at most 254 label values in all label maps, got more"):
        label_values(files)


def test_a_signed_image_is_no_label_map(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="is it an image"):
        label_values([write(tmp_path / "ct.nii", -300, 100)])


def test_several_negative_values_have_no_default() -> None:
    with pytest.raises(DatasetError, match=r"^data: expected at most one negative label value.*got \[-2, -1\]"):
        default_classes(Path("data"), (-2, -1, 0, 1))
