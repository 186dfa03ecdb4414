"""The Data page without a browser."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import streamlit as st

from core.cli import main
from core.datasets import DataOptions, open_dataset
from core.datasets.doctor import check
from core.datasets.layouts.recipe import Recipe
from core.datasets.prepared_cache import Preparation, PreparedCache
from core.datasets.saved_descriptions import description_file, save_description
from core.datasets.saved_recipes import save_recipe, saved_recipe
from core.formatting import format_bytes
from core.imaging.normalise import Normaliser
from core.paths import settings_root
from core.strict_json import dumps
from tests.support.app_pages import button, button_labels, click, component_data, open_page, texts
from tests.support.dicom_labels import write_case, write_seg
from tests.support.heads import head, write_heads
from tests.support.volume_files import write_nifti
from ui.data import doctor_job
from ui.shared import jobs
from ui.shared.jobs import Job
from ui.shared.paths import cache_root

pytestmark = pytest.mark.usefixtures("empty_app")


def write_report(folder: Path, options: DataOptions) -> None:
    """The report of the doctor, as its job writes it."""
    place = doctor_job.report_folder(folder, options)
    place.mkdir(parents=True)
    (place / jobs.REPORT).write_text(dumps(check(folder, options=options).to_json()))


def keep_checking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the doctor look as if it had read one of three subjects, whatever the data set."""
    observe, folder_of_doctor = jobs.observe_report, cache_root() / "doctor"
    monkeypatch.setattr(
        jobs, "observe_report",
        lambda folder: Job("running", 1, 3) if folder.is_relative_to(folder_of_doctor) else observe(folder),
    )  # fmt: skip


@pytest.mark.slow
def test_page_offers_to_make_the_demo_data() -> None:
    app = open_page("data")
    assert "Ten synthetic subjects" in texts(app)
    assert "Make the demo data" in button_labels(app)


def test_unusable_folder_in_url_is_reported() -> None:
    app = open_page("data", data="*missing*")
    (error,) = app.error
    assert "found none at" in error.value and "\\*missing\\*" in error.value


def test_files_with_nan_can_be_read_with_0_instead(empty_app: Path) -> None:
    folder = write_heads(empty_app / "heads", 3)
    image = head(1)[0]
    image[:3] = np.nan
    write_nifti(folder / "imagesTr" / "case_1.nii.gz", image, np.eye(4))
    for recipe in (Recipe(nan_is_zero=True), Recipe()):
        save_recipe(folder, recipe)
        write_report(folder, DataOptions())
    app = open_page("data", data="heads")
    assert "Not ready for training: 1 error" in app.error[0].value
    click(app, "Read NaN as 0")
    assert "Ready for training" in app.success[0].value and "NaN is read as 0 in 1 of 3 subjects" in texts(app)
    assert "Read NaN as 0" not in button_labels(app)
    assert saved_recipe(folder) == Recipe(nan_is_zero=True)
    click(app, "Undo")
    assert "Not ready for training: 1 error" in app.error[0].value
    assert saved_recipe(folder) == Recipe()


def test_ignored_label_that_the_data_set_lacks_can_be_undone(empty_app: Path) -> None:
    write_report(write_heads(empty_app / "heads", 3), DataOptions())
    app = open_page("data", {"data_option.ignore.heads": "liver"}, data="heads")
    (error,) = app.error
    assert "liver" in error.value
    assert not click(app, "Read it as before").error and "Read it as before" not in button_labels(app)


def test_a_folder_without_a_layout_is_described_and_saved_beside_the_settings(
    empty_app: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_heads(empty_app / "heads", 3)
    (folder / "dataset.json").unlink()
    before = sorted(folder.rglob("*"))
    commands: list[list[str]] = []
    monkeypatch.setattr(jobs, "start", lambda folder, arguments: commands.append(arguments))
    keep_checking(monkeypatch)
    app = open_page("data", data="heads")
    assert "3 cases · 3 with labels · 0 image files left over" in texts(app) and not app.error
    assert button(app, "Save").disabled, "the classes are not known"
    click(app, "Read the label values")
    assert commands[0][:5] == [
        "data", "describe", str(folder), "--pattern=imagesTr/{case}.nii.gz", "--labels=labelsTr/{case}.nii.gz",
    ]  # fmt: skip
    report = Path(commands[0][commands[0].index("--report") + 1])
    report.parent.mkdir(parents=True)
    assert main(commands[0]) == 0
    app = open_page("data", data="heads")
    assert not button(app, "Save").disabled
    click(app, "Save")
    assert open_dataset(folder).layout == "saved" and open_dataset(folder).labels.names == ("background", "label 1")
    assert sorted(folder.rglob("*")) == before, "the folder of the data is not written to"
    assert description_file(folder).is_relative_to(settings_root())


@pytest.mark.slow
def test_series_of_dicom_studies_are_named_as_modalities(empty_app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = empty_app / "studies"
    for n in (1, 2):
        image, label = head(n)
        stored = (10 * np.clip(image, 0, 100)).astype(np.uint16)
        common = {"StudyInstanceUID": f"9.{n}", "PatientID": f"p{n}"}
        for number, description in ((1, "t1_mprage"), (2, "FLAIR 3D"), (3, "localizer")):
            place = folder / f"p{n}" / str(number)
            write_case(place, stored, np.eye(4), f"1.{n}.{number}", SeriesDescription=description, **common)
        write_seg(folder / f"p{n}" / "seg.dcm", {"Lesion": label > 0}, np.eye(4), f"1.{n}.1")
    keep_checking(monkeypatch)
    app = open_page("data", data="studies")
    assert "2 subjects · MR" in texts(app)
    click(app, "File names")
    assert "2 cases · 2 with labels" in texts(app) and "2 further series match no modality" in texts(app)
    assert not app.error
    click(app, "Save")
    dataset = open_dataset(folder)
    assert (dataset.layout, dataset.modalities, dataset.ids) == ("saved", ("FLAIR", "T1"), ("p1", "p2"))

    for n in (1, 2):
        write_nifti(folder / f"p{n}_maske.nii.gz", (head(n)[1] > 0) * np.uint8(7), np.eye(4))
    commands: list[list[str]] = []
    monkeypatch.setattr(jobs, "start", lambda folder, arguments: commands.append(arguments))
    click(app, "File names")
    (field,) = (f for f in app.text_input if f.label == "Label maps of another format")
    field.set_value("{case}_maske.nii.gz").run()
    click(app, "Read the label values")
    report = Path(commands[0][commands[0].index("--report") + 1])
    report.parent.mkdir(parents=True)
    assert main(commands[0]) == 0
    app.run()
    assert not app.exception and "Saved as: background, label 7" in texts(app)
    click(app, "Save")
    dataset = open_dataset(folder)
    assert (dataset.modalities, dataset.labels.raw_values) == (("FLAIR", "T1"), (0, 7))
    assert [s.label.name for s in dataset.subjects if s.label] == ["p1_maske.nii.gz", "p2_maske.nii.gz"]


def test_the_rater_whose_label_maps_are_the_reference_is_chosen(
    empty_app: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_heads(empty_app / "heads", 3)
    (folder / "dataset.json").unlink()
    for file in [*(folder / "labelsTr").iterdir()]:
        stem = file.name.removesuffix(".nii.gz")
        shutil.copy(file, file.with_name(f"{stem}_anna.nii.gz"))
        file.rename(file.with_name(f"{stem}_ben.nii.gz"))
    labels = "labelsTr/{case}_{rater=anna|ben}.nii.gz"
    content = {"title": "heads", "images": "imagesTr/{case}.nii.gz", "labels": labels, "classes": {"brain": 1}}
    save_description(folder, content)
    keep_checking(monkeypatch)
    app = open_page("data", data="heads")
    click(app, "File names")
    (field,) = (box for box in app.selectbox if box.label == "Reference")
    assert field.options == ["anna, or the next one where it is missing", "anna", "ben"] and field.value == ""
    field.set_value("ben").run()
    click(app, "Save")
    assert {s.label.name.partition("_ben")[1] for s in open_dataset(folder).subjects if s.label} == {"_ben"}
    click(app, "File names")
    (field,) = (box for box in app.selectbox if box.label == "Reference")
    assert field.value == "ben" and not app.error
    field.set_value("").run()
    click(app, "Save")
    assert {s.label.name.partition("_anna")[1] for s in open_dataset(folder).subjects if s.label} == {"_anna"}


def test_patterns_that_contradict_each_other_cannot_be_saved(empty_app: Path) -> None:
    folder = write_heads(empty_app / "heads", 3)
    (folder / "dataset.json").unlink()
    app = open_page("data", data="heads")
    app.text_area[0].set_value("imagesTr/{case}_*.nii.gz").run()
    assert "are both image of case" in app.error[0].value and button(app, "Save").disabled
    app.text_area[0].set_value("imagesTr/{case.nii.gz").run()
    assert "expected an entity like" in app.error[0].value


def test_first_subject_is_shown_while_the_data_are_checked(empty_app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_heads(empty_app / "heads", 3)
    keep_checking(monkeypatch)
    app = open_page("data", data="heads")
    assert component_data(app, "layers")["rows"] == ["image", "truth"] and "Train on this" not in button_labels(app)
    assert not app.get("html"), "the viewer has a legend: there is no second one"


@pytest.mark.slow
def test_wrong_limit_of_uploads_leaves_the_rest_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGMENTARIUM_MAX_UPLOAD_GB", "much")
    app = open_page("data")
    assert "got 'much'" in texts(app) and "Make the demo data" in button_labels(app)


@pytest.mark.slow
def test_class_is_renamed_in_the_recipe(empty_app: Path) -> None:
    folder = write_heads(empty_app / "heads", 3)
    write_report(folder, DataOptions())
    app = open_page("data", data="heads")
    (field,) = (f for f in app.text_input if f.label == "Label value 1")
    assert field.value == "blob"
    field.set_value("lesion")
    click(app, "Rename")
    assert saved_recipe(folder) == Recipe(renamed={1: "lesion"})
    assert open_dataset(folder).labels.names == ("background", "lesion")
    (field,) = (f for f in app.text_input if f.label == "Label value 1")
    field.set_value("background")
    click(app, "Rename")
    assert any("Choose another name" in error.value for error in app.error)
    assert saved_recipe(folder) == Recipe(renamed={1: "lesion"}), "a name that is taken is not saved"


TUMOUR = {"core": 1, "oedema": 2, "enhancing": 4}
TUMOUR_REGIONS = {"whole tumour": [*TUMOUR], "tumour core": ["core", "enhancing"], "enhancing": ["enhancing"]}


@pytest.fixture
def tumours(empty_app: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set with regions that is described."""
    folder = write_heads(empty_app / "heads", 3)
    (folder / "dataset.json").unlink()
    patterns = {"images": "imagesTr/{case}.nii.gz", "labels": "labelsTr/{case}.nii.gz"}
    save_description(folder, {"title": "heads", **patterns, "classes": TUMOUR, "regions": TUMOUR_REGIONS})
    keep_checking(monkeypatch)
    return folder


Rows = list[dict[str, str]]


@pytest.fixture
def edits(monkeypatch: pytest.MonkeyPatch) -> dict[str, Callable[[Rows], Rows]]:
    """What a person does in a table, classes or regions; streamlit.testing cannot edit tables."""
    made: dict[str, Callable[[Rows], Rows]] = {}

    def table(rows: Rows, key: str, **_: object) -> Rows:
        edit = next((edit for name, edit in made.items() if f".{name}." in key), None)
        rows = [dict(row) for row in rows]
        return rows if edit is None else edit(rows)

    monkeypatch.setattr(st, "data_editor", table)
    return made


def with_cell(row: int, column: str, value: str) -> Callable[[Rows], Rows]:
    def edit(rows: Rows) -> Rows:
        rows[row][column] = value
        return rows

    return edit


def test_regions_follow_a_class_that_is_renamed(tumours: Path, edits: dict[str, Callable[[Rows], Rows]]) -> None:
    edits["classes"] = with_cell(0, "name", "Kern")
    app = open_page("data", data="heads")
    click(app, "File names")
    assert not app.error and "Regions (3)" in [e.label for e in app.expander]
    click(app, "Save")
    assert open_dataset(tumours).regions == {
        "whole tumour": ("Kern", "oedema", "enhancing"),
        "tumour core": ("Kern", "enhancing"),
        "enhancing": ("enhancing",),
    }


def test_regions_are_edited_and_kept_when_a_class_is_renamed_after_that(
    tumours: Path, edits: dict[str, Callable[[Rows], Rows]]
) -> None:
    app = open_page("data", data="heads")
    edits["regions"] = with_cell(1, "classes", "core, oedema")
    click(app, "File names")
    del edits["regions"]  # the table that follows begins with what was edited
    edits["classes"] = with_cell(1, "name", "Ödem")
    app.run()
    assert not app.error
    click(app, "Save")
    assert open_dataset(tumours).regions["tumour core"] == ("core", "Ödem")


@pytest.mark.parametrize(
    ("table", "edit", "problem"),
    [
        ("classes", with_cell(1, "colour", "red"), "colours such as #ff8000"),
        ("classes", with_cell(1, "values", "1"), "every value in one class"),
        ("classes", with_cell(1, "values", "x"), "whole numbers"),
        ("classes", with_cell(1, "name", "whole tumour"), "another name than that of a class"),
        ("regions", with_cell(0, "classes", "core, liver"), "got liver"),
    ],
)
def test_what_is_wrong_in_a_table_is_named_and_can_be_cancelled(
    tumours: Path, edits: dict[str, Callable[[Rows], Rows]], table: str, edit: Callable[[Rows], Rows], problem: str
) -> None:
    edits[table] = edit
    app = open_page("data", data="heads")
    click(app, "File names")
    assert problem in app.error[0].value.replace("\\", "")
    assert button(app, "Save").disabled and "Reset file names" in button_labels(app)
    click(app, "Cancel")
    assert not app.error


def test_kept_copies_of_the_data_are_removed_by_a_button_that_says_what_it_frees(empty_app: Path) -> None:
    dataset = open_dataset(write_heads(empty_app / "heads", 3))
    write_report(dataset.path, DataOptions())
    assert "Nothing is kept yet" in texts(open_page("data", data="heads"))
    st.cache_data.clear()  # the page counts what is kept every ten seconds
    preparation = Preparation(dataset.modalities, (), Normaliser(("z_score",)), None)
    cache = PreparedCache()
    for id in dataset.ids[:2]:
        found = cache.identify(dataset, id, preparation)
        assert found is not None
        cache.add(found.key, preparation.prepare(dataset, id))
    before = {file: file.read_bytes() for file in dataset.path.rglob("*") if file.is_file()}
    app = open_page("data", data="heads")
    size = format_bytes(cache.use().nbytes)
    assert f"2 prepared subjects, {size}" in texts(app) and size != format_bytes(0)
    app = click(app, f"Remove them: frees {size}")
    assert "Nothing is kept yet" in texts(app) and cache.use().entries == 0
    assert {file: file.read_bytes() for file in dataset.path.rglob("*") if file.is_file()} == before
