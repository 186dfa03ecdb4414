"""Layout of nnU-Net (version 2): ``dataset.json`` names channels and labels, and each channel of a case is a file.

Isensee et al., "nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation", Nature
Methods 2021; https://github.com/MIC-DKFZ/nnUNet.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.datasets.layouts.base import Dataset, ImageRef, Subject
from core.datasets.layouts.files import describe_json, read_json_object
from core.datasets.layouts.label_list import read_labels
from core.errors import DatasetError

FILE = "dataset.json"
ENTRIES = "channel_names, labels and file_ending"
DEFAULT_ENDING = ".nii.gz"


class NnunetLayout:
    """Folder with ``dataset.json``, ``imagesTr`` and ``labelsTr``; images are named ``CASE_0000.nii.gz`` and so on."""

    name = "nnunet"
    title = "nnU-Net"
    expects = "a dataset.json with channel_names and labels, imagesTr with CASE_0000.nii.gz ..., and labelsTr"

    def recognises(self, folder: Path) -> bool:
        """Whether there is a ``dataset.json`` that names channels and lists no cases."""
        try:
            content = read_json_object(folder / FILE, ENTRIES)
        except (DatasetError, FileNotFoundError):
            return False
        return "channel_names" in content and "training" not in content

    def open(self, folder: Path, ignore: str = "auto") -> Dataset:
        """List the cases of which there is an image or a label map.

        Raises
        ------
        DatasetError
            If the file is missing or no valid JSON, lacks ``channel_names`` or ``labels``, or there is no image.
        """
        file = folder / FILE
        try:
            content = read_json_object(file, ENTRIES)
        except FileNotFoundError:
            raise DatasetError(f"{folder}: expected {self.expects}; found no {FILE}") from None
        modalities = _read_channels(file, content.get("channel_names"))
        ending = str(content.get("file_ending") or DEFAULT_ENDING)
        return Dataset(
            path=folder,
            layout=self.name,
            name=str(content.get("name") or folder.absolute().name),
            modalities=modalities,
            labels=read_labels(file, content, ignore),
            subjects=tuple(_find_subjects(folder, modalities, ending)),
            description=str(content.get("description") or ""),
            licence=str(content.get("licence") or content.get("license") or ""),
        )


def _read_channels(file: Path, value: Any) -> tuple[str, ...]:
    example = '{"0": "T1", "1": "T2"}'
    if not isinstance(value, Mapping) or not value:
        raise DatasetError(f"{file}: expected 'channel_names' like {example}, got {describe_json(value)}")
    names = {str(key).strip(): str(name).strip() for key, name in value.items()}
    if set(names) != {str(n) for n in range(len(names))} or len(set(names.values())) < len(names):
        raise DatasetError(f"{file}: expected 'channel_names' like {example}, got {dict(value)}")
    return tuple(names[str(n)] for n in range(len(names)))


def _find_subjects(folder: Path, modalities: tuple[str, ...], ending: str) -> list[Subject]:
    images: dict[str, dict[str, ImageRef]] = {}
    pattern = re.compile(r"(?P<case>[^.].*)_(?P<channel>\d{4})" + re.escape(ending))
    for path in sorted(_listed(folder / "imagesTr")):
        match = pattern.fullmatch(path.name)
        if match and int(match["channel"]) < len(modalities):
            images.setdefault(match["case"], {})[modalities[int(match["channel"])]] = ImageRef(path)
    if not images:
        raise DatasetError(
            f"{folder / 'imagesTr'}: expected images of nnU-Net's names, such as case_0000{ending}, found none; rename "
            f"them, or list the cases under 'training' of {FILE}"
        )
    labels = {p.name.removesuffix(ending): p for p in _listed(folder / "labelsTr") if p.name.endswith(ending)}
    cases = [*images, *(case for case in labels if case not in images and not case.startswith("."))]
    return [Subject(case, images.get(case, {}), labels.get(case)) for case in cases]


def _listed(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []
