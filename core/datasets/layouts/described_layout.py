"""Layout of a described data set: its patterns, applied to the files of a folder, make subjects and a label space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from core.datasets.layouts.assignment import Assignment, Case
from core.datasets.layouts.base import Dataset, ImageRef, Subject, natural_key
from core.datasets.layouts.class_tables import read_tables
from core.datasets.layouts.listing import Listing, list_folder
from core.datasets.layouts.matching import match_files
from core.datasets.layouts.set_description import SetDescription
from core.errors import DatasetError
from core.formatting import format_count, format_list
from core.imaging.segments import segment_key
from core.labels import LabelSpace

MAX_PROBLEMS = 3  # named in an error
DICOM_FILES = "DICOM series with segmentations (SEG) or contours (RTSTRUCT) that refer to them"
UNLABELLED_CLASSES = {"background": (0,), "foreground": (1,)}  # of a data set without label maps


class DescribedLayout:
    """A folder layout that a description states."""

    def __init__(self, description: SetDescription, name: str = "") -> None:
        patterns = [i.pattern.text for i in description.images[:1]] + [p.text for p in description.labels[:1]]
        self.description = description
        self.name = name or description.name
        self.title = description.title
        self.expects = DICOM_FILES if description.flag("dicom") else f"files like {' and '.join(patterns)}"

    @property
    def is_automatic(self) -> bool:
        """Whether it is recognised without being named."""
        return self.description.flag("auto", True)

    def recognises(self, folder: Path) -> bool:
        """Whether most of the images in a folder fit the patterns."""
        return fits(match_files(self.description, list_folder(folder)))

    def open(self, folder: Path, ignore: str = "auto") -> Dataset:
        """List the subjects of a folder.

        Raises
        ------
        DatasetError
            If no file fits, files contradict each other, or nothing states the classes.
        """
        return self.open_listing(list_folder(folder), ignore)

    def open_listing(self, listing: Listing, ignore: str = "auto") -> Dataset:
        """As :meth:`open`, of a folder that is listed already."""
        found = match_files(self.description, listing)
        folder, described = listing.folder, self.description
        if not found.images:
            raise DatasetError(
                f"{folder}: expected {self.expects}; found none among {len(listing.images or listing.files)} files"
                + "".join(f"; {warning}" for warning in found.warnings)
            )
        if found.problems:
            more = f"; and {len(found.problems) - MAX_PROBLEMS} more" if len(found.problems) > MAX_PROBLEMS else ""
            raise DatasetError(
                f"{folder}: expected every image and label map once, got: {'; '.join(found.problems[:MAX_PROBLEMS])}"
                f"{more}; remove all but one, or describe the folder: data describe {folder}"
            )
        classes, colours = self._classes(found, listing)
        labels, value_map = _label_space(described, classes, colours, ignore)
        cases = _Subjects(found, classes, folder)
        return Dataset(
            path=folder,
            layout=self.name,
            name=folder.absolute().name,
            modalities=found.modalities,
            labels=labels,
            subjects=tuple(cases.subject(case) for case in found.cases),
            description=described.text("description"),
            licence=described.text("licence"),
            notes=(*_notes(found, listing), *cases.notes(), *described.notes),
            warnings=found.warnings,
            labels_follow_images=described.flag("labels_follow_images"),
            value_map=value_map,
            regions={name: parts for name, parts in described.regions.items() if set(parts) <= set(labels.names)},
            region_order=described.region_order,
            unlabelled_expected=True,
            later_mask_wins=described.text("overlap") == "later",
            segments=cases.value_of if described.flag("dicom") and not described.labels else {},
        )

    def _classes(
        self, found: Assignment, listing: Listing
    ) -> tuple[Mapping[str, tuple[int | str, ...]], dict[str, str]]:
        """Values, or texts of masks, by class; and the colours that are stated."""
        described = self.description
        if described.names_classes and described.classes is None and found.labels:
            named = found.segments or {text: "" for case in found.cases for text in case.labels}
            stated = {name: colour for name, colour in named.items() if colour}
            return {t: (t,) for t in sorted(named, key=natural_key)}, {**stated, **described.colours}
        entries = () if described.names_classes else read_tables(listing.folder, found.tables)
        if entries:
            repeated = {e.name for e in entries if [o.name for o in entries].count(e.name) > 1}
            names = {e.value: f"{e.name} {e.value}" if e.name in repeated else e.name for e in entries}
            values: dict[str, tuple[int | str, ...]] = {names.pop(0, "background"): (0,)}
            values |= {name: (value,) for value, name in names.items()}
            return values, {**{names.get(e.value, ""): e.colour for e in entries if e.colour}, **described.colours}
        if described.classes is not None:
            return described.classes, dict(described.colours)
        if not found.labels:
            return UNLABELLED_CLASSES, {}
        raise DatasetError(
            f"{listing.folder}: expected the names of the classes, which no file states ({len(found.cases)} cases of "
            f"the layout {self.name}); have the label maps read and name their values: data describe {listing.folder}"
        )


class _Subjects:
    """Makes subjects of cases."""

    def __init__(self, found: Assignment, classes: Mapping[str, tuple[int | str, ...]], folder: Path) -> None:
        self.found = found
        self.folder = folder
        self.has_masks = found.description.has_masks
        self.value_of = {
            segment_key(str(text)): value
            for value, texts in enumerate((t for n, t in classes.items() if n != "background"), start=1)
            for text in texts
        }
        self.order = list(self.value_of)
        self.rater = found.description.text("rater")
        self.raters = found.raters
        if self.rater and self.raters and self.rater not in self.raters:
            raise DatasetError(f"{folder}: rater: expected one of {', '.join(self.raters)}; got {self.rater!r}")
        self.unlisted: set[str] = set()
        self.incomplete: list[str] = []
        self.replaced: list[str] = []

    def subject(self, case: Case) -> Subject:
        images = {m: ImageRef(self.folder / case.images[m]) for m in self.found.modalities if m in case.images}
        if self.has_masks:
            texts = [t for t in case.labels if t.casefold() in self.value_of]
            self.unlisted.update(t for t in case.labels if t not in texts)
            texts.sort(key=lambda t: self.order.index(t.casefold()))
            masks = {self.folder / case.labels[t]: self.value_of[t.casefold()] for t in texts}
            if masks and set(masks.values()) < set(self.value_of.values()):
                self.incomplete.append(case.id)
            return Subject(case.id, images, next(iter(masks), None), masks, case.entities)
        label = self._label(case)
        raters = {r: self.folder / f for r, f in case.labels.items() if r}
        file = None if label is None else self.folder / label
        return Subject(case.id, images, file, entities=case.entities, raters=raters)

    def _label(self, case: Case) -> str | None:
        """The label map of the chosen rater; by default of the first one, or where that has none of the next."""
        if not self.raters or "" in case.labels:
            return case.labels.get("")
        if self.rater:
            return case.labels.get(self.rater)
        chosen = next((r for r in self.raters if r in case.labels), None)
        if chosen not in (None, self.raters[0]):
            self.replaced.append(case.id)
        return None if chosen is None else case.labels[chosen]

    def notes(self) -> list[str]:
        """Notes on raters and on masks that are no class."""
        notes = []
        if self.raters:
            chosen = self.rater or self.raters[0]
            where = f"; where it has none, the next one's ({format_list(self.replaced, 4)})" if self.replaced else ""
            notes.append(f"label maps of the raters {', '.join(self.raters)}: those of {chosen} are read{where}")
        if self.incomplete:
            ids = format_list(self.incomplete, 4)
            notes.append(f"subjects without a mask for each class: what they lack is background there: {ids}")
        if self.unlisted:
            notes.append(f"masks that are no class are not read: {format_list(sorted(self.unlisted), 6)}")
        segments = [name for name in self.found.segments if segment_key(name) not in self.value_of]
        if segments:
            notes.append(f"segments that are no class are not read: {format_list(segments, 6)}")
        return notes


def fits(found: Assignment) -> bool:
    """Whether a description may be that of a folder: it explains at least half of the files named like images, has the
    label maps that it needs, or the images of all modalities instead, and its classes are known."""
    described = found.description
    explains = bool(found.images) and found.matched >= len(found.left_over)
    is_complete = described.flag("needs_labels") and set(described.modalities.values()) <= set(found.modalities)
    needs_labels = described.flag("general") or (described.flag("needs_labels") and not is_complete)
    return explains and found.classes_known and (bool(found.labels) or not needs_labels)


def _label_space(
    described: SetDescription,
    classes: Mapping[str, tuple[int | str, ...]],
    colours: Mapping[str, str],
    ignore: str,
) -> tuple[LabelSpace, dict[int, int]]:
    """The label space, and the value of its class by other values that are merged into it."""
    names: list[tuple[int, str]] = []
    value_map: dict[int, int] = {}
    if described.names_classes:
        names = [(0, "background"), *enumerate((n for n in classes if n != "background"), start=1)]
    else:
        for name, values in classes.items():
            whole = sorted((int(v) for v in values), key=lambda v: v != 0)
            names.append((whole[0], name))
            value_map.update(dict.fromkeys(whole[1:], whole[0]))
    stated = {value: colours[name] for value, name in names if name in colours}
    if ignore == "auto" and described.text("ignore"):
        ignore = described.text("ignore")
    if len(names) == 1:
        raise DatasetError(f"{described.name}: expected at least one class besides the background, got none")
    labels = LabelSpace.from_raw(names, ignore, stated)
    if labels.ignore is not None:
        value_map.pop(labels.ignore.raw, None)
    return labels, value_map


def _notes(found: Assignment, listing: Listing) -> list[str]:
    """What a person should know of the files."""
    notes = []
    if found.left_over:
        files = format_list(list(found.left_over), 4)
        notes.append(
            f"{format_count(len(found.left_over), 'image file')} not read, no pattern of the layout fits: {files}"
        )
    if listing.hidden:
        notes.append(f"{listing.hidden} hidden files, such as macOS's own '._' files, are ignored")
    unlabelled = [case.id for case in found.cases if case.images and not case.labels]
    if unlabelled and (found.description.labels or found.labels):
        count = format_count(len(unlabelled), "subject")
        notes.append(f"{count} without label map, for prediction only: {format_list(unlabelled, 4)}")
    return [*notes, *found.notes]


def modality_table(cases: Sequence[Case], modalities: Sequence[str]) -> list[dict[str, str]]:
    """What each case would be: its id, its file of each modality and its label maps."""
    return [
        {"case": c.id, **{m: c.images.get(m, "") for m in modalities}, "labels": ", ".join(c.labels.values())}
        for c in cases
    ]
