"""Sides in class names: pairs in several languages and spellings, and names that only look lateral."""

from __future__ import annotations

import pytest

from core.side_names import read_side, read_sides, split_words

PAIRS = [
    ("left kidney", "right kidney"),
    ("Kidney (left)", "Kidney (right)"),
    ("kidney_left", "right_kidney"),
    ("Left-Putamen", "Right-Putamen"),
    ("ctx-lh-superiorfrontal", "ctx-rh-superiorfrontal"),
    ("lh.hippocampus", "rh.hippocampus"),
    ("LH_Vis_1", "RH_Vis_1"),
    ("Left-Lateral-Ventricle", "Right-Lateral-Ventricle"),
    ("hippocampus_L", "hippocampus_R"),
    ("hippocampus.L", "hippocampus.R"),
    ("L kidney", "R kidney"),
    ("l_femur", "r_femur"),
    ("Lung Lt", "Lung Rt"),
    ("leftKidney", "rightKidney"),
    ("KidneyLeft", "KidneyRight"),
    ("LHippocampus", "RHippocampus"),
    ("LEFT LUNG", "right lung"),
    ("ren sinister", "ren dexter"),
    ("arteria carotis sinistra", "arteria carotis dextra"),
    ("rene sin", "rene dx"),
    ("rene sinistro", "rene destro"),
    ("Niere links", "Niere rechts"),
    ("linke Niere", "rechte Niere"),
    ("rein gauche", "rein droit"),
    ("oreille gauche", "oreille droite"),
    ("hémisphère gauche", "Hémisphère droit"),
    ("riñón izquierdo", "riñón derecho"),
    ("左肾", "右肾"),
    ("left", "right"),
    ("L", "R"),
]


@pytest.mark.parametrize(("left", "right"), PAIRS)
def test_left_and_right_of_one_structure_are_a_pair(left: str, right: str) -> None:
    for names in (("background", left, "liver", right), ("background", "liver", right, left)):
        found = read_sides(names)
        assert found.pairs == ((names.index(left), names.index(right)),)
        assert not (found.lone or found.possible_pairs or found.possible_lone)


@pytest.mark.parametrize(
    "name",
    [
        "copyright", "bright lesion", "upright", "lateral ventricle", "Lateral-Ventricle", "3rd-Ventricle", "liver",
        "lung", "cleft", "dextrocardia", "white matter", "ring", "L1 vertebra", "vertebra L5", "left-right shunt",
        "sinus",
    ],
)  # fmt: skip
def test_names_that_only_look_lateral_have_no_side_for_certain(name: str) -> None:
    assert all(reading.certainty == "glued" for reading in read_side(name))
    found = read_sides(("background", name))
    assert not (found.pairs or found.lone or found.possible_lone or found.possible_pairs)


def test_a_word_without_partner_is_lone_and_a_letter_only_possibly() -> None:
    names = ("background", "left kidney", "R wave", "liver", "left atrium", "right lung")
    found = read_sides(names)
    assert found.lone == (1, 4, 5) and found.possible_lone == ((2, "right"),) and not found.pairs


def test_sides_inside_of_words_are_possible_pairs() -> None:
    names = ("background", "L1", "R1", "lkidney", "rkidney", "leftlung", "rightlung", "lobe", "liver")
    assert read_sides(names).possible_pairs == ((1, 2), (3, 4), (5, 6))
    assert read_sides(names).pairs == ()


def test_other_words_of_a_pair_are_the_same() -> None:
    assert not read_sides(("background", "left kidney", "right lung")).pairs
    assert not read_sides(("background", "left upper lobe", "right lower lobe")).pairs
    assert read_sides(("background", "left rib 1", "right rib 2", "right rib 1", "left rib 2")).pairs == (
        (1, 3),
        (4, 2),
    )


def test_a_side_that_two_classes_share_pairs_none() -> None:
    found = read_sides(("background", "left kidney", "kidney, left", "right kidney"))
    assert not found.pairs and found.lone == (1, 2, 3)


def test_the_background_has_no_side() -> None:
    assert read_sides(("left", "right")).lone == (1,)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ctx-lh-G_front", ["ctx", "lh", "g", "front"]),
        ("LHippocampus", ["l", "hippocampus"]),
        ("kidneyLeft2", ["kidney", "left2"]),
        ("Noyau caudé droit", ["noyau", "caude", "droit"]),
        ("左肾", ["左", "肾"]),
        ("", []),
    ],
)
def test_words_are_split_at_separators_and_capitals(name: str, words: list[str]) -> None:
    assert split_words(name) == words
