"""What mirroring does with classes that have a side: swapped pairs, and no mirroring where that would be wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from core.class_positions import ClassPositions, measure_positions
from core.config import AugmentConfig, TrainConfig
from core.errors import ConfigError
from core.laterality import (
    Laterality,
    Mirroring,
    check_pairs,
    describe_reversed,
    find_sides,
    format_pairs,
    resolve_mirroring,
    stored_mirroring,
)
from tests.support.kidneys import NAMES, boxes

SHAPE = (30, 20, 20)
SIDE_BY_SIDE = (6, 10, 10), (23, 10, 10)
OBLIQUE = (8, 4, 10), (20, 16, 10)  # as the atria of the heart


def positions(*centres: tuple[int, int, int], count: int = 4, names: int = 0) -> list[ClassPositions]:
    label = boxes(SHAPE, *centres)
    classes = names or 1 + len(centres)
    return [measure_positions(f"s{n}", label, classes, (1.0, 1.0, 1.0)) for n in range(count)]


def decide(names: tuple[str, ...], measured: list[ClassPositions], **values: Any) -> Mirroring:
    unoriented = values.pop("unoriented", ())
    augment = AugmentConfig(**values)
    return resolve_mirroring(augment, find_sides(names, names, measured, augment.stated_pairs), unoriented)


def test_a_pair_that_lies_as_mirror_images_is_swapped() -> None:
    found = decide(NAMES, positions(*SIDE_BY_SIDE))
    assert (found.lateral, found.pairs) == ("swap", (("left kidney", "right kidney"),))
    assert "left kidney / right kidney" in found.reason
    assert decide(NAMES, []).lateral == "swap", "names alone, before label maps are read"


def test_classes_without_a_side_are_mirrored_as_ever() -> None:
    assert decide(("background", "CSF", "GM", "WM"), positions((6, 10, 10), (15, 10, 10), (10, 15, 10))) == Mirroring(
        "ignore"
    )
    assert decide(("background", "copyright", "lateral ventricle"), positions(*OBLIQUE)) == Mirroring("ignore")


def test_a_lone_side_turns_mirroring_off() -> None:
    found = decide(("background", "left kidney", "liver"), positions(*OBLIQUE))
    assert found.lateral == "off" and "left kidney has a side" in found.reason
    assert found.values() == {"lateral": "off", "lateral_pairs": (), "flip": 0.0, "mirror": False}


@pytest.mark.parametrize("partner", ["right kidney", "kidney R"])
def test_a_partner_that_is_not_trained_leaves_a_lone_side(partner: str) -> None:
    all_classes = ("background", "liver", partner, "kidney L")
    sides = find_sides(("background", "liver", "kidney L"), all_classes, positions(*OBLIQUE))
    assert sides.lone == ("kidney L",) and resolve_mirroring(AugmentConfig(), sides).lateral == "off"
    sides = find_sides(("background", "liver"), all_classes, positions((8, 10, 10)))
    assert sides == Laterality()


def test_left_and_right_that_are_no_mirror_images_turn_mirroring_off() -> None:
    found = decide(("background", "left atrium", "right atrium"), positions(*OBLIQUE))
    assert found.lateral == "off" and "left atrium / right atrium do not lie as mirror images" in found.reason


def test_chambers_of_the_heart_need_the_same_shape_on_both_sides() -> None:
    """Ventricles of the brain are mirror images; those of the heart lie side by side in some views."""
    alike = positions(*SIDE_BY_SIDE)
    longer = [_with_class_2_longer(p) for p in alike]
    names = ("background", "left ventricle", "right ventricle")
    assert decide(names, alike).lateral == "swap" and decide(names, longer).lateral == "off"
    assert decide(("background", "left lateral ventricle", "right lateral ventricle"), longer).lateral == "swap"
    assert decide(NAMES, longer).lateral == "swap"
    assert decide(("background", "LV", "RV"), alike).lateral == "swap"
    assert decide(("background", "LV", "RV"), longer) == Mirroring("ignore")


def _with_class_2_longer(measured: ClassPositions) -> ClassPositions:
    return replace(measured, extent_mm=measured.extent_mm * np.array([[1], [1], [1.35]]))


def test_pairs_that_are_never_together_are_taken_by_name() -> None:
    assert decide(NAMES, positions((6, 10, 10), names=3)).lateral == "swap"


def test_sides_inside_of_words_count_where_positions_confirm_them() -> None:
    names = ("background", "L1", "R1")
    assert decide(names, positions(*SIDE_BY_SIDE)).pairs == (("L1", "R1"),)
    assert decide(names, positions(*OBLIQUE)) == Mirroring("ignore"), "a vertebra and a rib"
    assert decide(names, []) == Mirroring("ignore")
    exchanged = [*positions(*SIDE_BY_SIDE), *positions(*SIDE_BY_SIDE[::-1])]
    assert decide(names, exchanged).lateral == "ignore"


def test_a_lone_letter_counts_where_the_class_lies_on_that_side() -> None:
    names = ("background", "kidney L")
    assert decide(names, positions((5, 10, 10))).lateral == "off"
    assert decide(names, positions((15, 10, 10))) == Mirroring("ignore")
    assert decide(("background", "R wave"), positions((5, 10, 10))) == Mirroring("ignore")


def test_suspected_mirror_images_turn_mirroring_off_and_are_named() -> None:
    found = decide(("background", "kidney 1", "kidney 2"), positions(*SIDE_BY_SIDE))
    assert found.lateral == "off" and "kidney 1 / kidney 2" in found.reason and "--lateral swap" in found.fix
    swapped = decide(("background", "kidney 1", "kidney 2"), positions(*SIDE_BY_SIDE), lateral="swap")
    assert (swapped.lateral, swapped.pairs) == ("swap", (("kidney 1", "kidney 2"),))


@pytest.mark.parametrize(
    "names",
    [NAMES, ("background", "left kidney", "liver"), ("background", "left atrium", "right atrium")],
)
def test_unknown_orientation_turns_mirroring_off_for_classes_with_a_side(names: tuple[str, ...]) -> None:
    found = decide(names, positions(*SIDE_BY_SIDE), unoriented=("s1",))
    assert found.lateral == "off" and "s1 states no orientation" in found.reason
    assert decide(("background", "GM", "WM"), positions(*OBLIQUE), unoriented=("s1",)) == Mirroring("ignore")


def test_requests_are_obeyed() -> None:
    heart = ("background", "left atrium", "right atrium")
    assert decide(heart, positions(*OBLIQUE), lateral="swap").pairs == (("left atrium", "right atrium"),)
    assert decide(heart, positions(*OBLIQUE), lateral="off").values()["flip"] == 0
    ignored = decide(NAMES, positions(*SIDE_BY_SIDE), lateral="ignore")
    assert ignored.lateral == "ignore" and ignored.pairs == () and "not swapped" in ignored.reason
    assert decide(("background", "GM"), positions((8, 10, 10)), lateral="swap").lateral == "ignore"


def test_stated_pairs_are_not_examined() -> None:
    names = ("background", "a", "b", "left lung", "right lung")
    measured = positions(*OBLIQUE, (4, 15, 10), (25, 15, 10))
    found = decide(names, measured, lateral_pairs=("a", "b"))
    assert found.pairs == (("a", "b"), ("left lung", "right lung"))
    assert decide(names, measured, lateral="swap", lateral_pairs=("a", "b")).pairs == (("a", "b"),)


def test_a_decision_is_kept_in_the_configuration() -> None:
    config = TrainConfig().with_values({"classes": ("left kidney", "liver", "right kidney")})
    decided = decide(("background", *config.data.classes), positions((6, 10, 10), (15, 4, 10), (23, 10, 10)))
    resolved = config.with_values(decided.values())
    assert resolved.swapped_classes == ((1, 3),)
    assert stored_mirroring(resolved.augment) == decided
    assert TrainConfig.from_json(resolved.to_json()) == resolved


def test_checkpoints_without_a_decision_are_mirrored_as_ever() -> None:
    old = TrainConfig().to_json()
    del old["augment"]["lateral"], old["augment"]["lateral_pairs"]
    config = TrainConfig.from_json(old)
    assert config.swapped_classes == () and stored_mirroring(config.augment) == Mirroring("ignore")
    off = AugmentConfig(lateral="off", flip=0.0)
    assert stored_mirroring(off).values()["flip"] == 0


def test_invalid_pairs_are_refused() -> None:
    with pytest.raises(ConfigError, match="lateral_pairs: expected an even number of classes"):
        AugmentConfig(lateral_pairs=("a",))
    with pytest.raises(ConfigError, match="lateral_pairs: expected every class once, got a more than once"):
        check_pairs(AugmentConfig(lateral_pairs=("a", "b", "a", "c")), ("background", "a", "b", "c"))
    with pytest.raises(ConfigError, match=r"lateral_pairs: expected classes out of a, b; got c"):
        check_pairs(AugmentConfig(lateral_pairs=("a", "c")), ("background", "a", "b"))
    with pytest.raises(ConfigError, match="got c"):
        _ = (
            TrainConfig()
            .with_values({"lateral": "swap", "lateral_pairs": ("a", "c"), "classes": ("a",)})
            .swapped_classes
        )


def test_exchanged_sides_are_described() -> None:
    measured = [*positions(*SIDE_BY_SIDE, count=2), *positions(*SIDE_BY_SIDE[::-1], count=1)]
    sides = find_sides(NAMES, NAMES, measured)
    assert sides.pairs
    assert describe_reversed(sides, NAMES, measured) == (
        "left kidney lies to the right of right kidney in 1 of 3 subjects: s0",
    )
    assert describe_reversed(sides, NAMES, measured[:2]) == ()


def test_long_lists_of_pairs_are_shortened() -> None:
    assert format_pairs([(f"L{n}", f"R{n}") for n in range(6)], 2) == "L0 / R0, L1 / R1 and 4 more"
