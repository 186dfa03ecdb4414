"""Regions of a description: they keep their voxels where classes are renamed, merged or left out."""

from __future__ import annotations

from typing import Any

import pytest

from core.datasets.described_regions import (
    check_regions,
    follow_classes,
    parse_region_rows,
    parse_regions,
    region_rows,
)
from core.datasets.layouts.known_sets import known_sets
from core.errors import DatasetError

KITS = dict(known_sets()["kits"].content)
CLASSES = KITS["classes"]
ALL = {"kidney and masses": ["kidney", "tumour", "cyst"], "masses": ["tumour", "cyst"], "tumour": ["tumour"]}


def regions(after: dict[str, Any], **content: Any) -> Any:
    return follow_classes({**KITS, **content}, CLASSES, after).changes["regions"]


def test_the_regions_of_the_known_set_are_those_that_are_tested() -> None:
    assert KITS["regions"] == ALL


def test_regions_follow_a_renamed_class_and_one_that_is_that_class_is_renamed_with_it() -> None:
    assert regions({"kidney": 1, "lesion": 2, "cyst": 3}) == {
        "kidney and masses": ["kidney", "lesion", "cyst"],
        "masses": ["lesion", "cyst"],
        "lesion": ["lesion"],
    }


@pytest.mark.parametrize("after", [{"mass": 1, "oedema": 2}, {"mass": 1, "core": 2}], ids=["one", "a chain"])
def test_a_region_is_not_renamed_to_the_name_of_another_one(after: dict[str, Any]) -> None:
    regions = {"core": ["core"], "oedema": ["oedema"], "mass": ["core", "oedema"]}
    found = follow_classes({"regions": regions}, {"core": 1, "oedema": 2}, after)
    of_core, of_oedema = list(after)
    expected = {"core": [of_core], "oedema": [of_oedema], "mass": [of_core, of_oedema]}
    assert found.changes["regions"] == expected and found.lost == ()
    with pytest.raises(DatasetError, match="rename the region"):
        check_regions(expected, [], after)


def test_a_region_that_is_not_made_of_whole_classes_is_lost() -> None:
    found = follow_classes(KITS, CLASSES, {"kidney": 1, "mass": [2, 3]})
    assert found.changes["regions"] == {"kidney and masses": ["kidney", "mass"], "masses": ["mass"]}
    assert found.lost == ("tumour",), "its voxels are only some of the new class"
    found = follow_classes(KITS, CLASSES, {"all": [1, 2, 3]})
    assert found.changes["regions"] == {"kidney and masses": ["all"]} and found.lost == ("masses", "tumour")


@pytest.mark.parametrize(
    "after",
    [
        {"kidney": 1, "tumour": 2},
        {"background": [0, 3], "kidney": 1, "tumour": 2},
        {"kidney": 1, "tumour": 2, "ignore": 3},
    ],
    ids=["no class", "background", "ignored"],
)
def test_values_of_no_class_leave_the_regions(after: dict[str, Any]) -> None:
    assert regions(after) == {"kidney and masses": ["kidney", "tumour"], "masses": ["tumour"], "tumour": ["tumour"]}


def test_a_class_that_is_divided_is_both_parts() -> None:
    content = {"regions": {"organs": ["kidneys", "liver"]}}
    found = follow_classes(content, {"kidneys": [1, 2], "liver": 3}, {"left": 1, "right": 2, "liver": 3})
    assert found.changes["regions"] == {"organs": ["left", "right", "liver"]}


def test_painted_classes_and_the_ignored_class_follow_too() -> None:
    content = {"regions": ALL, "regions_class_order": ["kidney", "cyst", "tumour"], "ignore": "other"}
    before = {**CLASSES, "other": 9}
    found = follow_classes(content, before, {"Niere": 1, "tumour": 2, "Zyste": 3, "unklar": 9}).changes
    assert found["regions_class_order"] == ["Niere", "Zyste", "tumour"] and found["ignore"] == "unklar"
    found = follow_classes(content, before, {"Niere": 1, "tumour": 2}).changes
    assert found["regions_class_order"] is None and found["ignore"] is None
    assert follow_classes({"regions": {}}, CLASSES, {"x": 1}).changes == {}


def test_masks_are_followed_by_their_texts() -> None:
    content = {"regions": {"kidneys": ["left", "right"]}}
    found = follow_classes(
        content, {"left": "kidney_left", "right": "kidney_right"}, {"L": "kidney_left", "R": "kidney_right"}
    )
    assert found.changes["regions"] == {"kidneys": ["L", "R"]}


def test_regions_of_texts_and_rows() -> None:
    stated = parse_regions(["whole = core, oedema", "core=core"])
    assert stated == {"whole": ["core", "oedema"], "core": ["core"]} and parse_regions(["none"]) is None
    classes = {"core": 1, "oedema": 2}
    content = {"regions": stated, "regions_class_order": ["oedema", "core"]}
    assert parse_region_rows(region_rows(content), classes) == content
    assert parse_region_rows([{"name": "", "classes": "", "painted": None}], classes) == {}


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([("whole", "core, edema", "")], "expected classes out of core, oedema in 'whole', got edema"),
        ([("oedema", "core, oedema", "")], "expected another name than that of a class"),
        ([("a", "core", ""), ("a", "oedema", "")], "each name once"),
        ([("a", "core", "core"), ("b", "oedema", "")], "painted class of every region or of none"),
        ([("a", "core,,", "")], "expected NAME=CLASS,CLASS"),
        ([("a", "background", "")], "expected classes out of core, oedema"),
    ],
)
def test_rows_that_are_no_regions_are_refused(rows: list[tuple[str, str, str]], problem: str) -> None:
    keys = ("name", "classes", "painted")
    with pytest.raises(DatasetError, match=problem):
        parse_region_rows([dict(zip(keys, row, strict=True)) for row in rows], {"core": 1, "oedema": 2})


def test_an_order_that_is_blank_is_none() -> None:
    rows = region_rows({"regions": {"a": ["x"], "b": ["y"]}, "regions_class_order": " "})
    assert [row["painted"] for row in rows] == ["", ""]


def test_the_ignored_class_is_in_no_region() -> None:
    check_regions({"a": ["x"]}, [], {"x": 1, "y": 2})
    with pytest.raises(DatasetError, match="got y"):
        check_regions({"a": ["x", "y"]}, [], {"x": 1, "y": 2}, ignore="y")
