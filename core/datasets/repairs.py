"""Finds for each problem of a data set the changes of its recipe that mend it, by reading the subject with them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from core.datasets.findings import NOT_TRAINED_ON, Finding
from core.datasets.layouts.base import Dataset, Subject
from core.datasets.layouts.recipe import Repair, RepairKind
from core.datasets.loading import read_subject_headers
from core.datasets.subject_labels import read_label_values
from core.errors import UserError
from core.imaging.volume import NAN_FIX

MIN_LEFT = 2  # labelled subjects without which there is no training; no case is left out beyond that
MAX_CHANGED_SHARE = 0.01  # of the voxels of a label map that are no label; with more, it is another label map
DUPLICATE_FIX = "leave one of them out"
UNLABELLED_DUPLICATE_FIX = "leave out the one that is not trained on"
DUPLICATE_FIXES = (DUPLICATE_FIX, UNLABELLED_DUPLICATE_FIX)
OFFERED: dict[RepairKind, str] = {  # where
    "nan_is_zero": "a file holds NaN",
    "left_out": "a case has an error, or the image of another one (of two copies the one without a label map), as long "
    f"as {MIN_LEFT} labelled cases are left if all offers are taken",
    "take_qform": "the sform of a file contradicts its image, and the qform fits",
    "follow_image": "the orientation in a header contradicts the image, and voxels fit as stored: look at the picture",
    "nearest_label": f"at most {100 * MAX_CHANGED_SHARE:g} % of the voxels of a label map have a value "
    "that is no label",
}


def with_repairs(dataset: Dataset, findings: Sequence[Finding]) -> list[Finding]:
    """The findings, each with the repairs that are known to mend it, the gentlest first.

    A repair is offered only where the subject can be read with it. Leaving a case out is offered for errors of single
    subjects and for duplicates, as long as enough subjects are left if all of the offers are taken. It is not offered
    for a copy of subjects that all are to be left out themselves.
    """
    found: dict[str, tuple[Repair, ...]] = {}
    labelled, left_out = set(dataset.labelled_ids), set[str]()
    result = []
    for finding in findings:
        if not finding.subject or finding.subject not in dataset.ids:
            result.append(finding)
            continue
        repairs: tuple[Repair, ...] = ()
        is_error = finding.severity == "error" or finding.meaning == NOT_TRAINED_ON
        if is_error:
            if NAN_FIX in finding.fix:
                repairs = (Repair("nan_is_zero"),)
            elif finding.file:
                if finding.subject not in found:
                    found[finding.subject] = _readable_with(dataset, dataset.subject(finding.subject))
                repairs = found[finding.subject]
        can_leave_out = len(labelled - left_out - {finding.subject}) >= MIN_LEFT
        is_copy = finding.fix in DUPLICATE_FIXES and not left_out >= set(finding.subjects) - {finding.subject}
        if can_leave_out and (is_error or is_copy):
            left_out.add(finding.subject)
            repairs = (*repairs, Repair("left_out", finding.subject))
        result.append(replace(finding, repairs=repairs) if repairs else finding)
    return result


def suggested(findings: Sequence[Finding]) -> list[Repair]:
    """The first repair of each finding, each once."""
    return first_repairs(finding.repairs for finding in findings)


def first_repairs(offered: Iterable[Sequence[Repair]]) -> list[Repair]:
    """The first of the repairs that are offered for each problem, each once."""
    return list(dict.fromkeys(repairs[0] for repairs in offered if repairs))


def _readable_with(dataset: Dataset, subject: Subject) -> tuple[Repair, ...]:
    """Repairs with which a subject can be read that cannot be read now."""
    present = tuple(m for m in dataset.modalities if m in subject.images)
    kinds: tuple[RepairKind, ...] = ("take_qform", "follow_image")
    try:
        read_subject_headers(dataset, subject, present)
        kinds = ()
    except UserError:
        pass
    for kind in kinds:
        repair = Repair(kind, subject.id)
        changed = replace(dataset, recipe=dataset.recipe.with_repair(repair))
        try:
            read_subject_headers(changed, subject, present)
            return (repair,)
        except UserError:
            continue
    if kinds or subject.label is None or subject.masks:
        return ()
    return (Repair("nearest_label", subject.id),) if _has_few_wrong_values(dataset, subject) else ()


def _has_few_wrong_values(dataset: Dataset, subject: Subject) -> bool:
    """Whether a label map cannot be read because a small share of its values is no label."""
    assert subject.label is not None
    changed = replace(dataset, recipe=dataset.recipe.with_repair(Repair("nearest_label", subject.id)))
    try:
        geometry = read_subject_headers(dataset, subject).geometries[subject.label]
        volume = read_label_values(changed, subject, geometry)
    except UserError:
        return False
    return 0 < volume.changed_voxels <= MAX_CHANGED_SHARE * volume.data.size
