"""Several files that are one image or label map of a subject: runs of BIDS are chosen by a stated rule."""

from __future__ import annotations

from pathlib import Path

from core.datasets.layouts.assignment import Assignment, assign
from core.datasets.layouts.known_sets import known_sets
from core.datasets.layouts.listing import Listing
from core.datasets.layouts.set_description import parse_description
from core.datasets.layouts.several_files import RULE


def found(files: list[str], name: str = "bids") -> Assignment:
    return assign(known_sets()[name], Listing(Path("/data"), tuple(sorted(f"{f}.nii.gz" for f in files))))


def read(result: Assignment) -> dict[str, tuple[dict[str, str], dict[str, str]]]:
    def names(files: dict[str, str]) -> dict[str, str]:
        return {role: file.rpartition("/")[2].removesuffix(".nii.gz") for role, file in files.items()}

    assert not result.problems and not result.left_over
    return {case.id: (names(case.images), names(case.labels)) for case in result.cases}


def test_of_several_runs_the_first_is_read_and_the_others_are_named() -> None:
    files = [f"sub-{n}/anat/sub-{n}_run-{run}_T1w" for n in (1, 2) for run in (2, 1, 10)]
    files += [f"derivatives/manual/sub-{n}/anat/sub-{n}_dseg" for n in (1, 2)]
    result = found([*files, "sub-1/anat/sub-1_T2w"])
    assert read(result) == {
        "sub-1": ({"T1w": "sub-1_run-1_T1w", "T2w": "sub-1_T2w"}, {"": "sub-1_dseg"}),
        "sub-2": ({"T1w": "sub-2_run-1_T1w"}, {"": "sub-2_dseg"}),
    }
    assert result.modalities == ("T1w", "T2w") and not result.warnings
    (note,) = result.notes
    assert note.startswith("4 files of several for one image or label map not read: ") and note.endswith(RULE)
    assert "sub-1_run-2_T1w" in note


def test_the_image_is_that_which_the_label_map_names() -> None:
    anat = "sub-1/anat/sub-1"
    files = [f"{anat}_{acq}_run-{run}_T1w" for acq in ("acq-fast", "acq-high") for run in (1, 2)]
    assert read(found([*files, f"{anat}_acq-high_run-2_dseg"])) == {
        "sub-1": ({"T1w": "sub-1_acq-high_run-2_T1w"}, {"": "sub-1_acq-high_run-2_dseg"})
    }


def test_the_kind_that_most_subjects_have_is_read_in_all_and_label_maps_of_other_kinds_are_warned_of() -> None:
    files = [f"sub-{n}/anat/sub-{n}_T1w" for n in (1, 2, 3)]
    files += [f"derivatives/fs/sub-{n}/anat/sub-{n}_desc-aseg_dseg" for n in (1, 2, 3)]
    files += [f"derivatives/fs/sub-{n}/anat/sub-{n}_desc-aparc_dseg" for n in (1, 2)]
    result = found(files)
    assert {labels[""] for _, labels in read(result).values()} == {f"sub-{n}_desc-aseg_dseg" for n in (1, 2, 3)}
    (warning,) = result.warnings
    assert "label maps of several kinds" in warning and "desc-aseg" in warning and "not of" in warning
    assert "desc-aparc" in warning and "data describe --labels" in warning
    native = [f"derivatives/fs/sub-{n}/anat/sub-{n}{space}_dseg" for n in (1, 2) for space in ("", "_space-MNI")]
    assert {labels[""] for _, labels in read(found([*files[:2], *native])).values()} == {"sub-1_dseg", "sub-2_dseg"}


def test_masks_of_runs_are_those_of_the_run_that_is_read() -> None:
    files = [f"sub-1/anat/sub-1_run-{run}_T1w" for run in (1, 2)]
    masks = [f"derivatives/m/sub-1/anat/sub-1_run-2_label-{label}_mask" for label in ("GM", "WM")]
    assert read(found([*files, *masks], "bids-masks")) == {
        "sub-1": (
            {"T1w": "sub-1_run-2_T1w"},
            {"GM": "sub-1_run-2_label-GM_mask", "WM": "sub-1_run-2_label-WM_mask"},
        )
    }


def test_two_files_of_one_name_are_refused_still() -> None:
    files = ("sub-1/anat/sub-1_T1w.nii", "sub-1/anat/sub-1_T1w.nii.gz", "sub-1/anat/sub-1_dseg.nii.gz")
    (problem,) = assign(known_sets()["bids"], Listing(Path("/data"), files)).problems
    assert files[0] in problem and files[1] in problem


def test_without_the_choice_several_files_are_refused() -> None:
    content = {k: v for k, v in known_sets()["bids"].content.items() if k != "several"}
    files = tuple(f"sub-1/anat/sub-1_run-{run}_T1w.nii.gz" for run in (1, 2))
    assert len(assign(parse_description("mine", content), Listing(Path("/data"), files)).problems) == 1
