"""Folders as people have them: every proposal groups the files of each subject, and never those of two."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from pathlib import Path

import pytest

from core.datasets import open_dataset
from core.datasets.layouts.assignment import Assignment, assign
from core.datasets.layouts.listing import Listing, list_folder
from core.datasets.layouts.name_words import is_session
from core.datasets.layouts.proposal import propose
from core.datasets.layouts.set_description import parse_description
from core.errors import DatasetError
from tests.support.known_folders import EXAMPLES
from tests.support.random_folders import random_folder

Files = Iterable[tuple[Hashable, str]]  # subject and file
MODALITIES = ("T1", "T2", "seg")
INITIALS = ("FA", "JD", "KL", "MR", "PQ", "RS", "MD", "XY")
CODES = ("a3fb0", "9cfa2", "77b0e", "fa001", "0b0b0", "md5aa", "e1t1c", "12345", "b0b0b", "fafa1", "abc12", "def34")
P = range(1, 6)
SETS = (("train", range(1, 6)), ("test", range(6, 9)))

FOLDERS: dict[str, Files] = {
    "one case": [(1, f"case1/{m}.nii.gz") for m in MODALITIES],
    "two cases": [(n, f"case{n}/{m}.nii.gz") for n in (1, 2) for m in MODALITIES],
    "a folder for each case": [(n, f"case{n}/{m}.nii.gz") for n in P for m in MODALITIES],
    "a folder for each image": [(n, f"case{n}_{m}/image.nii.gz") for n in P for m in MODALITIES],
    "a folder for each image, named again": [(n, f"case{n}_{m}/{m}.nii.gz") for n in P for m in MODALITIES],
    "a folder for each image, named alike": [(n, f"case{n}_{m}/case{n}_{m}.nii.gz") for n in P for m in MODALITIES],
    "a folder for each image of a case": [(n, f"pat{n}/{m}/img.nii.gz") for n in P for m in MODALITIES],
    "numbered folders of images": [(n, f"P{n}/{k + n:03}_{m}/{m}.nii.gz") for n in P for k, m in enumerate(MODALITIES)],
    "numbered images": [(n, f"P{n}/{k + n:03}_{m}.nii.gz") for n in P for k, m in enumerate(MODALITIES)],
    "a folder for each modality": [(n, f"{m}/case{n}_{m}.nii.gz") for n in P for m in MODALITIES],
    "case and folder of a modality": [(n, f"{m}/{n}/{n}.nii.gz") for n in range(101, 106) for m in MODALITIES],
    "codes in case folders": [(n, f"p{n}/{'abcdef'[n]}x{n * 7}_{m}.nii.gz") for n in P for m in MODALITIES],
    "dates in case folders": [(n, f"p{n}/2020010{n}_{m}.nii.gz") for n in P for m in MODALITIES],
    "numbers alone": [(n, f"{n}_{m}.nii.gz") for n in range(1, 12) for m in MODALITIES],
    "modality in front": [(n, f"{m}_{n}.nii.gz") for n in range(1, 12) for m in MODALITIES],
    "no separators": [(n, f"p{n}{m}.nii.gz") for n in range(1, 13) for m in MODALITIES],
    "camel case": [(n, f"Patient{n}{m}.nii") for n in P for m in ("Image", "Label")],
    "numbers behind the words": [(n, f"{k}s/{k}{n:02}.nii.gz") for n in P for k in ("image", "label")],
    "spaces": [(n, f"Patient {n}/{m} axial.nii.gz") for n in P for m in MODALITIES],
    "initials": [(i, f"{i}/{m}.nii.gz") for i in INITIALS for m in MODALITIES],
    "codes": [(c, f"{c}_{m}.nii.gz") for c in CODES for m in MODALITIES],
    "folders of codes": [(c, f"{c}/{m}.nii.gz") for c in CODES for m in MODALITIES],
    "modality in the name of the case": [(n, f"CT_{n:03}/{m}.nii.gz") for n in P for m in ("ct", "pet", "mask")],
    "two forms of T1": [(n, f"p{n}/{m}.nii.gz") for n in P for m in ("t1", "t1_gd", "t2", "seg")],
    "before and after contrast": [(n, f"P{n}/{m}.nii.gz") for n in P for m in ("T1_pre", "T1_post", "seg")],
    "unknown words": [(n, f"P{n}/P{n}_{m}.nii.gz") for n in P for m in ("serie7", "pd9", "maske")],
    "a modality is missing": [(n, f"c{n}/{m}.nii.gz") for n in P for m in MODALITIES if m != "T2" or n % 3],
    "sessions": [((n, s), f"p{n}/{s}/{m}.nii.gz") for n in P for s in ("baseline", "followup") for m in MODALITIES],
    "sessions, named again": [
        ((n, s), f"p{n}/{s}/p{n}_{s}_{m}.nii.gz") for n in P for s in ("v1", "v2") for m in MODALITIES
    ],
    "sessions of some": [
        ((n, s), f"p{n}/{s}/{m}.nii.gz") for n in P for s in ("v1", "v2")[: 1 + n % 2] for m in MODALITIES
    ],
    "dates": [((n, s), f"p{n}/2020{n:02}{s:02}/{m}.nii.gz") for n in P for s in (3, 9) for m in MODALITIES],
    "scans with numbers": [((n, s), f"P{n}/s{n * 10 + s}/{m}.nii.gz") for n in P for s in (1, 2) for m in MODALITIES],
    "sessions in one folder": [((n, s), f"p{n}_v{s}_{m}.nii.gz") for n in P for s in (1, 2) for m in MODALITIES],
    "sessions in file names": [((n, s), f"p{n}/{m}_v{s}.nii.gz") for n in P for s in (1, 2) for m in ("T1", "seg")],
    "frames of few patients": [
        ((n, f), f"training/patient{n:03}/patient{n:03}_frame{f:02}{m}.nii.gz")
        for n in (1, 2)
        for f in (1, 7, 12)
        for m in ("", "_gt")
    ],
    "runs": [((n, s), f"p{n}_{m}_{s}.nii.gz") for n in P for s in (1, 2) for m in ("T1", "seg")],
    "numbers in numbers": [((n, s), f"{n}/{s}/{m}.nii.gz") for n in P for s in (1, 2, 3) for m in MODALITIES],
    "time points named as T1": [((n, s), f"P{n}/{s}/{m}.nii.gz") for n in P for s in ("t0", "t1") for m in MODALITIES],
    "sessions with unknown words": [
        ((n, s), f"P{n}/{s}/{m}.nii.gz") for n in P for s in ("d01", "d02") for m in ("serie7", "serie9", "maske")
    ],
    "sessions without label maps": [((n, s), f"P{n}/{s}/{m}.nii.gz") for n in P for s in "AB" for m in ("T1", "T2")],
    "left and right": [((n, s), f"p{n}/{s}/{m}.nii.gz") for n in P for s in ("left", "right") for m in ("T2", "seg")],
    "sites with the same numbers": [
        ((s, n), f"{s}/{n:03}/{m}.nii.gz") for s in ("siteA", "siteB") for n in P for m in MODALITIES
    ],
    "sites in one folder each": [
        ((s, n), f"{s}/p{n}_{m}.nii.gz") for s in ("Ulm", "Graz") for n in P for m in MODALITIES
    ],
    "sites in file names": [((s, n), f"{s}_{n:03}_{m}.nii.gz") for s in ("UCL", "CHUV") for n in P for m in MODALITIES],
    "training and test": [(n, f"{s}/case{n}/{m}.nii.gz") for s, of_set in SETS for n in of_set for m in MODALITIES],
    "training and test with the same numbers": [
        ((s, n), f"{s}/{k}/{n:03}.nii.gz") for k in ("images", "labels") for s in ("train", "val") for n in P
    ],
    "parallel folders of sets": [
        ((s, n), f"{k}/{s}/{n:03}.nii.gz") for k in ("images", "labels") for s in ("train", "val") for n in P
    ],
    "parallel folders of cases": [
        (n, f"{'labels' if m == 'seg' else 'images'}/case{n}/{m}.nii.gz") for n in P for m in MODALITIES
    ],
    "label maps with the name of an image": [
        (n, f) for n in P for f in (f"data/{n:03}_T1.nii.gz", f"data/{n:03}_T2.nii.gz", f"gt/{n:03}_T1.nii.gz")
    ],
    "raters": [(n, f"P{n}/{m}.nii.gz") for n in P for m in ("T1", "seg_rater1", "seg_rater2")],
    "folders of raters": [
        (n, f) for n in P for f in (f"images/P{n}.nii.gz", f"reader1/P{n}_seg.nii.gz", f"reader2/P{n}_seg.nii.gz")
    ],
    "masks": [(n, f"P{n}/{m}.nii.gz") for n in P for m in ("ct", "mask_liver", "mask_spleen")],
    "no label maps": [(n, f"P{n:03}_{m}.nii.gz") for n in P for m in ("T1", "T2")],
}


def proposed(files: Iterable[str]) -> Assignment:
    listing = Listing(Path("/data"), tuple(sorted(files)))
    return assign(parse_description("test", propose(listing).content), listing)


@pytest.mark.parametrize("name", FOLDERS)
def test_files_of_a_subject_are_one_case(name: str) -> None:
    owners = {file: subject for subject, file in FOLDERS[name]}
    found = proposed(owners)
    mixed = [case.files for case in found.cases if len({owners[file] for file in case.files}) > 1]
    assert not mixed, "two subjects in one case"
    of_subject: dict[Hashable, set[str]] = {}
    for file, subject in owners.items():
        of_subject.setdefault(subject, set()).add(file)
    assert sorted(map(sorted, of_subject.values())) == sorted(sorted(case.files) for case in found.cases)
    assert not found.problems


def test_images_that_only_a_number_distinguishes_are_subjects_of_their_own() -> None:
    """They may be sessions, so they are not taken for modalities of one subject."""
    files = [
        f"{site}/case{n}/serie{k}/{visit}.nii.gz"
        for site, numbers in (("siteA", (1, 3, 5)), ("siteB", (2, 4)))
        for n in numbers
        for k in (1, 2)
        for visit in (1, 2, 3)
    ]
    found = proposed(files)
    assert sorted(case.files for case in found.cases) == [(file,) for file in files] and not found.problems


def test_two_subjects_are_never_one_case_in_random_shapes_of_folders() -> None:
    """Ambiguous names are refused or reported as contradictions; most shapes are grouped completely."""
    complete = 0
    for seed in range(150):
        owners = random_folder(seed)
        try:
            found = proposed(owners)
        except DatasetError:
            continue
        mixed = [case.files for case in found.cases if len({owners[file] for file in case.files}) > 1]
        assert not mixed or found.problems, f"seed {seed}: {mixed[:2]}"
        of_subject: dict[Hashable, set[str]] = {}
        for file, subject in owners.items():
            of_subject.setdefault(subject, set()).add(file)
        complete += sorted(map(sorted, of_subject.values())) == sorted(sorted(case.files) for case in found.cases)
    assert complete > 130


@pytest.mark.parametrize("name", ["sessions", "dates", "sessions in one folder", "scans with numbers"])
def test_sessions_of_a_person_have_the_person_as_their_case(name: str) -> None:
    """A split keeps subjects of the same case on one side."""
    found = proposed(file for _, file in FOLDERS[name])
    assert len({case.entities["case"] for case in found.cases}) == len(P)
    assert len({case.entities["session"] for case in found.cases if case.entities["case"] == "p1"} | {""}) != 2


def test_frames_of_few_patients_are_of_the_same_person() -> None:
    found = proposed(file for _, file in FOLDERS["frames of few patients"])
    assert {case.entities["case"] for case in found.cases} == {"patient001", "patient002"}


@pytest.mark.long(5)
def test_subjects_of_the_known_data_sets_are_not_mixed(tmp_path: Path) -> None:
    """Their folders, with real names, are described as if they were unknown."""
    refused = set()
    for name, make in EXAMPLES.items():
        folder = tmp_path / name.replace("/", "_")
        make(folder)
        listing = list_folder(folder)
        if not listing.images:
            continue
        owners: dict[str, set[str]] = {}
        for subject in open_dataset(folder, name).subjects:
            for file in (*subject.files, *subject.raters.values()):
                owners.setdefault(file.relative_to(folder).as_posix(), set()).add(subject.id)
        try:
            content = propose(listing).content
        except DatasetError:
            refused.add(name)
            continue
        for case in assign(parse_description("test", content), listing).cases:
            assert len({frozenset(owners[file]) for file in case.files if file in owners}) <= 1, f"{name}: {case.files}"
    assert refused <= {"covid19-ct"}


def test_sites_tell_persons_of_the_same_number_apart() -> None:
    found = proposed(file for _, file in FOLDERS["sites with the same numbers"])
    assert [case.entities for case in found.cases[:2]] == [
        {"case": "001", "site": "siteA"},
        {"case": "001", "site": "siteB"},
    ]


def test_files_of_a_patient_whose_name_is_a_modality_are_left_over_not_mixed() -> None:
    files = {f"{i}_{m}.nii.gz": i for i in INITIALS for m in MODALITIES}
    found = proposed(files)
    assert all(len({files[file] for file in case.files}) == 1 for case in found.cases)
    assert {files[file] for case in found.cases for file in case.files} | {
        files[file] for file in found.left_over
    } == set(INITIALS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("baseline", True),
        ("ses-01", True),
        ("v2", True),
        ("2020-01-31", True),
        ("t0", True),
        ("left", False),
        ("v", False),
    ],
)
def test_sessions_are_known_by_their_words(text: str, expected: bool) -> None:
    assert is_session(text) == expected
