"""DICOM studies with several series each: which series is which modality, by its description or its protocol."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from core.datasets.layouts.base import natural_key
from core.datasets.layouts.dicom_files import FoundFiles, FoundSeries
from core.formatting import format_count, format_list
from core.imaging.dicom_index import DicomSeries, LabelObject

MIN_STUDIES = 0.5  # of the studies that have a modality which is proposed
NO_MODALITY = re.compile(
    r"locali[sz]er|scout|survey|topogram|calibration|\b(mip|mpr|screen ?save|phoenix|report|posdisp|reference)\b"
)
# Modalities by words of a description, the first that fits; separators are spaces.
NAMES = (
    ("FLAIR", r"flair|tirm|dark ?fluid"),
    ("ADC", r"\badc\b|apparent diffusion"),
    ("DWI", r"dwi|\btrace|diffusion|\bb ?[1-9]\d00\b"),
    ("SWI", r"\bswi"),
    ("T1CE", r"(\bt1|mp ?rage|bravo|spgr|\bvibe).*(\+ ?c\b|\bgad|\bgd|\bce\b|\bkm\b|\bpost\b|contrast|\bcm\b)"),
    ("T1CE", r"(\bgad|\bgd|\bce\b|\bkm\b|\bpost\b|contrast).*(\bt1|mp ?rage|bravo|spgr|\bvibe)|\bt1(ce|gd|c|km)\b"),
    ("T1", r"\bt1|mp ?rage|bravo|spgr"),
    ("T2", r"\bt2"),
    ("PD", r"\bpdw?\b"),
    ("MRA", r"\btof|\bmra\b"),
)
CODES = {"CT": "CT", "PT": "PET"}  # modality by DICOM's code, where descriptions name none


@dataclass(frozen=True)
class Study:
    """A subject: series of one study.

    Attributes
    ----------
    parts : tuple of str. Names that tell it apart: of its folders.
    images : dict. Series by modality.
    patient : str. ID of the patient.
    """

    parts: tuple[str, ...]
    images: Mapping[str, FoundSeries]
    patient: str

    @property
    def labels(self) -> list[tuple[str, LabelObject]]:
        """Files of segmentations and contours that refer to one of its series."""
        return [label for series in self.images.values() for label in series.labels]


def names_series(modalities: Mapping[str, str], found: FoundFiles) -> bool:
    """Whether names of modalities belong to descriptions of series, instead of codes such as MR."""
    return bool(
        {text.casefold() for text in modalities} - {s.series.modality.casefold() for s in found.series.values()}
    )


def choose_studies(modalities: Mapping[str, str], found: FoundFiles) -> tuple[list[Study], tuple[str, ...]]:
    """The studies of a folder, with a series for each modality; those without a label map are for prediction.

    Of several series of one modality, the one with a label map is read, else the last; series whose coordinates differ
    from those of the labelled, else of the first series, are not read. Both are warnings of ``found``.

    Parameters
    ----------
    modalities : mapping. Name of the modality by text of a series, in the order of the channels: its description or
        protocol, in which ``*`` and ``?`` stand for any text and character. Texts without these come first.
    found : FoundFiles. The files; notes and warnings are added.

    Returns
    -------
    tuple of list of Study and tuple of str. Studies with at least one modality, and the modalities that were found.
    """
    order = tuple(dict.fromkeys(modalities.values()))
    studies: dict[tuple[str, ...], dict[str, list[FoundSeries]]] = {}
    unread = []
    for series in found.series.values():
        name = _modality(series.series, modalities)
        if name is None:
            unread.append(series)
            continue
        # Without a study, nothing says that two series are of one patient.
        key = (series.series.patient, series.series.study) if series.series.study else ("", "", series.series.uid)
        studies.setdefault(key, {}).setdefault(name, []).append(series)
    chosen = [_study({m: of_study[m] for m in order if m in of_study}, found) for of_study in studies.values()]
    if unread:
        titles = format_list([_title(s) for s in unread], 4)
        found.notes.append(f"{len(unread)} further series match no modality and are not read: {titles}")
    lost = sorted(file for series in unread for file, _ in series.labels)
    if lost:
        found.warnings.append(
            f"{format_count(len(lost), 'label map')} of series that match no modality, not read: {format_list(lost, 3)}"
        )
    names = {m for study in chosen for m in study.images}
    return chosen, tuple(m for m in order if m in names)


def propose_modalities(found: FoundFiles) -> dict[str, str]:
    """Name of the modality by description of series, where most studies have several; else empty."""
    studies = {s.series.study for s in found.series.values()}
    labelled = {s.series.study for s in found.series.values() if s.labels}
    texts: dict[str, str] = {}
    having: dict[str, set[str]] = {}
    for series in found.series.values():
        text = series.series.description or series.series.protocol
        name = modality_of(series.series) if text else ""
        if name:
            texts.setdefault(text, name)
            having.setdefault(name, set()).add(series.series.study)
    counted = labelled or studies
    common = {name for name, of_name in having.items() if len(of_name & counted) >= MIN_STUDIES * len(counted)}
    if len(common) < 2:
        return {}
    rows = [(text, name) for text, name in texts.items() if name in common]
    return {escape_text(text): name for text, name in sorted(rows, key=lambda r: (r[1], natural_key(r[0])))}


def modality_of(series: DicomSeries) -> str:
    """The modality that a series shows by its description, protocol or code; empty where they name none."""
    for text in (series.description, series.protocol):
        plain = re.sub(r"[\W_]+", " ", text.lower().replace("+c", " ce ")).strip()
        if NO_MODALITY.search(plain):
            return ""
        named = next((name for name, words in NAMES if re.search(words, plain)), "")
        if named:
            return named
    return CODES.get(series.modality, "")


def escape_text(text: str) -> str:
    """The text of a description that matches only this one."""
    return re.sub(r"([\\*?])", r"\\\1", text)


def _modality(series: DicomSeries, modalities: Mapping[str, str]) -> str | None:
    """The modality of a series; ``None`` where no text fits."""
    stated = [text.casefold() for text in (series.description, series.protocol, series.modality) if text]
    plain = {text: name for text, name in modalities.items() if not re.search(r"(?<!\\)[*?]", text)}
    for texts in (plain, modalities):
        for own in stated:
            for text, name in texts.items():
                if _expression(text).fullmatch(own):
                    return name
    return None


@cache
def _expression(text: str) -> re.Pattern[str]:
    parts = re.findall(r"\\.|.", text.casefold(), re.DOTALL)
    wildcards = {"*": ".*", "?": "."}
    return re.compile("".join(wildcards.get(p) or re.escape(p[-1]) for p in parts), re.DOTALL)


def _study(by_modality: Mapping[str, Sequence[FoundSeries]], found: FoundFiles) -> Study:
    """One series of each modality, all in the same coordinates."""
    images: dict[str, FoundSeries] = {}
    for name, several in by_modality.items():
        ordered = sorted(several, key=lambda s: (bool(s.labels), s.series.number, s.path))
        images[name] = ordered[-1]
        if len(ordered) > 1:
            why = "which has the label map" if ordered[-1].labels else "the last one"
            found.warnings.append(
                f"{len(ordered)} series of one study are {name}: {format_list([_title(s) for s in ordered], 4)}; "
                f"{_title(ordered[-1])} is read, {why}; name a series more narrowly where that is wrong"
            )
    first = next((s for s in images.values() if s.labels), next(iter(images.values())))
    kept = dict(_in_coordinates(images, first, found))
    return Study(_common_folders([s.parts for s in images.values()]), kept, first.series.patient)


def _in_coordinates(
    images: Mapping[str, FoundSeries], first: FoundSeries, found: FoundFiles
) -> Iterator[tuple[str, FoundSeries]]:
    """The series whose positions are in the coordinates of the first one; a warning for each of the others."""
    expected = first.series.frame_of_reference
    for name, series in images.items():
        own = series.series.frame_of_reference
        if expected and own and own != expected:
            found.warnings.append(
                f"{name} ({_title(series)}) has another frame of reference than {_title(first)}: its positions are in "
                "other coordinates, so it is not read; register it to that series and export it again"
            )
            continue
        if series is not first and not (expected and own):
            found.warnings.append(
                f"{_title(series)} or {_title(first)} states no frame of reference: their coordinates are assumed to "
                "be the same; look at the picture"
            )
        yield name, series


def _common_folders(parts: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """Folders that all series of a study share."""
    if len(parts) == 1:
        return parts[0]
    shared = 0
    while all(len(p) > shared for p in parts) and len({p[shared] for p in parts}) == 1:
        shared += 1
    return parts[0][:shared]


def _title(series: FoundSeries) -> str:
    """A series in a message: its folder or file, and its description."""
    return f"{series.path} ({series.series.description})" if series.series.description else series.path
