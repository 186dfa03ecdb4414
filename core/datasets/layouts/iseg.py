"""Layout of iSEG-2017: ``subject-N-T1``, ``-T2`` and ``-label`` side by side, as Analyze pairs or NIfTI files.

Six-month-old infants, skull-stripped T1 and T2 at 1 mm; labels 0, 10, 150, 250 (Wang et al., "Benchmark on automatic
six-month-old infant brain segmentation algorithms: the iSEG-2017 challenge", IEEE TMI 2019). Its Analyze files state no
orientation.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from core.datasets.layouts.base import Dataset, ImageRef, Subject
from core.datasets.layouts.colour_files import find_colours
from core.errors import DatasetError
from core.imaging.image_files import is_second_half
from core.labels import LabelSpace

LABELS = {0: "background", 10: "CSF", 150: "GM", 250: "WM"}
MODALITIES = ("T1", "T2")
DEMO_MARKER = "segmentarium-demo.json"  # marks finished synthetic demo data
UNFINISHED_DEMO_MARKER = "segmentarium-demo.unfinished.json"

_FILE_NAME = re.compile(r"subject-(?P<number>\d+)-(?P<kind>T1|T2|label)\.(hdr|img|nii)(\.gz)?", re.IGNORECASE)


class IsegLayout:
    """Folder with the files of all subjects side by side."""

    name = "iseg"
    title = "iSEG-2017"
    expects = "files subject-1-T1, subject-1-T2, subject-1-label ... (.hdr with .img, .nii or .nii.gz)"
    reason = "its files are named like subject-1-T1"

    def recognises(self, folder: Path) -> bool:
        """Whether any file name fits the pattern of this layout."""
        return any(_FILE_NAME.fullmatch(p.name) for p in folder.iterdir())

    def open(self, folder: Path, ignore: str = "auto") -> Dataset:
        """List the subjects of a folder.

        Raises
        ------
        DatasetError
            If no file name fits, there are labels but no images, or an image or label exists twice.
        """
        files = _group_files(folder)
        if not files:
            raise DatasetError(f"{folder}: expected {self.expects}; found no such file")
        chosen = {id: {kind: _select_file(paths) for kind, paths in kinds.items()} for id, kinds in files.items()}
        modalities = tuple(m for m in MODALITIES if any(m in kinds for kinds in chosen.values()))
        if not modalities:
            raise DatasetError(f"{folder}: expected T1 or T2 images, found only labels")
        subjects = tuple(
            Subject(id, {m: ImageRef(kinds[m]) for m in modalities if m in kinds}, kinds.get("label"))
            for id, kinds in chosen.items()
        )
        unfinished = not (folder / DEMO_MARKER).is_file() and (folder / UNFINISHED_DEMO_MARKER).is_file()
        marker = _read_demo_marker(folder / (UNFINISHED_DEMO_MARKER if unfinished else DEMO_MARKER))
        return Dataset(
            path=folder,
            layout=self.name,
            name=str(marker.get("name") or folder.absolute().name),
            modalities=modalities,
            labels=LabelSpace.from_raw(LABELS, ignore, find_colours(folder, LABELS)),
            subjects=subjects,
            synthetic=bool(marker),
            description=str(marker.get("description") or ""),
            licence=str(marker.get("licence") or ""),
            notes=("the demo data is unfinished: subjects are missing",) if unfinished else (),
            labels_follow_images=True,
        )


def _group_files(folder: Path) -> dict[str, dict[str, list[Path]]]:
    """Files by subject id and kind ("T1", "T2" or "label")."""
    groups: dict[str, dict[str, list[Path]]] = {}
    for file in sorted(folder.iterdir()):
        match = _FILE_NAME.fullmatch(file.name)
        if match:
            kind = {"t1": "T1", "t2": "T2", "label": "label"}[match["kind"].lower()]
            groups.setdefault(f"subject-{int(match['number'])}", {}).setdefault(kind, []).append(file)
    return groups


def _select_file(files: list[Path]) -> Path:
    """The file to open for one image: of an Analyze pair the header.

    Raises
    ------
    DatasetError
        If the files are several images.
    """
    names = {file.name for file in files}
    images = [file for file in files if not is_second_half(file.name, names)]
    if len(images) > 1:
        raise DatasetError(
            f"{files[0].parent}: expected one file (or pair) for each image, got "
            f"{' and '.join(file.name for file in images)}; remove all but one"
        )
    return images[0]


def _read_demo_marker(file: Path) -> dict[str, object]:
    """Content of the marker of the demo data; empty without one.

    A damaged marker still marks the data as synthetic.
    """
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        content = None
    return {"synthetic": True, **content} if isinstance(content, dict) else {"synthetic": True}
