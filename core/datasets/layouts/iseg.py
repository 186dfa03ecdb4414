"""The iSEG-2017 layout: ``subject-N-T1``, ``-T2`` and ``-label`` side by side, as Analyze pairs or NIfTI files.

Six-month-old infants, skull-stripped T1 and T2 at 1 mm; labels 0, 10, 150, 250 (Wang et al., "Benchmark on automatic
six-month-old infant brain segmentation algorithms: the iSEG-2017 challenge", IEEE TMI 2019). Its Analyze files state no
orientation.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from core.datasets.layouts.base import Dataset, ImageRef, Layout, Subject, natural_key
from core.errors import DatasetError
from core.labels import LabelSpace

LABELS = {0: "background", 10: "CSF", 150: "GM", 250: "WM"}
MODALITIES = ("T1", "T2")
DEMO_MARKER = "segmentarium-demo.json"
UNFINISHED_DEMO_MARKER = "segmentarium-demo.unfinished.json"

_FILE = re.compile(r"subject-(\d+)-(T1|T2|label)\.(hdr|img|nii)(\.gz)?", re.IGNORECASE)


def recognises(path: Path) -> bool:
    """Whether any file is named like one of this layout."""
    return any(_FILE.fullmatch(p.name) for p in path.iterdir())


def open_iseg(path: Path) -> Dataset:
    """List the subjects of a folder.

    Raises
    ------
    DatasetError
        If there is no such file, no image among them, or one image or label exists twice.
    """
    found: dict[str, dict[str, list[Path]]] = {}
    for file in sorted(path.iterdir()):
        match = _FILE.fullmatch(file.name)
        if match:
            kind = {"t1": "T1", "t2": "T2", "label": "label"}[match[2].lower()]
            found.setdefault(f"subject-{int(match[1])}", {}).setdefault(kind, []).append(file)
    if not found:
        raise DatasetError(f"{path}: expected {LAYOUT.expects}; found no such file")
    chosen = {id: {kind: _one(files) for kind, files in kinds.items()} for id, kinds in found.items()}
    modalities = tuple(m for m in MODALITIES if any(m in kinds for kinds in chosen.values()))
    if not modalities:
        raise DatasetError(f"{path}: expected T1 or T2 images, found only labels")
    subjects = [
        Subject(id, {m: ImageRef(kinds[m]) for m in modalities if m in kinds}, kinds.get("label"))
        for id, kinds in sorted(chosen.items(), key=lambda item: natural_key(item[0]))
    ]
    unfinished = not (path / DEMO_MARKER).is_file() and (path / UNFINISHED_DEMO_MARKER).is_file()
    marker = _demo_marker(path / (UNFINISHED_DEMO_MARKER if unfinished else DEMO_MARKER))
    return Dataset(
        path=path,
        layout=LAYOUT.name,
        name=str(marker.get("name") or path.absolute().name),
        modalities=modalities,
        labels=LabelSpace.from_raw(LABELS),
        subjects=tuple(subjects),
        synthetic=bool(marker),
        description=str(marker.get("description") or ""),
        licence=str(marker.get("licence") or ""),
        notes=("the demo data are unfinished: more subjects are to come",) * unfinished,
        labels_follow_images=True,
    )


def _one(files: list[Path]) -> Path:
    """The file to open out of those for one image: the header of a pair; an error where there are several images."""
    stems: dict[str, Path] = {}
    for file in files:
        match = _FILE.fullmatch(file.name)
        assert match is not None
        image = "pair" + file.name[: match.start(3)] if match[3].lower() != "nii" else file.name
        if image not in stems or match[3].lower() == "hdr":
            stems[image] = file
    if len(stems) > 1:
        names = " and ".join(file.name for file in stems.values())
        raise DatasetError(
            f"{files[0].parent}: expected one file (or pair) for each image, got {names}; remove all but one"
        )
    return next(iter(stems.values()))


def _demo_marker(file: Path) -> dict[str, object]:
    """What the demo data say about themselves; empty for measured data."""
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        content = None  # its presence alone says that the data are synthetic
    return {"synthetic": True, **content} if isinstance(content, dict) else {"synthetic": True}


LAYOUT = Layout(
    name="iseg",
    title="iSEG-2017",
    expects="files subject-1-T1, subject-1-T2, subject-1-label ... (.hdr with .img, .nii or .nii.gz)",
    recognises=recognises,
    open=open_iseg,
)
