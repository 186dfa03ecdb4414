"""Label spaces: conversion between raw values and indices, colours, validation, JSON."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pytest

from core.errors import DatasetError
from core.labels import (
    BACKGROUND_COLOUR,
    IGNORE_COLOUR,
    IGNORE_INDEX,
    PALETTE,
    TISSUE_COLOURS,
    LabelClass,
    LabelSpace,
    is_ignore_name,
    leave_out_ignored,
)

ISEG = LabelSpace.from_raw({0: "background", 10: "CSF", 150: "GM", 250: "WM"})


def space(*raw: int) -> LabelSpace:
    return LabelSpace.from_raw([(value, f"class {n}") for n, value in enumerate(raw)])


def test_classes_of_the_article() -> None:
    assert ISEG.names == ("background", "CSF", "GM", "WM")
    assert ISEG.raw_values == (0, 10, 150, 250)
    assert [c.colour for c in ISEG.classes] == [BACKGROUND_COLOUR, *PALETTE[:3]]
    assert [c.name for c in ISEG.foreground] == ["CSF", "GM", "WM"]
    assert len(ISEG) == 4
    assert LabelSpace.from_raw([(0, "background"), (10, "CSF"), (150, "GM"), (250, "WM")]) == ISEG


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.int64, np.float32, np.float64])
def test_raw_values_of_any_dtype_round_trip(dtype: Any) -> None:
    raw = np.random.default_rng(0).choice([0, 10, 150, 250], (4, 5, 6)).astype(dtype)
    index = ISEG.to_index(raw)
    assert index.dtype == np.uint8
    assert index.shape == raw.shape
    assert [index[raw == value].tolist() for value in (0, 10, 150, 250)] == [
        [n] * int((raw == value).sum()) for n, value in enumerate((0, 10, 150, 250))
    ]
    back = ISEG.to_raw(index)
    assert back.dtype == np.uint8
    assert np.array_equal(back, raw)


def test_raw_values_may_have_any_order_and_any_background_value() -> None:
    labels = space(7, 3, 0)
    raw = np.array([[0, 3], [7, 7]])
    assert labels.to_index(raw).tolist() == [[2, 1], [0, 0]]
    assert np.array_equal(labels.to_raw(labels.to_index(raw)), raw)


@pytest.mark.parametrize(
    ("raw", "dtype"),
    [
        ((0, 255), np.uint8), ((0, 256), np.int16), ((0, -1), np.int16), ((-(2**15), 2**15 - 1), np.int16),
        ((0, 2**15), np.int32), ((0, 40_000), np.int32), ((-(2**31), 2**31 - 1), np.int32),
    ],
)  # fmt: skip
def test_raw_values_have_the_smallest_sufficient_dtype(raw: tuple[int, int], dtype: Any) -> None:
    labels = space(*raw)
    index = np.array([[[0, 1], [1, 0]]], np.uint8)
    back = labels.to_raw(index)
    assert back.dtype == dtype
    assert back.tolist() == [[[raw[0], raw[1]], [raw[1], raw[0]]]]
    assert np.array_equal(labels.to_index(back), index)


def test_unknown_raw_values_are_named_and_counted() -> None:
    cases: dict[str, np.ndarray] = {
        "found also 5 in 2 voxels": np.array([0, 10, 5, 5]),
        "found also 0.5, nan in 2 voxels": np.array([0, 0.5, np.nan]),
        "found also -1 in 1 voxel": np.array([-1, 10], np.int8),
        "found also inf in 1 voxel": np.array([np.inf, 10.0]),
        "found also 1, 2, 3, 4, 5 in 8 voxels": np.arange(9),
        r"found also 1e\+30 in 1 voxel": np.array([1e30, 0]),
        "found also 2147483647 in 1 voxel": np.array([2**31 - 1, 0]),
    }
    for message, raw in cases.items():
        with pytest.raises(DatasetError, match=rf"only the label values \[0, 10, 150, 250\], {message}"):
            ISEG.to_index(raw)


def test_empty_arrays_keep_their_shape() -> None:
    assert ISEG.to_index(np.zeros((0, 3, 4))).shape == (0, 3, 4)
    assert ISEG.to_raw(np.zeros((2, 0), np.uint8)).shape == (2, 0)


def test_255_classes_round_trip() -> None:
    labels = space(*range(255))
    raw = np.arange(255)
    assert np.array_equal(labels.to_index(raw), raw)
    assert np.array_equal(labels.to_raw(labels.to_index(raw)), raw)


def test_tissue_colours_are_fixed_and_not_reused() -> None:
    tissues = ("CSF", "GM", "WM")
    for order in itertools.permutations((*tissues, "ventricles", "lesion")):
        colours = {c.name: c.colour for c in LabelSpace.from_raw(list(enumerate(("air", *order)))).classes}
        assert len(set(colours.values())) == 6, order
        assert {name: colours[name] for name in tissues} == TISSUE_COLOURS
    partly = LabelSpace.from_raw({0: "air", 1: "lesion", 2: "GM", 3: "WM"})
    assert [c.colour for c in partly.foreground] == [PALETTE[0], TISSUE_COLOURS["GM"], TISSUE_COLOURS["WM"]]


def test_classes_beyond_the_palette_continue_it_with_other_colours() -> None:
    colours = [c.colour for c in space(*range(24)).foreground]
    assert colours[:10] == list(PALETTE)
    assert len({BACKGROUND_COLOUR, *colours}) == 24


def test_subset_keeps_the_background_and_the_order() -> None:
    part = ISEG.subset(["WM", "CSF"])
    assert part.names == ("background", "CSF", "WM")
    assert part.raw_values == (0, 10, 250)
    assert part.classes[2] == ISEG.classes[3]
    assert ISEG.subset(ISEG.names[1:]) == ISEG
    for names in (["GM", "skull"], ["background"]):
        with pytest.raises(DatasetError, match=f"classes: expected some of CSF, GM, WM; got {names[-1]}"):
            ISEG.subset(names)
    with pytest.raises(DatasetError, match="2 to 255 classes, background first; got 1"):
        ISEG.subset([])


def test_json_round_trip() -> None:
    data = json.loads(json.dumps(ISEG.to_json()))
    assert data[1] == {"name": "CSF", "colour": PALETTE[0], "raw": 10}
    assert LabelSpace.from_json(data) == ISEG


@pytest.mark.parametrize(
    "data",
    [
        None,
        3,
        [1, 2],
        ["ab", "cd"],
        [{}, {}],
        {"name": "a"},
        [{"name": "a", "colour": "#000000"}] * 2,
        [{"name": "a", "colour": "#000000", "raw": None}] * 2,
        [{"name": "a", "colour": "#000000", "raw": float("inf")}] * 2,
    ],
    ids=repr,
)
def test_invalid_json_is_rejected(data: Any) -> None:
    with pytest.raises(DatasetError, match=r"expected a list of {name, colour, raw}, got"):
        LabelSpace.from_json(data)


@pytest.mark.parametrize("count", [0, 1, 256])
def test_number_of_classes_is_limited(count: int) -> None:
    with pytest.raises(DatasetError, match=f"2 to 255 classes, background first; got {count}"):
        space(*range(count))


def test_names_and_raw_values_are_unique() -> None:
    with pytest.raises(DatasetError, match=r"the names of a label space must differ .* got \['air', 'a', 'a'\]"):
        LabelSpace.from_raw([(0, "air"), (1, "a"), (2, "a")])
    with pytest.raises(DatasetError, match=r"the raw values of a label space must differ .* got \[0, 1, 1\]"):
        LabelSpace.from_raw([(0, "air"), (1, "a"), (1, "b")])


@pytest.mark.parametrize(
    "colour", ["", "red", "#fff", "#12345", "#1234567", "#12345g", "123456", "#123456\n", "#+12345"]
)
def test_colours_are_validated(colour: str) -> None:
    with pytest.raises(DatasetError, match=r"the colour of a class must be #rrggbb; got .* for b"):
        LabelSpace((LabelClass("a", "#AbCdEf", 0), LabelClass("b", colour, 1)))


@pytest.mark.parametrize("raw", [2**31, -(2**31) - 1, 10**30])
def test_raw_values_fit_into_32_bits(raw: int) -> None:
    with pytest.raises(DatasetError, match=f"must fit into 32 bits; got {raw} for class 1"):
        space(0, raw)


def test_tissues_are_recognised_by_their_full_names() -> None:
    labels = LabelSpace.from_raw(
        list(enumerate(("background", "white matter", "ventricles", "Grey Matter", "CSF", "wm")))
    )
    colours = {c.name: c.colour for c in labels.foreground}
    assert colours["white matter"] == TISSUE_COLOURS["WM"] and colours["Grey Matter"] == TISSUE_COLOURS["GM"]
    assert colours["CSF"] == TISSUE_COLOURS["CSF"]
    assert len(set(colours.values())) == 5, "a second class of the same tissue has another colour"


# --- the ignore label -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ignore", "Ignore", "IGNORE", "ignore label", "void", "Unlabelled", "un-labeled"])
def test_label_named_so_is_ignored_and_no_class(name: str) -> None:
    labels = LabelSpace.from_raw({0: "background", 1: "a", 255: name})
    assert labels.names == ("background", "a") and len(labels) == 2
    assert labels.ignore == LabelClass(name, IGNORE_COLOUR, 255) and is_ignore_name(name)
    assert labels.to_index(np.array([0, 1, 255])).tolist() == [0, 1, IGNORE_INDEX]
    assert labels.to_raw(np.array([1, IGNORE_INDEX], np.uint8)).tolist() == [1, 255]


@pytest.mark.parametrize("name", ["avoid", "ignored organ", "unlabelled cyst", "left void", "a"])
def test_other_names_are_classes(name: str) -> None:
    assert LabelSpace.from_raw({0: "background", 1: "b", 2: name}).ignore is None


def test_ignore_label_is_chosen_by_name_or_value_or_switched_off() -> None:
    names = {0: "background", 1: "a", 2: "b", 3: "ignore"}
    by_value = LabelSpace.from_raw(names, "2")
    assert (
        by_value.ignore is not None and by_value.ignore.name == "b" and by_value.names == ("background", "a", "ignore")
    )
    by_name = LabelSpace.from_raw(names, "B ")
    assert by_name.ignore == by_value.ignore
    assert LabelSpace.from_raw(names, "none").names == ("background", "a", "b", "ignore")
    unlisted = LabelSpace.from_raw({0: "background", 1: "a"}, "255")
    assert unlisted.ignore == LabelClass("ignore", IGNORE_COLOUR, 255) and unlisted.names == ("background", "a")
    beside = LabelSpace.from_raw(names, "-1")
    assert beside.ignore is not None and beside.ignore.raw == -1 and beside.ignore.name != "ignore"
    for unknown in ("c", "", "肝"):
        with pytest.raises(
            DatasetError, match=rf"ignore: expected auto, none, a label value, or one of .* got '{unknown}'"
        ):
            LabelSpace.from_raw({**names, 4: "脾"}, unknown)
    numbered = LabelSpace.from_raw({0: "background", 1: "1", 2: "2"}, "-1")
    assert numbered.ignore is not None and numbered.ignore.raw == -1 and len(numbered) == 3


@pytest.mark.parametrize("value", [-1, 255, 4000, -(2**31)])
def test_ignore_label_has_any_value(value: int) -> None:
    labels = LabelSpace.from_raw(sorted({0: "background", 1: "a", value: "ignore"}.items()))
    assert labels.names == ("background", "a") and labels.ignore is not None and labels.ignore.raw == value
    raw = np.array([0, value, 1])
    assert labels.to_index(raw).tolist() == [0, IGNORE_INDEX, 1]
    assert np.array_equal(labels.to_raw(labels.to_index(raw)), raw)


def test_unlabelled_zero_is_ignored_only_beside_a_background() -> None:
    """Sparse annotation: 0 is not annotated, another value is the background."""
    sparse = LabelSpace.from_raw({0: "unlabelled", 1: "kidney", 2: "background"})
    assert sparse.names == ("background", "kidney") and sparse.raw_values == (2, 1)
    assert sparse.ignore is not None and sparse.ignore.raw == 0
    usual = LabelSpace.from_raw({0: "unlabelled", 1: "kidney"})
    assert usual.ignore is None and usual.names == ("unlabelled", "kidney")
    with pytest.raises(DatasetError, match="expected another label than the background, got 0"):
        LabelSpace.from_raw({0: "air", 1: "kidney"}, "0")


def test_several_labels_named_so_are_refused_unless_one_is_named_ignore() -> None:
    with pytest.raises(DatasetError, match="found void and unlabelled; choose with --ignore"):
        LabelSpace.from_raw({0: "background", 1: "a", 2: "void", 3: "unlabelled"})
    labels = LabelSpace.from_raw({0: "background", 1: "a", 2: "void", 3: "ignore"})
    assert labels.ignore is not None and labels.ignore.raw == 3 and labels.names == ("background", "a", "void")


def test_ignore_label_survives_json_and_subsets() -> None:
    labels = LabelSpace.from_raw({0: "background", 1: "a", 2: "b", 255: "ignore"})
    data = json.loads(json.dumps(labels.to_json()))
    assert data[-1] == {"name": "ignore", "colour": IGNORE_COLOUR, "raw": 255, "ignore": True}
    assert LabelSpace.from_json(data) == labels
    assert labels.subset(["b"]).ignore == labels.ignore
    with pytest.raises(DatasetError, match=r"\(ignore is left out, not a class\); got ignore"):
        labels.subset(["ignore"])
    with pytest.raises(DatasetError, match="at most one ignore label"):
        LabelSpace.from_json([*data, {**data[-1], "name": "other", "raw": 9}])


def test_255_classes_and_the_ignore_label() -> None:
    labels = LabelSpace.from_raw([*((n, f"class {n}") for n in range(255)), (1000, "ignore")])
    raw = np.array([*range(255), 1000])
    assert np.array_equal(labels.to_raw(labels.to_index(raw)), raw)
    assert len({c.colour for c in labels.foreground}) == 254


def test_prediction_is_ignored_where_the_truth_is() -> None:
    truth = np.array([0, 1, IGNORE_INDEX, IGNORE_INDEX], np.uint8)
    assert leave_out_ignored(truth, np.array([1, 1, 0, 2])).tolist() == [1, 1, IGNORE_INDEX, IGNORE_INDEX]
    prediction = np.array([1, 0])
    assert leave_out_ignored(np.array([0, 1]), prediction) is prediction


# --- colours of the data set ------------------------------------------------------------------------------------------


def test_stated_colours_are_kept_and_given_to_no_other_class() -> None:
    labels = LabelSpace.from_raw({0: "background", 1: "a", 2: "b", 3: "GM"}, colours={1: "#112233", 3: PALETTE[0]})
    assert [c.colour for c in labels.foreground] == ["#112233", PALETTE[1], PALETTE[0]]


def test_freesurfer_structures_have_its_colours() -> None:
    labels = LabelSpace.from_raw({0: "Unknown", 17: "Left-Hippocampus", 16: "Brain-Stem", 2035: "ctx-rh-insula"})
    assert [c.colour for c in labels.foreground] == ["#dcd814", "#779fb0", "#ffc020"]
    assert labels.to_index(np.array([2035, 17])).tolist() == [3, 1]
