"""Labels of a dataset.json: the ignore label, nnU-Net's form, colours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.datasets import DataOptions, Dataset, load_subject, open_dataset
from core.errors import DatasetError
from core.labels import IGNORE_INDEX, PALETTE
from tests.support.volume_files import label_map, make_decathlon, make_iseg, write_nifti


def open_with(folder: Path, ignore: str = "auto", **content: Any) -> Dataset:
    return open_dataset(make_decathlon(folder, **content), options=DataOptions(ignore=ignore))


def raw_labels(*values: int) -> np.ndarray:
    """A label map with these values, int16."""
    return np.array(values, np.int16)[label_map(tuple(range(len(values))), seed=1)]


@pytest.mark.parametrize("value", [255, -1, 3, 5000])
def test_label_named_ignore_is_left_out(tmp_path: Path, value: int) -> None:
    dataset = open_with(tmp_path, labels={"0": "background", "1": "front", "2": "back", str(value): "ignore"})
    assert dataset.labels.names == ("background", "front", "back")
    raw = raw_labels(0, 1, 2, value)
    write_nifti(tmp_path / "labelsTr" / "case_001.nii.gz", raw)
    loaded = load_subject(dataset, "case_001")
    assert loaded.label is not None and np.array_equal(loaded.label, np.where(raw == value, IGNORE_INDEX, raw))
    subset = load_subject(dataset, "case_001", classes=("back",)).label
    assert subset is not None and np.array_equal(subset == IGNORE_INDEX, raw == value)
    assert np.array_equal(subset == 1, raw == 2)


def test_nnunets_names_with_values_are_understood(tmp_path: Path) -> None:
    dataset = open_with(tmp_path, labels={"background": 0, "front": 1, "back": 2, "ignore": 3})
    assert dataset.labels.names == ("background", "front", "back") and dataset.labels.raw_values == (0, 1, 2)
    assert dataset.labels.ignore is not None and dataset.labels.ignore.raw == 3
    with pytest.raises(DatasetError, match=r"one value for each label, got 'whole': \[1, 2\]; regions"):
        open_with(tmp_path, labels={"background": 0, "whole": [1, 2], "back": 2})


def test_ignore_option_decides(tmp_path: Path) -> None:
    labels = {"0": "background", "1": "front", "2": "ignore"}
    assert open_with(tmp_path, labels=labels).labels.names == ("background", "front")
    assert open_with(tmp_path, "none", labels=labels).labels.names == ("background", "front", "ignore")
    assert open_with(tmp_path, "front", labels=labels).labels.names == ("background", "ignore")
    unlisted = open_with(tmp_path, "7", labels={"0": "background", "1": "front"}).labels
    assert unlisted.ignore is not None and unlisted.ignore.raw == 7
    with pytest.raises(DatasetError, match=r"'labels': ignore: expected .* got 'nobody'"):
        open_with(tmp_path, "nobody", labels=labels)


def test_unlisted_value_names_the_option(tmp_path: Path) -> None:
    dataset = open_with(tmp_path, labels={"0": "background", "1": "front"})
    with pytest.raises(DatasetError, match=r"found also 2 in .* leave a value out with --ignore VALUE"):
        load_subject(dataset, "case_001")


def test_iseg_folder_with_an_ignored_value(tmp_path: Path) -> None:
    labels = open_dataset(make_iseg(tmp_path), options=DataOptions(ignore="255")).labels
    assert labels.names == ("background", "CSF", "GM", "WM") and labels.ignore is not None and labels.ignore.raw == 255


def test_sparse_annotation_with_zero_for_unlabelled(tmp_path: Path) -> None:
    labels = open_with(tmp_path, labels={"0": "unlabelled", "1": "background", "2": "vessel"}).labels
    assert labels.names == ("background", "vessel") and labels.raw_values == (1, 2)


@pytest.mark.parametrize(
    "colours",
    [
        {"1": "#FF0000", "2": "#00ff7f"},
        {"front": [255, 0, 0], "back": [0, 255, 127, 255]},
        {"1": [1.0, 0, 0], "2": [0, 1.0, 0.498]},
    ],
)
@pytest.mark.parametrize("key", ["colours", "colors"])
def test_colours_of_the_file_are_kept(tmp_path: Path, key: str, colours: dict[str, Any]) -> None:
    dataset = open_with(tmp_path, "auto", **{key: colours})
    assert [c.colour for c in dataset.labels.foreground] == ["#ff0000", "#00ff7f"]


def test_class_without_a_stated_colour_gets_another_one(tmp_path: Path) -> None:
    dataset = open_with(tmp_path, colours={"2": PALETTE[0]})
    assert [c.colour for c in dataset.labels.foreground] == [PALETTE[1], PALETTE[0]]


@pytest.mark.parametrize("colours", ["red", {"1": "red"}, {"1": [300, 0, 0]}, {"nobody": "#ff0000"}, {"1": [1, 2]}])
def test_wrong_colours_are_named(tmp_path: Path, colours: Any) -> None:
    with pytest.raises(DatasetError, match="expected 'colours' like"):
        open_with(tmp_path, colours=colours)


def test_values_beyond_255_are_classes(tmp_path: Path) -> None:
    names = {"0": "background", **{str(1000 + 10 * n): f"region {n}" for n in range(24)}}
    dataset = open_with(tmp_path, labels=names)
    raw = raw_labels(*map(int, names))
    write_nifti(tmp_path / "labelsTr" / "case_001.nii.gz", raw)
    label = load_subject(dataset, "case_001").label
    assert label is not None and np.array_equal(dataset.labels.to_raw(label), raw)
    assert len({c.colour for c in dataset.labels.foreground}) == 24
