"""Proposes a description of a folder from the names of its files: what names a case, a modality, a label map."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from core.datasets.layouts.assignment import Assignment
from core.datasets.layouts.dicom_files import FoundFiles
from core.datasets.layouts.dicom_sets import assign_dicom
from core.datasets.layouts.dicom_studies import propose_modalities
from core.datasets.layouts.files import image_stem
from core.datasets.layouts.listing import Listing
from core.datasets.layouts.matching import match_files
from core.datasets.layouts.name_words import MODALITY_WORDS, says_label, words
from core.datasets.layouts.patterns import escape
from core.datasets.layouts.set_description import parse_description
from core.datasets.layouts.word_proposal import find_subjects
from core.errors import DatasetError

NAME = "description"  # of a description that is proposed or edited, for errors
MAX_TEMPLATES = 400  # of one way to name cases; more are no pattern
NUMBERED_ENTITIES = ("session", "scan", "number")  # of images that only a number distinguishes; the first free one
MAX_IMAGES = 40  # patterns of images in a proposal
MAX_LEFT_OVER = 0.25  # of the files, beyond which words do not explain a folder

RATER_WORDS = ("rater", "observer", "reader", "annotator", "expert", "gutachter", "lecteur", "lector")


@dataclass(frozen=True)
class _Keying:
    """One way to name cases: which part of each path is the case.

    Attributes
    ----------
    templates : dict. Paths with ``{case}`` in place of the case, each with the cases that have it.
    label_templates : frozenset of str, optional. Those of label maps; by default judged by their words.
    """

    templates: Mapping[str, frozenset[Hashable]]
    label_templates: frozenset[str] | None = None

    @cached_property
    def cases(self) -> frozenset[Hashable]:
        return frozenset(c for cases in self.templates.values() for c in cases)

    @cached_property
    def labels(self) -> list[str]:
        return [t for t in self.templates if self._is_label(t)]

    @cached_property
    def images(self) -> list[str]:
        return [t for t in self.templates if not self._is_label(t)]

    def _is_label(self, template: str) -> bool:
        return _is_label(template) if self.label_templates is None else template in self.label_templates

    @property
    def score(self) -> tuple[float, float]:
        """How well it explains the files: whether most cases have an image and a label map, and how many files the
        templates would have in a full table of cases."""
        files = sum(len(cases) for cases in self.templates.values())
        filled = files / (len(self.cases) * len(self.templates))
        of_images = set[Hashable]().union(*(self.templates[t] for t in self.images))
        of_labels = set[Hashable]().union(*(self.templates[t] for t in self.labels))
        paired = len(of_images & of_labels) / len(self.cases)
        several = 1.0 if len(self.cases) > 1 else 0.5
        return several * filled * (0.3 + paired) / (1 + 0.02 * len(self.templates)), len(self.cases)


@dataclass(frozen=True)
class Proposal:
    """A proposed description.

    Attributes
    ----------
    content : dict. A table of :data:`core.datasets.layouts.set_description.KEYS`, without classes.
    assignment : Assignment, optional. What it makes of the folder, where that was looked at to judge it.
    """

    content: dict[str, Any]
    assignment: Assignment | None = None


def propose(listing: Listing) -> Proposal:
    """A description of a folder.

    Raises
    ------
    DatasetError
        If the folder holds no images, or no way to name cases explains them.
    """
    if listing.dicom_folders and all(map(_is_label, listing.images)):
        return Proposal(_of_dicom(listing))
    if not listing.images:
        raise DatasetError(f"{listing.folder}: expected image files, found none among {len(listing.files)} files")
    by_words = find_subjects(listing.images)
    if by_words is not None:
        content = _content(listing, _Keying(by_words.templates, by_words.labels))
        found = None if content is None else match_files(parse_description(NAME, content), listing)
        if content is not None and found is not None and _explains(found, listing):
            return Proposal(content, found)
    keyings = [k for k in _keyings(listing.images) if k is not None]
    best = max(keyings, key=lambda k: k.score, default=None)
    content = None if best is None else _content(listing, best)
    if content is None:
        raise DatasetError(
            f"{listing.folder}: expected files whose names say case and modality, found no rule in "
            f"{len(listing.images)} names; give the patterns: data describe {listing.folder} --images PATTERN "
            "--labels PATTERN"
        )
    return Proposal(content)


def _of_dicom(listing: Listing) -> dict[str, Any]:
    """A description of DICOM files: modalities by descriptions of series, and label maps of another format that are
    named like the subjects."""
    content: dict[str, Any] = {"title": listing.folder.absolute().name, "dicom": True}
    if modalities := propose_modalities(FoundFiles(listing)):
        content["modalities"] = modalities
    if listing.images:
        found = assign_dicom(parse_description(NAME, content), listing)
        ids = {case.id.casefold() for case in found.cases}
        templates = Counter(t for file in listing.images if (t := _with_case(file, ids)))
        if templates:
            content["labels"] = templates.most_common(1)[0][0]
    return content


def _with_case(file: str, ids: Collection[str]) -> str:
    """A path with ``{case}`` in place of the id of a subject; "" if it holds none."""
    *folders, name = file.split("/")
    stem = image_stem(name)
    starts = [stem[: m.start()] for m in re.finditer(r"[_\-. ]", stem)]
    for text in (*folders, stem, *reversed(starts)):
        if text.casefold() in ids:
            parts = re.split(rf"(?<![^\W_]){re.escape(text)}(?![^\W_])", file)  # between separators
            return "{case}".join(map(escape, parts))
    return ""


def _content(listing: Listing, keying: _Keying) -> dict[str, Any] | None:
    """The description of one way to name cases; ``None`` if it has too many kinds of images, or if what would be a
    modality distinguishes label maps too: those are different subjects."""
    if len(keying.images) > MAX_IMAGES or _mixes_subjects(keying):
        return None
    images, modalities = _image_patterns(keying)
    content: dict[str, Any] = {"title": listing.folder.absolute().name, "images": images}
    if keying.labels:
        content["labels"] = _label_patterns(keying)
    if modalities:
        content["modalities"] = modalities
    return content


def _mixes_subjects(keying: _Keying) -> bool:
    """Whether images of a case differ by the same texts as its label maps, or cases are named like modalities."""
    named = [c for c in keying.cases if isinstance(c, str) and (c.lower() in MODALITY_WORDS or says_label(words(c)))]
    if len(keying.cases) > 1 and 2 * len(named) > len(keying.cases):
        return True
    if _are_disjoint(keying, keying.images):
        return False
    return len(_differing_texts(keying.images) & _differing_texts(keying.labels)) > 1


def _differing_texts(templates: Sequence[str]) -> set[str]:
    """Texts between separators that some of several templates have, not all."""
    found = [set(re.split(r"[/_\-. ]", t)) for t in templates]
    return set().union(*found) - set.intersection(*found) if found else set()


def _explains(found: Assignment, listing: Listing) -> bool:
    """Whether a description explains most files of a folder without contradiction, and pairs images with label maps."""
    paired = sum(bool(c.images and c.labels) for c in found.cases)
    with_image = sum(bool(c.images) for c in found.cases)
    return (
        not found.problems
        and len(found.cases) > 1
        and len(found.left_over) <= MAX_LEFT_OVER * len(listing.images)
        and 2 * with_image > len(found.cases)
        and (not found.labels or 2 * paired >= min(with_image, sum(bool(c.labels) for c in found.cases)))
    )


def _keyings(files: Sequence[str]) -> Iterable[_Keying | None]:
    """Ways to name cases: by a folder at each level, by the file name, or by the file name without its last or first
    part."""
    deepest = max(f.count("/") for f in files)
    for level in range(deepest):
        yield _keying(files, lambda f, level=level: _split_at_folder(f, level))
    yield _keying(files, _split_stem)
    yield _keying(files, lambda f: _split_part(f, last=True))
    yield _keying(files, lambda f: _split_part(f, last=False))


def _keying(files: Sequence[str], split: Any) -> _Keying | None:
    templates: dict[str, set[str]] = {}
    for file in files:
        found = split(file)
        if found is None:
            continue
        case, template = found
        templates.setdefault(template, set()).add(case)
        if len(templates) > MAX_TEMPLATES:
            return None
    return _Keying({t: frozenset(c) for t, c in templates.items()}) if templates else None


def _split_at_folder(file: str, level: int) -> tuple[str, str] | None:
    """Case and template where the folder at a level names the case, and maybe the parts below it too."""
    parts = file.split("/")
    if len(parts) <= level + 1:
        return None
    case = parts[level]
    before = [escape(p) for p in parts[:level]]
    after = [escape(p).replace(escape(case), "{case}") if len(case) > 1 else escape(p) for p in parts[level + 1 :]]
    return case, "/".join([*before, "{case}", *after])


def _split_stem(file: str) -> tuple[str, str]:
    folder, _, name = file.rpartition("/")
    stem = image_stem(name)
    return stem, _join(folder, "{case}" + escape(name[len(stem) :]))


def _split_part(file: str, last: bool) -> tuple[str, str] | None:
    """Case and template where the last, or first, part of the file name says what it is."""
    folder, _, name = file.rpartition("/")
    stem = image_stem(name)
    separated = re.fullmatch(r"(.+)([_\-. ])([^_\-. ]+)" if last else r"([^_\-. ]+)([_\-. ])(.+)", stem)
    if separated is None:
        # The case itself may be the whole name, such as p1 beside p1_seg.
        return (stem, _join(folder, "{case}" + escape(name[len(stem) :]))) if last else None
    case, part = (separated[1], separated[3]) if last else (separated[3], separated[1])
    if _is_number(part):
        return _split_stem(file)
    text = f"{{case}}{separated[2]}{escape(part)}" if last else f"{escape(part)}{separated[2]}{{case}}"
    return case, _join(folder, text + escape(name[len(stem) :]))


def _is_number(text: str) -> bool:
    """Whether a text is a number, but none of a channel, which has four digits."""
    return text.isdigit() and len(text) != 4


def _join(folder: str, name: str) -> str:
    return "/".join([*(escape(p) for p in folder.split("/") if p), name])


def _is_label(template: str) -> bool:
    """Whether a path names a label map: by a word of the file name, else of its folders; words of images win there."""
    *folders, name = template.split("/")
    found = words(image_stem(name.replace("\\", "")))
    if says_label(found):
        return True
    if not MODALITY_WORDS.isdisjoint(found):
        return False
    return says_label(words("/".join(folders)))


def _image_patterns(keying: _Keying) -> tuple[Any, dict[str, str]]:
    """The images of a description, and the names of their modalities."""
    templates = _frequent(keying, keying.images or list(keying.templates))
    if len(templates) == 1:
        name = _modality_name(templates[0])
        return templates[0], ({"image": name} if name else {})
    token = _varying(templates)
    if token is not None and _are_disjoint(keying, templates) and not _name_modalities(token[2]):
        return _site_pattern(token), {}
    if token is not None:
        before, after, values = token
        if not keying.labels and all(_is_number(v) for v in values):  # they do not say what an image is
            name = next(n for n in NUMBERED_ENTITIES if f"{{{n}" not in before + after)
            return f"{before}{{{name}}}{after}", {}
        entity = "channel" if all(re.fullmatch(r"\d{4}", v) for v in values) else "modality"
        names = {v: _modality_name(v) or v for v in values}
        if len(set(names.values())) < len(values):
            names = {v: v for v in values}
        return f"{before}{{{entity}}}{after}", names
    return {_label_of(t, templates): t for t in templates}, {}


def _label_patterns(keying: _Keying) -> Any:
    """The label maps of a description: one pattern, or one with {rater}, or one with {label}."""
    templates = _frequent(keying, keying.labels)
    if len(templates) == 1:
        return templates[0]
    token = _varying(templates)
    if token is None:
        return templates if _are_disjoint(keying, templates) else templates[:1]
    if _are_disjoint(keying, templates):
        return _site_pattern(token)
    before, after, values = token
    context = (before + " ".join(values)).lower()
    entity = "rater" if any(w in context for w in RATER_WORDS) else "label"
    return f"{before}{{{entity}={'|'.join(values)}}}{after}"


def _name_modalities(values: Iterable[str]) -> bool:
    """Whether each of several texts holds the word of a modality."""
    return all(not MODALITY_WORDS.isdisjoint(words(v)) for v in values)


def _are_disjoint(keying: _Keying, templates: Sequence[str]) -> bool:
    """Whether no case has files of two templates: they are parts of the data set, such as sites, and no modalities."""
    return sum(len(keying.templates[t]) for t in templates) == len(
        set().union(*(keying.templates[t] for t in templates))
    )


def _site_pattern(token: tuple[str, str, list[str]]) -> str:
    before, after, values = token
    return f"{before}{{site={'|'.join(values)}}}{after}"


def _frequent(keying: _Keying, templates: Sequence[str]) -> list[str]:
    """Templates that more than one case in ten has; single files are left over."""
    most = max(len(keying.templates[t]) for t in templates)
    return [t for t in templates if len(keying.templates[t]) * 10 >= most]


def _varying(templates: Sequence[str]) -> tuple[str, str, list[str]] | None:
    """The part in which templates differ: text before and after it, and its values; ``None`` if it is no part of a
    name."""
    before = _common_start(templates)
    before = before[: max((m.end() for m in re.finditer(r"[_\-. /}]|^", before)), default=0)]
    rest = [t[len(before) :] for t in templates]
    after = _common_start([r[::-1] for r in rest])[::-1]
    starts = [m.start() for m in re.finditer(r"[_\-. /{]|\\|$", after)]
    after = after[starts[0] :] if starts else ""
    values = [r[: len(r) - len(after)] for r in rest]
    usable = all(v and "{" not in v and "/" not in v for v in values) and "{case}" in before + after
    return (before, after, values) if usable and len(set(values)) == len(values) else None


def _common_start(texts: Sequence[str]) -> str:
    """The characters that all texts begin with."""
    first, last = min(texts), max(texts)
    length = next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[:length]


def _modality_name(text: str) -> str:
    """The name of the modality that a text states; "" if it states none."""
    found = list(dict.fromkeys(w for w in words(text) if w in MODALITY_WORDS))
    return found[0].upper() if len(found) == 1 else ""


def _label_of(template: str, others: Sequence[str]) -> str:
    """A name for the images of one template: what its words have that others lack."""
    counts = Counter(w for t in others for w in set(words(t)))
    own = list(dict.fromkeys(w for w in words(image_stem(template)) if counts[w] < len(others)))
    named = [w.upper() if w in MODALITY_WORDS else w for w in own]
    return " ".join(named) or template.replace("{case}", "").strip("/_-. ") or "image"
