"""Regions: the label map that nnU-Net makes of them, their order where none is stated, mirror images."""

from __future__ import annotations

import numpy as np
import pytest

from core.errors import ConfigError, DatasetError
from core.regions import Region, RegionSpace, region_space

CLASSES = ("background", "necrosis", "oedema", "enhancing")
BRATS = {
    "whole tumour": ("necrosis", "oedema", "enhancing"),
    "tumour core": ("necrosis", "enhancing"),
    "enhancing": ("enhancing",),
}


def brats() -> RegionSpace:
    found = region_space(BRATS, {}, CLASSES)
    assert found is not None
    return found


def test_nested_regions_are_painted_from_the_largest_with_the_class_of_their_own() -> None:
    assert [(r.name, r.painted) for r in brats().regions] == [
        ("whole tumour", "oedema"), ("tumour core", "necrosis"), ("enhancing", "enhancing"),
    ]  # fmt: skip
    reordered = region_space(dict(reversed(BRATS.items())), {}, CLASSES)
    assert reordered == brats()
    assert brats().members == ((1, 2, 3), (1, 3), (3,)) and brats().painted == (2, 1, 3)


def test_label_map_is_that_of_the_rule_of_nnunet() -> None:
    """``for i, c in enumerate(regions_class_order): segmentation[probabilities[i] > 0.5] = c``, by hand."""
    #                              none  WT   WT TC  all   ET alone  TC alone  exactly one half
    probabilities = np.array([
        [0.2, 0.9, 0.9, 0.9, 0.1, 0.1, 0.5],
        [0.2, 0.1, 0.8, 0.8, 0.1, 0.6, 0.5],
        [0.2, 0.1, 0.1, 0.7, 0.7, 0.2, 0.5],
    ], np.float32)[:, :, None, None]  # fmt: skip
    assert brats().to_labels(probabilities).ravel().tolist() == [0, 2, 1, 3, 3, 1, 0]


def test_stated_order_counts_even_where_it_paints_over() -> None:
    order = {"enhancing": "enhancing", "tumour core": "necrosis", "whole tumour": "oedema"}
    inner_first = region_space(dict(reversed(BRATS.items())), order, CLASSES)
    assert inner_first is not None and inner_first.painted == (3, 1, 2)
    everywhere = np.ones((3, 1, 1, 1), np.float32)
    assert inner_first.to_labels(everywhere).item() == 2, "the last region wins, whatever its size"
    assert inner_first.lost_classes == ("necrosis", "enhancing") and brats().lost_classes == ()


def test_perfect_regions_give_the_label_map_back() -> None:
    labels = np.random.default_rng(0).integers(0, 4, (5, 6, 7)).astype(np.uint8)
    inside = np.stack([np.isin(labels, members) for members in brats().members])
    assert np.array_equal(brats().to_labels(inside.astype(np.float32)), labels)


def test_class_in_no_region_becomes_one_and_left_out_classes_take_their_regions_along() -> None:
    with_cavity = region_space(BRATS, {}, (*CLASSES, "cavity"))
    assert with_cavity is not None and with_cavity.names == ("whole tumour", "tumour core", "enhancing", "cavity")
    assert with_cavity.regions[-1] == Region("cavity", ("cavity",), "cavity")
    fewer = region_space(BRATS, {}, ("background", "necrosis", "enhancing"))
    assert fewer is not None and fewer.names == ("tumour core", "enhancing")
    assert region_space({}, {}, CLASSES) is None


def test_order_that_does_not_follow_is_left_open() -> None:
    """Of two classes that only one region holds, none is the region's own."""
    found = region_space({"whole tumour": BRATS["whole tumour"]}, {}, CLASSES)
    assert found is not None and found.painted == () and found.unions is not None


def test_region_that_is_named_as_another_class_is_refused() -> None:
    with pytest.raises(DatasetError, match="another name than that of a class for the union of oedema, enhancing"):
        region_space({"enhancing": ("oedema", "enhancing")}, {}, CLASSES)
    with pytest.raises(DatasetError, match="expected classes out of necrosis"):
        RegionSpace((Region("a", ("background",)),), CLASSES)


def test_regions_survive_the_way_through_a_checkpoint() -> None:
    assert RegionSpace.from_json(brats().to_json(), CLASSES) == brats()
    for damaged in ({"name": "a"}, 3):
        with pytest.raises(DatasetError, match="regions: expected a list"):
            RegionSpace.from_json([damaged], CLASSES)  # type: ignore[list-item]


def test_mirroring_exchanges_regions_of_exchanged_classes() -> None:
    classes = ("background", "left", "right", "left tumour", "right tumour")
    both = {
        "left all": ("left", "left tumour"), "right all": ("right", "right tumour"),
        "left tumour": ("left tumour",), "right tumour": ("right tumour",),
    }  # fmt: skip
    found = region_space(both, {}, classes)
    assert found is not None and found.swapped_channels(((1, 2), (3, 4))) == ((0, 1), (2, 3))
    assert found.swapped_channels(()) == ()
    del both["right all"]
    lopsided = region_space(both, {}, classes)
    assert lopsided is not None
    with pytest.raises(ConfigError, match="mirror image of each region to be a region, got none for left all"):
        lopsided.swapped_channels(((1, 2), (3, 4)))
