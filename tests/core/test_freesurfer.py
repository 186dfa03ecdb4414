"""FreeSurfer's colours: which classes have them."""

from __future__ import annotations

from core.freesurfer import freesurfer_colours


def test_colours_are_those_of_its_table() -> None:
    classes = [
        (2, "Left-Cerebral-White-Matter"),
        (41, "Right-Cerebral-White-Matter"),
        (24, "CSF"),
        (255, "CC_Anterior"),
    ]
    assert freesurfer_colours(classes) == {2: "#f5f5f5", 41: "#f5f5f5", 24: "#3c3c3c", 255: "#0000ff"}
    cortex = [(1001, "ctx-lh-bankssts"), (2035, "ctx-rh-insula"), (1028, "ctx-lh-superiorfrontal")]
    assert freesurfer_colours(cortex) == {1001: "#196428", 2035: "#ffc020", 1028: "#14dca0"}


def test_renumbered_structures_are_recognised_by_names_with_a_side() -> None:
    assert freesurfer_colours([(1, "Left-Putamen"), (2, "Brain-Stem"), (3, "lesion of mine")]) == {
        1: "#ec0db0",
        2: "#779fb0",
    }


def test_name_with_its_value_is_recognised_in_any_spelling() -> None:
    assert freesurfer_colours([(16, "brain stem"), (17, "left hippocampus")]) == {16: "#779fb0", 17: "#dcd814"}


def test_other_data_sets_are_not_freesurfers() -> None:
    assert freesurfer_colours([(10, "CSF"), (150, "GM"), (250, "WM")]) == {}
    assert freesurfer_colours([(1, "left hippocampus"), (2, "right hippocampus")]) == {}, "they would look the same"
    assert freesurfer_colours([(1, "lesion"), (2, "vessel")]) == {}
