"""Each problem that can be mended is: the repair is offered, the data set is read with it, and no file is touched."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import get_args

import nibabel as nib
import numpy as np
import pytest

from core.datasets import load_subject, open_dataset
from core.datasets.data_record import DataRecord
from core.datasets.doctor import check
from core.datasets.layouts.recipe import REPAIRS, Recipe, Repair, RepairKind
from core.datasets.leak_findings import judge_leaks
from core.datasets.leaks import Leak
from core.datasets.repairs import OFFERED, suggested, with_repairs
from core.datasets.saved_recipes import add_repairs, recipe_file, save_recipe, saved_recipe, settings_stamp
from core.errors import DatasetError
from core.strict_json import dumps
from tests.support.volume_files import make_decathlon, write_nifti


@pytest.fixture(autouse=True)
def own_settings(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("settings")
    monkeypatch.setenv("SEGMENTARIUM_SETTINGS", str(folder))
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Four cases without a fault."""
    return make_decathlon(tmp_path / "data", subjects=4)


def test_every_kind_of_repair_is_a_field_of_the_recipe_and_described() -> None:
    kinds = set(get_args(RepairKind))
    assert REPAIRS.keys() == OFFERED.keys() == kinds == {f.name for f in fields(Recipe)} - {"renamed"}
    content = {kind: True if kind == "nan_is_zero" else ["a", "b"] for kind in kinds}
    full = Recipe.from_json("recipe", content)
    assert list(full.lines()) == [t.line + ("" if k == "nan_is_zero" else ": a, b") for k, t in REPAIRS.items()]


def image_of(data: Path, number: int) -> Path:
    return sorted((data / "imagesTr").glob("*.nii.gz"))[number]


def label_of(data: Path, number: int) -> Path:
    return sorted((data / "labelsTr").glob("*.nii.gz"))[number]


def content(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def break_nan(data: Path) -> None:
    image = nib.load(image_of(data, 1))
    values = image.get_fdata().astype(np.float32)
    values[0, 0, 0] = np.nan
    nib.save(nib.Nifti1Image(values, image.affine), image_of(data, 1))


def break_content(data: Path) -> None:
    image_of(data, 1).write_bytes(b"nothing")


def break_sform(data: Path) -> None:
    """The sform of a label map is wrong, its qform is right."""
    image = nib.load(label_of(data, 1))
    image.set_qform(image.affine, 1)
    wrong = image.affine.copy()
    wrong[:3, 3] += 50
    image.set_sform(wrong, 1)
    nib.save(image, label_of(data, 1))


def break_orientation(data: Path) -> None:
    """The header of a label map states the mirrored orientation, with voxels stored like those of the image."""
    image = nib.load(label_of(data, 1))
    affine = image.affine.copy()
    affine[0] *= -1
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), affine), label_of(data, 1))


def break_values(data: Path) -> None:
    image = nib.load(label_of(data, 1))
    values = np.asarray(image.dataobj).astype(np.float32)
    values[0, 0, 0] = 1.4
    nib.save(nib.Nifti1Image(values, image.affine), label_of(data, 1))


def break_twice(data: Path) -> None:
    image_of(data, 2).write_bytes(image_of(data, 1).read_bytes())
    label_of(data, 2).write_bytes(label_of(data, 1).read_bytes())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "kind", "number"),
    [
        (break_nan, "nan_is_zero", None),
        (break_content, "left_out", 1),
        (break_sform, "take_qform", 1),
        (break_orientation, "follow_image", 1),
        (break_values, "nearest_label", 1),
        (break_twice, "left_out", 2),
    ],
)
def test_a_planted_defect_is_found_and_mended_without_touching_a_file(data, damage, kind, number) -> None:  # type: ignore[no-untyped-def]
    good = check(data)
    assert good.ok and not suggested(good.findings)
    damage(data)
    before = content(data)
    report = check(data)
    repair = Repair(kind, "" if number is None else open_dataset(data).ids[number])
    assert suggested(report.findings) == [repair]
    assert json.loads(dumps(report.to_json()))["findings"][0]["repairs"][0]["kind"] == kind
    recipe = add_repairs(data, suggested(report.findings))
    mended = check(data)
    assert mended.ok and not suggested(mended.findings)
    assert mended.to_json()["recipe"] == recipe.to_json()
    assert any("by its recipe" in finding.message for finding in mended.findings)
    assert content(data) == before
    for id in open_dataset(data).ids:
        load_subject(open_dataset(data), id)


@pytest.mark.slow
def test_what_is_mended_is_what_was_meant(data: Path) -> None:
    expected = load_subject(open_dataset(data), open_dataset(data).ids[1])
    for damage in (break_sform, break_orientation):
        damage(data)
    # The sform of the mirrored file was replaced: only the second damage remains.
    add_repairs(data, suggested(check(data).findings))
    mended = load_subject(open_dataset(data), expected.id)
    assert mended.label is not None and expected.label is not None
    np.testing.assert_array_equal(mended.label, expected.label)
    np.testing.assert_array_equal(mended.image, expected.image)


@pytest.mark.slow
def test_many_wrong_values_are_no_slip_and_are_not_mended(data: Path) -> None:
    image = nib.load(label_of(data, 1))
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj) + np.float32(0.4), image.affine), label_of(data, 1))
    assert [repair.kind for repair in suggested(check(data).findings)] == ["left_out"]


@pytest.mark.slow
def test_the_last_cases_are_never_left_out(tmp_path: Path) -> None:
    data = make_decathlon(tmp_path / "data", subjects=2)
    break_content(data)
    report = check(data)
    assert not report.ok and not suggested(report.findings)


def test_mending_everything_at_once_leaves_enough_cases(data: Path) -> None:
    for number in range(4):
        image_of(data, number).write_bytes(b"nothing")
    repairs = suggested(check(data).findings)
    assert [repair.kind for repair in repairs] == ["left_out", "left_out"]
    add_repairs(data, repairs)
    assert len(open_dataset(data).labelled_ids) == 2


def test_nearest_of_values_far_apart(tmp_path: Path) -> None:
    from core.imaging.volume import read_label

    values = np.array([0, 4, 6, 140, 251, 300, -5, 200, 10], np.float32).reshape(3, 3, 1)
    file = write_nifti(tmp_path / "a.nii", values)
    volume = read_label(file, nearest=(250, 0, 10, 150))
    assert volume.data[0].ravel().tolist() == [0, 0, 10, 150, 250, 250, 0, 150, 10]
    assert volume.changed_voxels == 7


def test_the_recipe_of_a_run_is_recorded_and_a_change_of_it_is_named(data: Path, tmp_path: Path) -> None:
    def record() -> DataRecord:
        dataset = open_dataset(data)
        return DataRecord.read_headers(dataset, dataset.ids, dataset.modalities, dataset.labels)

    before = record()
    before.save(tmp_path)
    assert DataRecord.load(tmp_path).changes(record()) == []  # type: ignore[union-attr]
    save_recipe(data, Recipe(nan_is_zero=True))
    loaded = DataRecord.load(tmp_path)
    assert loaded is not None
    assert loaded.changes(record()) == ["what is mended on reading: nothing, to NaN is read as 0"]
    record().save(tmp_path)
    again = DataRecord.load(tmp_path)
    assert again is not None and again.recipe == Recipe(nan_is_zero=True) and again.changes(record()) == []


def test_a_record_without_a_recipe_is_that_of_an_earlier_version(data: Path, tmp_path: Path) -> None:
    dataset = open_dataset(data)
    record = DataRecord.read_headers(dataset, dataset.ids, dataset.modalities, dataset.labels)
    record.save(tmp_path)
    (file,) = (p for p in tmp_path.iterdir() if p.is_file())
    saved = json.loads(file.read_text())
    del saved["recipe"]
    file.write_text(json.dumps(saved))
    loaded = DataRecord.load(tmp_path)
    assert loaded is not None and loaded.changes(record) == []


def test_recipes_are_kept_beside_the_settings_and_forgotten(data: Path, own_settings: Path) -> None:
    assert saved_recipe(data) == Recipe() and not recipe_file(data).exists()
    stamp = settings_stamp(data)
    recipe = Recipe(True, ("a",), ("b",), ("c",), ("d",), {2: "Läsion"})
    save_recipe(data, recipe)
    assert saved_recipe(data) == recipe and settings_stamp(data) != stamp
    assert recipe_file(data).is_relative_to(own_settings)
    assert not [p for p in data.rglob("*") if "recipe" in p.name]
    save_recipe(data, Recipe())
    assert not recipe_file(data).exists()


def test_classes_are_renamed(data: Path) -> None:
    before = open_dataset(data).labels
    raw = before.foreground[0].raw
    save_recipe(data, Recipe(renamed={raw: "lesion"}))
    assert open_dataset(data).labels.names[1] == "lesion"
    save_recipe(data, Recipe(renamed={raw: before.names[0]}))
    with pytest.raises(DatasetError, match="names of a label space must differ"):
        open_dataset(data)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "damaged"),
        ('{"version": 9, "recipe": {}}', "update Segmentarium"),
        ('{"version": 1, "recipe": {"new": true}}', "expected a recipe of"),
        ('{"version": 1, "recipe": {"left_out": "a"}}', "valid left_out"),
        ('{"version": 1, "recipe": {"renamed": {"x": "a"}}}', "label values under renamed"),
    ],
)
def test_a_damaged_recipe_is_refused_and_never_left_undone(data: Path, text: str, reason: str) -> None:
    recipe_file(data).parent.mkdir(parents=True, exist_ok=True)
    recipe_file(data).write_text(text)
    with pytest.raises(DatasetError, match=reason):
        open_dataset(data)


def test_digests_differ_where_recipes_do() -> None:
    recipes = [Recipe(), Recipe(True), Recipe(left_out=("a",)), Recipe(take_qform=("a",)), Recipe(renamed={1: "a"})]
    assert len({recipe.digest for recipe in recipes}) == len(recipes) and Recipe().digest == ""


def test_of_two_copies_the_one_without_a_label_map_is_left_out(data: Path) -> None:
    (data / "imagesTs").mkdir()
    (data / "imagesTs" / "aaa.nii.gz").write_bytes(image_of(data, 1).read_bytes())  # first by name
    report = check(data)
    (found,) = (f for f in report.findings if f.subject == "aaa" and "the same as that of case_002" in f.message)
    assert report.ok and found.severity == "note" and suggested(report.findings) == [Repair("left_out", "aaa")]
    add_repairs(data, suggested(report.findings))
    assert open_dataset(data).labelled_ids == ("case_001", "case_002", "case_003", "case_004")


def test_a_copy_of_a_copy_that_is_left_out_stays(data: Path) -> None:
    dataset = open_dataset(data)
    a, b, c, _ = dataset.ids
    findings = judge_leaks([Leak("turned", (a, b), 0.99), Leak("turned", (b, c), 0.99)], dataset.labelled)
    assert suggested(with_repairs(dataset, findings)) == [Repair("left_out", b)]


def test_a_file_that_training_does_not_read_can_be_left_out(data: Path) -> None:
    (data / "imagesTs").mkdir()
    (data / "imagesTs" / "new.nii.gz").write_bytes(b"nothing")
    assert suggested(check(data).findings) == [Repair("left_out", "new")]
