"""Splits: disjoint roles, complete folds, independence of the order of ids."""

from __future__ import annotations

from typing import Any

import pytest

from core.config import SplitConfig
from core.config_data import NO_FOLD
from core.datasets.layouts.base import natural_key
from core.datasets.splits import adapted_folds, number_of_folds, number_of_units, split_subjects
from core.errors import DatasetError

IDS = [f"subject-{n}" for n in range(1, 12)]


@pytest.mark.parametrize("folds", [2, 3, 5, 11, 0])
@pytest.mark.parametrize("shuffle", [True, False])
def test_every_subject_validates_in_exactly_one_fold(folds: int, shuffle: bool) -> None:
    splits = [
        split_subjects(IDS, SplitConfig(folds=folds, fold=f, shuffle_subjects=shuffle))
        for f in range(folds or len(IDS))
    ]
    assert sorted(id for s in splits for id in s.val) == sorted(IDS)
    sizes = {len(s.val) for s in splits}
    assert max(sizes) - min(sizes) <= 1
    for s in splits:
        assert sorted((*s.train, *s.val)) == sorted(IDS) and s.test == ()
        assert list(s.train) == [id for id in IDS if id in s.train]  # natural order


def test_unshuffled_leave_one_out_starts_with_the_first_subject() -> None:
    split = split_subjects(reversed(IDS), SplitConfig(folds=0, fold=0, shuffle_subjects=False))
    assert split.val == ("subject-1",) and split.train == tuple(IDS[1:])


def test_split_depends_on_the_seed_and_not_on_the_order_of_ids() -> None:
    first = split_subjects(IDS, SplitConfig())
    assert split_subjects(sorted(IDS, reverse=True), SplitConfig()) == first
    others = {split_subjects(IDS, SplitConfig(split_seed=seed)).val for seed in range(10)}
    assert len(others) > 3


def test_explicit_subjects_have_their_roles() -> None:
    config = SplitConfig(val_subjects=("subject-10", "subject-2"), test_subjects=("subject-3",))
    split = split_subjects(IDS, config)
    assert split.val == ("subject-2", "subject-10") and split.test == ("subject-3",)
    assert len(split.train) == 8
    folds = [split_subjects(IDS, SplitConfig(folds=2, fold=f, test_subjects=("subject-3",))) for f in (0, 1)]
    assert all("subject-3" not in (*s.train, *s.val) and s.test == ("subject-3",) for s in folds)


def test_only_the_first_subjects_are_used() -> None:
    ids = sorted(IDS, key=natural_key)
    config = SplitConfig(subjects=3)
    held_out = [split_subjects(reversed(IDS), SplitConfig(subjects=3, fold=fold)) for fold in range(3)]
    assert sorted(id for split in held_out for id in split.val) == sorted(ids[:3])
    assert all(len(split.train) == 2 and {*split.train, *split.val} == set(ids[:3]) for split in held_out)
    assert number_of_folds(len(IDS), config) == 3 and adapted_folds(held_out[0], config) == 3
    without = split_subjects(IDS, SplitConfig(subjects=3, test_subjects=(ids[0],)))
    assert {*without.train, *without.val} == set(ids[1:4]) and without.test == (ids[0],)
    listed = split_subjects(IDS, SplitConfig(subjects=3, val_subjects=(ids[-1],)))
    assert (listed.train, listed.val) == (tuple(ids[:2]), (ids[-1],))
    assert split_subjects(IDS, SplitConfig(subjects=100)) == split_subjects(IDS, SplitConfig())
    assert split_subjects(IDS, SplitConfig(subjects=4, fold=NO_FOLD)).train == tuple(ids[:4])


@pytest.mark.parametrize("subjects", [2, 3, 4])
def test_default_folds_adapt_to_few_subjects(subjects: int) -> None:
    ids = IDS[:subjects]
    held_out = [split_subjects(ids, SplitConfig(fold=fold)).val for fold in range(subjects)]
    assert sorted(id for val in held_out for id in val) == sorted(ids)
    with pytest.raises(DatasetError, match=f"fold: expected 0 to {subjects - 1}, as {subjects} subjects make"):
        split_subjects(ids, SplitConfig(fold=subjects))
    with pytest.raises(DatasetError, match=f"folds: expected at most {subjects}"):
        split_subjects(ids, SplitConfig(folds=6))


@pytest.mark.parametrize(
    ("ids", "config", "match"),
    [
        (IDS, dict(val_subjects=("subject-99",)), "val_subjects: expected ids out of .*; got subject-99"),
        (IDS, dict(test_subjects=("unknown",)), "test_subjects"),
        (IDS, dict(folds=12), "folds: expected at most 11, the number of subjects; got 12"),
        (IDS, dict(folds=0, fold=11), "fold: expected 0 to 10"),
        (IDS[:1], dict(folds=0), "at least 2 subjects"),
        ([], {}, "at least 2 subjects"),
        (IDS[:2], dict(val_subjects=tuple(IDS[:2])), "subjects to train on, got none"),
        (IDS[:2], dict(test_subjects=tuple(IDS[:2])), "at least 2 subjects"),
    ],
)
def test_impossible_splits_are_refused(ids: list[str], config: dict, match: str) -> None:
    with pytest.raises(DatasetError, match=match):
        split_subjects(ids, SplitConfig(**config))


def test_no_fold_trains_on_every_subject_but_the_test_subjects() -> None:
    for folds in (0, 5, 1000):
        config = SplitConfig(folds=folds, fold=NO_FOLD, test_subjects=("subject-3",))
        split = split_subjects(IDS, config)
        assert split.val == () and split.test == ("subject-3",)
        assert split.train == tuple(id for id in sorted(IDS, key=natural_key) if id != "subject-3")
        assert adapted_folds(split, config) == 0
    assert split_subjects(["only"], SplitConfig(fold=NO_FOLD)).train == ("only",)
    with pytest.raises(DatasetError, match="subjects to train on"):
        split_subjects(["only"], SplitConfig(fold=NO_FOLD, test_subjects=("only",)))


SESSIONS = {
    f"{case}_{s}": {"case": case, "session": f"0{s}"} for case in "abcdefg" for s in range(1, 2 + "cfg".find(case) % 4)
}


@pytest.mark.parametrize("shuffle", [True, False])
def test_subjects_of_a_person_lie_on_one_side_and_folds_stay_balanced(shuffle: bool) -> None:
    splits = [split_subjects(SESSIONS, SplitConfig(folds=3, fold=f, shuffle_subjects=shuffle)) for f in range(3)]
    assert sorted(id for s in splits for id in s.val) == sorted(SESSIONS), "each in exactly one fold"
    for split in splits:
        cases = [{SESSIONS[id]["case"] for id in ids} for ids in (split.train, split.val)]
        assert not cases[0] & cases[1]
    largest = max(sum(e["case"] == case for e in SESSIONS.values()) for case in "abcdefg")
    sizes = [len(s.val) for s in splits]
    assert max(sizes) - min(sizes) <= largest and len(SESSIONS) > 7


def test_without_shared_persons_folds_are_those_of_ids_alone() -> None:
    alone = {id: {"case": id} for id in IDS}
    for fold in range(5):
        assert split_subjects(alone, SplitConfig(fold=fold)) == split_subjects(IDS, SplitConfig(fold=fold))
    assert not split_subjects(SESSIONS, SplitConfig(group_by="none")).groups


def test_any_part_of_the_names_makes_groups() -> None:
    entities = {f"{site}-{n}": {"case": str(n), "site": site} for site in ("x", "y", "z") for n in (1, 2)}
    assert not split_subjects(entities, SplitConfig()).groups, "case 1 of each site is another person"
    held_out = [split_subjects(entities, SplitConfig(group_by="site", folds=3, fold=f)).val for f in range(3)]
    assert sorted(held_out) == [("x-1", "x-2"), ("y-1", "y-2"), ("z-1", "z-2")]
    assert number_of_units(entities, SplitConfig(group_by="site")) == 3
    assert number_of_units(entities, SplitConfig()) == 6 and number_of_units(IDS, SplitConfig()) == len(IDS)
    split = split_subjects(entities, SplitConfig(group_by="site"))
    assert adapted_folds(split, SplitConfig(group_by="site")) == 3


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"group_by": "hospital"},
            "group_by: expected auto, none, person, case, session.*; got 'hospital'",
        ),
        ({"group_by": "person", "val_subjects": ("b_1",)}, "expected all subjects of b on one side, got b_1 in val_s"),
        ({"group_by": "person", "folds": 9}, "folds: expected at most 7, the number of groups, of"),
        ({"group_by": "session", "test_subjects": tuple(SESSIONS)[1:]}, "expected all subjects of 01|at least 2 sub"),
    ],
)
def test_groups_that_cannot_be_kept_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        split_subjects(SESSIONS, SplitConfig(**config))


def test_a_single_person_cannot_be_split_and_the_remedy_is_named() -> None:
    with pytest.raises(
        DatasetError, match=r"at least 2 groups, .* got 1 of 2 subjects; choose another --group-by, or none"
    ):
        split_subjects({"a_1": {"case": "a"}, "a_2": {"case": "A"}}, SplitConfig())
