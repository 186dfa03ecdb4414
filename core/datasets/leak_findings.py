"""Findings on leaks between the sides of a split, for the data doctor (any split) and for training (its own)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from core.datasets.findings import Finding
from core.datasets.layouts.base import natural_key
from core.datasets.leaks import Kind, Leak
from core.datasets.repairs import DUPLICATE_FIX, UNLABELLED_DUPLICATE_FIX
from core.datasets.split_groups import Entities, person_of
from core.datasets.splits import Split
from core.formatting import format_list

MAX_PAIRS = 5  # across a split, or of slices, that are named one by one; more are one finding
MEANING = "training on one and validating on the other inflates scores"
MESSAGES: dict[Kind, str] = {
    "same": "its image is the same as that of {}",
    "resampled": "its image is that of {}, resampled or hardly changed",
    "turned": "its image is that of {}, mirrored or turned",
    "slices": "its image and that of {} are neighbouring slices of one volume",
}
SLICE_FIX = "keep slices of a volume on one side: name the volume in the patterns (data describe), then --group-by"
SCORES = "scores on the held-out side are those of voxels that were seen in training: they say nothing of unseen images"
NOT_TRAINED = "it is not trained on, so no score is inflated; its segmentation says nothing of unseen images"
PERSONS_SCORES = "the images of a person are alike: scores are better than those of other persons will be"


def judge_leaks(
    leaks: Sequence[Leak], entities: Mapping[str, Entities], split: Split | None = None, files: Mapping[str, str] = {}
) -> list[Finding]:
    """Findings on leaks.

    Parameters
    ----------
    leaks : sequence of Leak. Pairs of images that are not independent.
    entities : mapping. Parts of the file names by id of the labelled subjects.
    split : Split, optional. Only pairs of subjects on two sides of it count; without one all pairs of labelled subjects
        do, and copies of which one or none is labelled, and persons with several images, are notes.
    files : mapping. Image file by subject id.
    """
    roles = split.role_of if split is not None else {}
    if split is None:
        across = [leak for leak in leaks if all(id in entities for id in leak.subjects)]
        notes = _judge_copies([leak for leak in leaks if leak not in across], entities, files)
    else:
        across, notes = [leak for leak in leaks if _is_across(leak.subjects, roles)], []
    findings: list[Finding] = []
    for kind, message in MESSAGES.items():
        pairs = [leak.subjects for leak in across if leak.kind == kind]
        fix = SLICE_FIX if kind == "slices" else DUPLICATE_FIX
        text = f"{message}: {MEANING}"
        if len(pairs) > MAX_PAIRS and (kind == "slices" or (split is not None and kind != "same")):
            named = format_list([f"{a} and {b}" for a, b in pairs], 4)
            text = f"{len(pairs)} pairs of subjects, {named}: {text[len('its image ') :].format('the other')}"
            subjects = tuple(sorted({id for pair in pairs for id in pair}, key=natural_key))
            findings.append(Finding("warning", text, fix=fix, subjects=subjects, meaning=SCORES))
            continue
        for id, others in _by_second(pairs).items():
            subjects, named = (*others, id), format_list(others, 3)
            findings.append(
                Finding("warning", text.format(named), id, files.get(id, ""), fix, subjects=subjects, meaning=SCORES)
            )
    return findings + notes + _judge_persons(entities, split)


def _judge_copies(leaks: Sequence[Leak], trained: Collection[str], files: Mapping[str, str]) -> list[Finding]:
    """Notes on copies of which at most one is trained on: each is on the one that is not, or on the second."""
    findings = []
    for kind, message in MESSAGES.items():
        pairs = [leak.subjects if leak.subjects[1] not in trained else leak.subjects[::-1] for leak in leaks]
        pairs = [pair for pair, leak in zip(pairs, leaks, strict=True) if leak.kind == kind != "slices"]
        for id, others in _by_second(pairs).items():
            text, file = message.format(format_list(others, 3)), files.get(id, "")
            fix = UNLABELLED_DUPLICATE_FIX if any(other in trained for other in others) else DUPLICATE_FIX
            subjects = (*others, id)
            findings.append(Finding("note", text, id, file, fix, subjects=subjects, meaning=NOT_TRAINED))
    return findings


def _by_second(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """The first ids of pairs by the second."""
    found: dict[str, list[str]] = {}
    for first, second in pairs:
        found.setdefault(second, []).append(first)
    return found


def _judge_persons(entities: Mapping[str, Entities], split: Split | None) -> list[Finding]:
    """A warning for persons with images on two sides; without a split a note on those with several images."""
    persons: dict[str, list[str]] = {}
    for id, found in entities.items():
        if person := person_of(found):
            persons.setdefault(person.casefold(), []).append(id)
    several = {person: ids for person, ids in persons.items() if len(ids) > 1}
    if split is None:
        if not several:
            return []
        count, images = len(several), sum(map(len, several.values()))
        text = f"{count} of {len(persons)} persons have several images, {images} together: a split keeps them together"
        return [Finding("note", text, fix="--group-by none splits them anyway")]
    roles = split.role_of
    torn = {
        ids[0]: [id for id in ids if id in roles]
        for ids in several.values()
        if any(_is_across((a, b), roles) for a in ids for b in ids)
    }
    if not torn:
        return []
    named = format_list([" and ".join(ids[:3]) for ids in torn.values()], 4)
    text = f"images of {len(torn)} persons are both trained on and held out, {named}: scores are inflated"
    subjects = tuple(id for ids in torn.values() for id in ids)
    fix = "keep a person on one side: --group-by person"
    return [Finding("warning", text, fix=fix, subjects=subjects, meaning=PERSONS_SCORES)]


def _is_across(pair: tuple[str, str], roles: Mapping[str, str]) -> bool:
    """Whether two subjects have different roles, one of which is training."""
    first, second = (roles.get(id) for id in pair)
    return first != second and "train" in (first, second) and None not in (first, second)
