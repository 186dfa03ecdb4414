"""Label spaces: conversion between raw values and indices, colours, validation, JSON."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pytest

from core.errors import DatasetError
from core.labels import BACKGROUND_COLOUR, PALETTE, TISSUE_COLOURS, LabelClass, LabelSpace

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


def test_other_classes_cycle_through_the_palette() -> None:
    colours = [c.colour for c in space(*range(24)).foreground]
    assert colours == [*PALETTE, *PALETTE, *PALETTE[:3]]
    assert len({BACKGROUND_COLOUR, *PALETTE}) == len(PALETTE) + 1


def test_subset_keeps_the_background_and_the_order() -> None:
    part = ISEG.subset(["WM", "CSF"])
    assert part.names == ("background", "CSF", "WM")
    assert part.raw_values == (0, 10, 250)
    assert part.classes[2] == ISEG.classes[3]
    assert ISEG.subset(ISEG.names[1:]) == ISEG
    for names in (["GM", "skull"], ["background"]):
        with pytest.raises(
            DatasetError, match=rf"expected classes out of \['CSF', 'GM', 'WM'\], got \['{names[-1]}'\]"
        ):
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
