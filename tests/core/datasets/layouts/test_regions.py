"""nnU-Net's regions, listed files and first version."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.datasets import open_dataset
from core.datasets.doctor import check
from core.datasets.layouts.known_sets import known_sets
from core.datasets.layouts.recipe import Recipe
from core.datasets.layouts.regions import SplitLabels, split_regions
from core.datasets.saved_recipes import apply_recipe
from core.errors import DatasetError
from core.regions import region_space
from tests.support.volume_files import make_decathlon, make_nnunet

BRATS = {"background": 0, "whole tumour": [1, 2, 3], "tumour core": [2, 3], "enhancing": 3}


def test_regions_become_classes_that_do_not_overlap_and_unions_of_them(tmp_path: Path) -> None:
    folder = make_nnunet(tmp_path, labels={**BRATS, "ignore": 4}, regions_class_order=[1, 2, 3])
    dataset = open_dataset(folder)
    assert [(c.raw, c.name) for c in dataset.labels.classes] == [
        (0, "background"), (1, "whole tumour only"), (2, "tumour core only"), (3, "enhancing"),
    ]  # fmt: skip
    assert dataset.labels.ignore is not None and dataset.labels.ignore.raw == 4
    assert dataset.regions == {
        "whole tumour": ("whole tumour only", "tumour core only", "enhancing"),
        "tumour core": ("tumour core only", "enhancing"),
        "enhancing": ("enhancing",),
    }
    assert dataset.region_order == {
        "whole tumour": "whole tumour only", "tumour core": "tumour core only", "enhancing": "enhancing",
    }  # fmt: skip
    assert "consist of the classes whole tumour only, tumour core only, enhancing" in dataset.notes[0]


@pytest.mark.parametrize("order", [[1, 2], [1, 2, 7], "1 2 3", [1, 2, [3]]])
def test_order_that_does_not_fit_the_regions_is_refused(tmp_path: Path, order: object) -> None:
    folder = make_nnunet(tmp_path, labels=BRATS, regions_class_order=order)
    with pytest.raises(DatasetError, match=r"expected one of the values \[1, 2, 3\] under 'regions_class_order'"):
        open_dataset(folder)


def test_region_with_the_background_is_refused(tmp_path: Path) -> None:
    folder = make_nnunet(tmp_path, labels={"background": 0, "all": [0, 1, 2], "part": 1})
    with pytest.raises(DatasetError, match=r"expected regions without the value 0, .* got 'all': \[0, 1, 2\]"):
        open_dataset(folder)


def test_renamed_class_keeps_its_place_in_the_regions(tmp_path: Path) -> None:
    dataset = open_dataset(make_nnunet(tmp_path, labels=BRATS, regions_class_order=[1, 2, 3]))
    renamed = apply_recipe(dataset, Recipe(renamed={1: "oedema"}))
    assert renamed.regions["whole tumour"] == ("oedema", "tumour core only", "enhancing")
    assert renamed.region_order["whole tumour"] == "oedema"


def test_known_sets_say_how_their_regions_become_label_maps() -> None:
    for name, description in known_sets().items():
        if description.regions:
            assert description.classes is not None
            found = region_space(description.regions, description.region_order, tuple(description.classes))
            assert found is not None and found.painted and not found.lost_classes, name


def test_values_that_only_one_region_holds_are_numbered(tmp_path: Path) -> None:
    split = split_regions(tmp_path, {"labels": {"background": 0, "organ": [1, 2], "part": 3}})
    assert split.content["labels"] == {"background": 0, "organ 1": 1, "organ 2": 2, "part": 3}
    assert split.regions == {"organ": ("organ 1", "organ 2"), "part": ("part",)} and split.order == {}
    plain = {"labels": {"a": 0, "b": 1}}
    assert split_regions(tmp_path, plain) == SplitLabels(plain)
    with pytest.raises(DatasetError, match="expected whole numbers, or lists of them, under 'labels', got 'a'"):
        split_regions(tmp_path, {"labels": {"a": ["1"], "b": [1, 2]}})


def test_files_listed_under_dataset_are_read_wherever_they_lie(tmp_path: Path) -> None:
    source = make_nnunet(tmp_path / "source", 2)
    folder = tmp_path / "data"
    folder.mkdir()
    cases = {
        f"p{n}": {
            "images": [f"../source/imagesTr/case_{n:03}_{c:04}.nii.gz" for c in (0, 1)],
            "label": str(source / "labelsTr" / f"case_{n:03}.nii.gz"),
        }
        for n in (1, 2)
    }
    content = json.loads((source / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**content, "dataset": cases}))
    assert open_dataset(folder).ids == ("p1", "p2") and check(folder).ok
    cases["p2"]["label"] = cases["p1"]["label"]
    (folder / "dataset.json").write_text(json.dumps({**content, "dataset": cases}))
    with pytest.raises(DatasetError, match=r"got case_001\.nii\.gz for 'p1' and 'p2'"):
        open_dataset(folder)
    cases["p2"]["images"] = cases["p2"]["images"][:1]
    (folder / "dataset.json").write_text(json.dumps({**content, "dataset": cases}))
    with pytest.raises(DatasetError, match=r"expected 2 images \(M0, M1\) for 'p2', got 1"):
        open_dataset(folder)


def test_version_1_lists_files_without_their_channel(tmp_path: Path) -> None:
    folder = make_decathlon(tmp_path)
    assert open_dataset(folder).layout == "decathlon"
    for image in (folder / "imagesTr").iterdir():
        image.rename(image.with_name(image.name.replace(".nii.gz", "_0000.nii.gz")))
    dataset = open_dataset(folder)
    assert dataset.layout == "nnunet" and dataset.ids == ("case_001", "case_002", "case_003")
    assert dataset.modalities == ("M0",) and check(folder).ok
