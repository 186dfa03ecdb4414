"""Files of a folder as a description assigns them: no file of one case is ever given to another."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core.datasets.layouts.assignment import Assignment, assign, fill_template
from core.datasets.layouts.described_layout import DescribedLayout
from core.datasets.layouts.known_sets import known_layouts
from core.datasets.layouts.listing import Listing, list_folder
from core.datasets.layouts.set_description import parse_description, to_toml
from core.datasets.recognition import recognise_listing
from core.errors import DatasetError

CASES = {
    "images": "{case}/{case}_{modality=t1|t2}.nii[.gz]",
    "labels": "{case}/{case}_seg.nii[.gz]",
    "classes": {"a": 1},
}


def found(files: list[str], **content: Any) -> Assignment:
    described = parse_description("test", {**CASES, **content})
    return assign(described, Listing(Path("/data"), tuple(sorted(files))))


def test_a_file_in_the_folder_of_another_case_is_left_over() -> None:
    result = found(["a/a_t1.nii", "a/b_seg.nii", "b/b_t1.nii", "b/b_seg.nii"])
    assert [(c.id, c.images, c.labels) for c in result.cases] == [
        ("a", {"t1": "a/a_t1.nii"}, {}),
        ("b", {"t1": "b/b_t1.nii"}, {"": "b/b_seg.nii"}),
    ]
    assert result.left_over == ("a/b_seg.nii",)


@pytest.mark.parametrize(
    "files",
    [
        ["a/a_t1.nii", "a/a_t1.nii.gz"],
        ["a/a_t1.nii", "A/A_t1.nii"],
        ["a/a_t1.nii", "a/a_T1.nii"],
        ["a/a_seg.nii", "a/a_seg.nii.gz", "a/a_t1.nii"],
    ],
    ids=["nii beside nii.gz", "folders that differ in case", "names that differ in case", "two label maps"],
)
def test_two_files_for_one_image_are_refused_by_both_names(files: list[str], tmp_path: Path) -> None:
    result = found(files)
    assert len(result.problems) == 1 and files[0] in result.problems[0] and files[1] in result.problems[0]
    with pytest.raises(DatasetError, match="expected every image and label map once, got: "):
        DescribedLayout(result.description).open_listing(Listing(tmp_path, tuple(files)))


def test_hidden_files_are_ignored_and_counted(tmp_path: Path) -> None:
    for name in ("a_t1.nii.gz", "._a_t1.nii.gz", "._a_seg.nii.gz", "a_seg.nii.gz", ".DS_Store"):
        (tmp_path / "a").mkdir(exist_ok=True)
        (tmp_path / "a" / name).write_bytes(b"")
    listing = list_folder(tmp_path)
    assert listing.files == ("a/a_seg.nii.gz", "a/a_t1.nii.gz") and listing.hidden == 2
    dataset = DescribedLayout(parse_description("test", CASES)).open_listing(listing)
    assert "2 hidden files, such as macOS's own '._' files, are ignored" in dataset.notes


def test_links_inside_are_not_read_twice_and_links_elsewhere_are_followed_once(tmp_path: Path) -> None:
    data, other = tmp_path / "data", tmp_path / "other"
    for folder in (data / "a", other):
        folder.mkdir(parents=True)
        (folder / "a_t1.nii").write_bytes(b"")
    (data / "latest").symlink_to(data / "a")
    (data / "up").symlink_to(tmp_path)
    (data / "b").symlink_to(other)
    (data / "c").symlink_to(other)
    (other / "loop").symlink_to(other)
    assert sum(f.endswith("a_t1.nii") for f in list_folder(data).files) == 2


def test_a_pair_of_files_is_one_image() -> None:
    listing = Listing(Path("/data"), ("a/a_t1.hdr", "a/a_t1.img", "a/a_seg.img"))
    assert listing.images == ("a/a_t1.hdr", "a/a_seg.img")


def test_sessions_are_subjects_and_the_label_map_of_a_case_belongs_to_its_only_session() -> None:
    patterns = {"images": "{case}/{session}/{modality}.nii", "labels": "{case}/seg.nii"}
    result = found(["a/1/t1.nii", "a/seg.nii", "b/1/t1.nii", "b/2/t1.nii", "b/seg.nii"], **patterns)
    assert {c.id: c.labels for c in result.cases} == {"a_1": {"": "a/seg.nii"}, "b_1": {}, "b_2": {}}
    assert result.problems == ("b/seg.nii is one label for b_1 and b_2",)
    assert result.cases[0].entities == {"case": "a", "session": "1"}


def test_one_rater_is_chosen_and_the_others_are_known(tmp_path: Path) -> None:
    patterns = {"labels": "{case}/{case}_seg_{rater}.nii"}
    files = ["a/a_t1.nii", "a/a_seg_x.nii", "a/a_seg_y.nii", "b/b_t1.nii", "b/b_seg_y.nii"]
    for rater, expected in (
        ("", {"a": "a_seg_x.nii", "b": "b_seg_y.nii"}),
        ("y", {"a": "a_seg_y.nii", "b": "b_seg_y.nii"}),
    ):
        described = parse_description("test", {**CASES, **patterns, **({"rater": rater} if rater else {})})
        dataset = DescribedLayout(described).open_listing(Listing(tmp_path, tuple(files)))
        assert {s.id: s.label.name for s in dataset.subjects if s.label} == expected
        assert set(dataset.subject("a").raters) == {"x", "y"}
        assert any(note.startswith("label maps of the raters x, y") for note in dataset.notes)
    described = parse_description("test", {**CASES, **patterns, "rater": "z"})
    with pytest.raises(DatasetError, match="rater: expected one of x, y; got 'z'"):
        DescribedLayout(described).open_listing(Listing(tmp_path, tuple(files)))


def test_classes_are_merged_coloured_and_ignored(tmp_path: Path) -> None:
    content = {
        **CASES,
        "classes": {"organ": [2, 5], "other": [9], "background": [0, 7]},
        "colours": {"organ": "#FF0000"},
        "ignore": "other",
    }
    dataset = DescribedLayout(parse_description("test", content)).open_listing(
        Listing(tmp_path, ("a/a_t1.nii", "a/a_seg.nii"))
    )
    assert dataset.labels.names == ("background", "organ") and dataset.labels.classes[1].colour == "#ff0000"
    assert dataset.labels.ignore is not None and dataset.labels.ignore.raw == 9
    assert dataset.value_map == {5: 2, 7: 0}


def test_a_mask_of_the_background_shifts_no_class(tmp_path: Path) -> None:
    described = parse_description("test", {"images": "{case}/t1.nii", "labels": "{case}/masks/{label}.nii"})
    files = ("a/masks/background.nii", "a/masks/liver.nii", "a/masks/spleen.nii", "a/t1.nii")
    dataset = DescribedLayout(described).open_listing(Listing(tmp_path, files))
    assert [(c.raw, c.name) for c in dataset.labels.classes] == [(0, "background"), (1, "liver"), (2, "spleen")]
    (subject,) = dataset.subjects
    assert {file.stem: value for file, value in subject.masks.items()} == {"liver": 1, "spleen": 2}
    assert "masks that are no class are not read: background" in dataset.notes
    assert not any("lack" in note for note in dataset.notes)
    dataset = DescribedLayout(described).open_listing(Listing(tmp_path, (*files, "b/masks/liver.nii", "b/t1.nii")))
    assert "subjects without a mask for each class: what they lack is background there: b" in dataset.notes


def test_a_text_beside_the_data_that_is_no_table_of_classes_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "README.txt").write_text("Images of 12 patients\n")
    (tmp_path / "participants.tsv").write_text("participant_id\tage\na\t3\n")
    layout = known_layouts()["plain"]
    listing = Listing(tmp_path, ("README.txt", "images/a.nii", "labels/a.nii", "participants.tsv"))
    with pytest.raises(DatasetError, match=r"names of the classes, which no file states.*data describe"):
        layout.open_listing(listing)
    (tmp_path / "labels.txt").write_text("1 liver 255 0 0 255\n")
    dataset = layout.open_listing(replace(listing, files=(*listing.files, "labels.txt")))
    assert dataset.labels.names == ("background", "liver")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"pattern": "x"}, "expected only the keys"),
        ({"images": 3}, "images: expected a text or a list of texts"),
        ({"images": "t1.nii"}, r"images: expected \{case\} in each pattern"),
        ({"images": []}, "expected 'images' like"),
        ({"labels": "{case}_{modality}.nii"}, "labels: expected no"),
        ({"classes": {"a": "1"}}, "whole numbers by class name"),
        ({"classes": {"a": 1, "b": [2, 1]}}, "every value in one class, got 1 in 'a' and 'b'"),
        ({"classes": {"a": True}}, "whole numbers by class name"),
        ({"colours": {"a": "red"}}, "colours such as #ff8000"),
        ({"colours": {"b": "#ffffff"}}, "colours: expected names out of background, a; got 'b'"),
        ({"regions": {"r": ["b"]}}, "regions: expected names out of"),
        ({"overlap": "first"}, "error or later"),
        ({"freesurfer": [12345], "classes": None}, "freesurfer: expected values of FreeSurfer's structures"),
        ({"modalities": {"t1": "X", "t2": "x"}}, "a different name for each"),
    ],
)
def test_what_is_no_description_is_refused_with_its_key(content: dict[str, Any], problem: str) -> None:
    with pytest.raises(DatasetError, match=f"^mine: .*{problem}|^mine: {problem}"):
        parse_description("mine", {k: v for k, v in {**CASES, **content}.items() if v is not None})


def test_a_description_survives_its_file(tmp_path: Path) -> None:
    content = {
        **CASES,
        "title": 'a "b" \\ ü\x7f',
        "colours": {"a": "#00ff00"},
        "notes": ["x", "y"],
        "labels": ["{case}/a.nii"],
    }
    assert tomllib.loads(to_toml(content)) == content


def test_parts_of_an_id_in_brackets_are_left_out_where_an_entity_is_missing() -> None:
    assert fill_template("sub-{case}[_ses-{session}]", {"case": "1"}) == "sub-1"
    assert fill_template("sub-{case}[_ses-{session}]", {"case": "1", "session": "a"}) == "sub-1_ses-a"


@pytest.mark.slow
def test_twenty_thousand_files_are_recognised_and_opened(tmp_path: Path) -> None:
    names = [
        f"BraTS2021_{n:05}/BraTS2021_{n:05}_{m}.nii.gz"
        for n in range(4000)
        for m in ("t1", "t1ce", "t2", "flair", "seg")
    ]
    listing = Listing(tmp_path, tuple(names))
    layout = recognise_listing(listing).layout
    assert isinstance(layout, DescribedLayout) and layout.name == "brats2021"
    dataset = layout.open_listing(listing)
    assert len(dataset.subjects) == 4000 and dataset.notes == ()
