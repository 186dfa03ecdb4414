"""``data``: folders are described, saved beside the settings and forgotten; layouts are listed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from core.cli import main
from core.datasets import load_subject, open_dataset
from core.datasets.layouts.known_sets import known_sets
from core.datasets.saved_descriptions import description_file
from tests.support.volume_files import label_map, voxels, write_nifti


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three cases with label values 0, 2 and 5, and an image that belongs to none."""
    monkeypatch.setenv("SEGMENTARIUM_SETTINGS", str(tmp_path / "settings"))
    data = tmp_path / "data"
    for n in (1, 2, 3):
        write_nifti(data / f"p{n}" / f"p{n}_serie.nii.gz", voxels(seed=n))
        write_nifti(data / f"p{n}" / f"p{n}_maske.nii.gz", label_map((0, 2, 5), seed=n))
    write_nifti(data / "atlas.nii.gz", voxels(seed=9))
    return data


def test_proposal_is_shown_and_not_saved(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "describe", str(folder), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["description"]["images"] == "{case}/{case}_serie.nii.gz"
    assert report["description"]["labels"] == "{case}/{case}_maske.nii.gz"
    assert report["label_values"] == {"0": 3, "2": 3, "5": 3} and report["left_over"] == ["atlas.nii.gz"]
    assert [row["case"] for row in report["cases"]] == ["p1", "p2", "p3"] and report["saved"] is None
    assert not description_file(folder).exists()


def test_corrected_description_is_saved_used_and_forgotten(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(folder.rglob("*"))
    flags = ["--modalities", "image=T1", "--classes", "organ=2,5", "--colours", "organ=#00FF00", "--save"]
    assert main(["data", "describe", str(folder), *flags]) == 0
    dataset = open_dataset(folder)
    assert dataset.layout == "saved" and dataset.modalities == ("T1",) and "a description is saved" in dataset.reason
    assert dataset.labels.names == ("background", "organ") and dataset.labels.classes[1].colour == "#00ff00"
    label = load_subject(dataset, "p1").label
    assert label is not None and set(np.unique(label)) == {0, 1}
    assert sorted(folder.rglob("*")) == before
    out = folder.parent / "mine.toml"
    assert main(["data", "describe", str(folder), "--out", str(out)]) == 0
    assert main(["data", "describe", str(folder), "--forget"]) == 0
    assert open_dataset(folder, str(out)).labels.names == dataset.labels.names
    capsys.readouterr()
    assert main(["check", str(folder)]) == 1 and f"data describe {folder}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["--pattern", "{case}.nii", "--classes", "a=1", "--save"], "got none that does; correct --pattern"),
        (
            ["--pattern", "{case}/*.nii.gz", "--classes", "a=2", "--labels", "x/{case}.nii", "--save"],
            "are both image of",
        ),
        (["--pattern", "{case"], "expected an entity like"),
        (["--classes", "a"], "expected NAME=VALUE"),
        (["--classes", "a=b"], "expected whole numbers"),
        (["--from", "brats1999"], "expected one of iseg-challenge"),
        (["--colours", "a=red", "--classes", "a=2,5"], "colours such as"),
    ],
)
def test_what_cannot_be_read_is_not_saved(
    folder: Path, capsys: pytest.CaptureFixture[str], flags: list[str], problem: str
) -> None:
    assert main(["data", "describe", str(folder), *flags]) == 1
    assert problem in capsys.readouterr().err and not description_file(folder).exists()


@pytest.mark.parametrize("option", ["--out", "--report"])
def test_no_text_is_written_over_an_image(folder: Path, capsys: pytest.CaptureFixture[str], option: str) -> None:
    image = next(folder.rglob("*.nii*"))
    before = image.read_bytes()
    assert main(["data", "describe", str(folder), option, str(image)]) == 1
    assert "expected the name of a text file to write to, got that of an image" in capsys.readouterr().err
    assert image.read_bytes() == before


def test_layouts_are_listed_with_their_variants(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "layouts", "--json"]) == 0
    names = [row["name"] for row in json.loads(capsys.readouterr().out)]
    assert names[:3] == ["iseg", "nnunet", "decathlon"] and set(known_sets()) <= set(names)
    assert "mrbrains2018/tissues" in names
    assert main(["data", "layouts", "kits"]) == 0 and "imaging.nii" in capsys.readouterr().out
    assert main(["data", "layouts", "none"]) == 1 and "got 'none'" in capsys.readouterr().err


@pytest.fixture
def tumours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two cases named as those of BraTS 2021."""
    monkeypatch.setenv("SEGMENTARIUM_SETTINGS", str(tmp_path / "settings"))
    data = tmp_path / "brats"
    for n in (1, 2):
        case = f"BraTS2021_0000{n}"
        for modality in ("t1", "t1ce", "t2", "flair"):
            write_nifti(data / case / f"{case}_{modality}.nii.gz", voxels(seed=n))
        write_nifti(data / case / f"{case}_seg.nii.gz", label_map((0, 1, 2, 4), seed=n))
    return data


def test_regions_follow_the_classes_of_a_known_set(tumours: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--from", "brats2021", "--classes", "Nekrose=1", "Ödem=2", "ET=4", "--save"]
    assert main(["data", "describe", str(tumours), *flags]) == 0
    assert open_dataset(tumours).regions == {
        "whole tumour": ("Nekrose", "Ödem", "ET"),
        "tumour core": ("Nekrose", "ET"),
        "ET": ("ET",),
    }
    capsys.readouterr()
    assert main(["data", "describe", str(tumours), "--classes", "core=1,4", "Ödem=2", "--save"]) == 0
    assert open_dataset(tumours).regions == {"whole tumour": ("core", "Ödem"), "tumour core": ("core",)}
    assert "not made of whole classes any more are removed: ET" in capsys.readouterr().err


def test_regions_are_stated_painted_and_removed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--classes", "core=2", "rim=5", "--regions", "whole=core,rim", "middle=core"]
    painted = ["--regions-class-order", "rim", "core"]
    assert main(["data", "describe", str(folder), *flags, *painted, "--save"]) == 0
    dataset = open_dataset(folder)
    assert dataset.regions == {"whole": ("core", "rim"), "middle": ("core",)}
    assert dataset.region_order == {"whole": "rim", "middle": "core"}
    assert main(["data", "describe", str(folder), "--regions", "none", "--save"]) == 0
    assert open_dataset(folder).regions == {} and open_dataset(folder).region_order == {}
    capsys.readouterr()
    assert main(["data", "describe", str(folder), "--regions", "whole=core,edge"]) == 1
    assert "expected classes out of core, rim in 'whole', got edge" in capsys.readouterr().err
