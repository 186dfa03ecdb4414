"""Layout of nnU-Net: ``dataset.json`` names channels and labels, and each channel of a case is a file.

Version 2 may list files under ``dataset`` and regions, which overlap, under ``labels``; version 1 has the
``dataset.json`` of the Decathlon, whose file names lack the ``_0000`` of the files.

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
from core.datasets.layouts.listed_files import TEST_FOLDER, layout_notes, prediction_subjects, resolve_listed
from core.datasets.layouts.regions import split_regions
from core.errors import DatasetError

FILE = "dataset.json"
ENTRIES = "channel_names, labels and file_ending"
DEFAULT_ENDING = ".nii.gz"


class NnunetLayout:
    """Folder with ``dataset.json``, ``imagesTr`` and ``labelsTr``; images are named ``CASE_0000.nii.gz`` and so on."""

    name = "nnunet"
    title = "nnU-Net"
    expects = "a dataset.json with channel_names and labels, imagesTr with CASE_0000.nii.gz ..., and labelsTr"
    reason = "its dataset.json names channels"

    def recognises(self, folder: Path) -> bool:
        """Whether there is a ``dataset.json`` that names channels and is none of the Decathlon's, or is of version 1.

        One that was made of the Decathlon's may still list its cases under ``training``, which are not read. If it also
        has its ``modality``, the names of the files decide.
        """
        try:
            content = read_json_object(folder / FILE, ENTRIES)
        except (DatasetError, FileNotFoundError):
            return False
        if "channel_names" in content and not {"training", "modality"} <= content.keys():
            return True
        return _names_channels(folder, content)

    def open(self, folder: Path, ignore: str = "auto") -> Dataset:
        """List the cases of which there is an image or a label map, and those of imagesTs for prediction.

        Raises
        ------
        DatasetError
            If the file is missing or not valid JSON, lacks ``channel_names`` or ``labels``, or there is no image.
        """
        file = folder / FILE
        try:
            content = read_json_object(file, ENTRIES)
        except FileNotFoundError:
            raise DatasetError(f"{folder}: expected {self.expects}; found no {FILE}") from None
        first = _is_version_1(folder, content)
        modalities = _read_channels(file, content.get("modality" if first else "channel_names"))
        ending = str(content.get("file_ending") or DEFAULT_ENDING)
        split = split_regions(file, content)
        content, labels = split.content, read_labels(file, split.content, ignore)
        listed = content.get("dataset")
        subjects = (
            _find_subjects(folder, modalities, ending) if listed is None else _listed_subjects(file, listed, modalities)
        )
        try:
            test = _find_images(folder / TEST_FOLDER, modalities, ending)
        except OSError:  # a note names it
            test = {}
        read = {ref.path for subject in subjects for ref in subject.images.values()}  # 'dataset' may list them
        test = {id: refs for id, refs in test.items() if read.isdisjoint(ref.path for ref in refs.values())}
        subjects += prediction_subjects(test, [subject.id for subject in subjects])
        return Dataset(
            path=folder,
            layout=self.name,
            name=str(content.get("name") or folder.absolute().name),
            modalities=modalities,
            labels=labels,
            subjects=tuple(subjects),
            regions={name: parts for name, parts in split.regions.items() if set(parts) <= set(labels.names)},
            region_order=split.order,
            notes=(*split.notes, *layout_notes(folder, subjects)),
            description=str(content.get("description") or ""),
            licence=str(content.get("licence") or content.get("license") or ""),
        )


def _is_version_1(folder: Path, content: Mapping[str, Any]) -> bool:
    """Whether a Decathlon's ``dataset.json`` lists an image that lies there with ``_0000`` in its name only."""
    return "channel_names" not in content and _names_channels(folder, content)


def _names_channels(folder: Path, content: Mapping[str, Any]) -> bool:
    """Whether the first image under ``training`` lies there with ``_0000`` in its name only."""
    training = content.get("training")
    entry = training[0] if isinstance(training, list) and training else None
    image = entry.get("image") if isinstance(entry, Mapping) else None
    if not isinstance(image, str) or not image.endswith(DEFAULT_ENDING):
        return False
    path = resolve_listed(folder, image)
    return (
        not path.exists() and path.with_name(path.name.removesuffix(DEFAULT_ENDING) + f"_0000{DEFAULT_ENDING}").exists()
    )


def _listed_subjects(file: Path, listed: Any, modalities: tuple[str, ...]) -> list[Subject]:
    """Cases under ``dataset``: the files of each, in the order of the channels."""
    example = '{"case_1": {"images": ["a_0000.nii.gz"], "label": "a.nii.gz"}}'
    if not isinstance(listed, Mapping) or not listed:
        raise DatasetError(f"{file}: expected 'dataset' like {example}, got {describe_json(listed)}")
    subjects: list[Subject] = []
    owner: dict[Path, str] = {}
    for case, entry in listed.items():
        images, label = (entry.get("images"), entry.get("label")) if isinstance(entry, Mapping) else (None, None)
        texts = images if isinstance(images, list) else [None]
        if not all(isinstance(t, str) and t.strip() for t in texts) or not isinstance(label, str | None):
            raise DatasetError(f"{file}: expected 'dataset' like {example}, got {case!r}: {describe_json(entry)}")
        if len(texts) != len(modalities):
            raise DatasetError(
                f"{file}: expected {len(modalities)} images ({', '.join(modalities)}) for {case!r}, got {len(texts)}"
            )
        files = [resolve_listed(file.parent, str(text)) for text in texts]
        label_file = resolve_listed(file.parent, label) if label else None
        for path in (*files, *([label_file] if label_file else [])):
            if owner.setdefault(path, case) != case or [*files, label_file].count(path) > 1:
                raise DatasetError(
                    f"{file}: expected every file once under 'dataset', got {path.name} for {owner[path]!r} and "
                    f"{case!r}"
                )
        subjects.append(Subject(str(case), dict(zip(modalities, map(ImageRef, files), strict=True)), label_file))
    return subjects


def _read_channels(file: Path, value: Any) -> tuple[str, ...]:
    example = '{"0": "T1", "1": "T2"}'
    if not isinstance(value, Mapping) or not value:
        raise DatasetError(f"{file}: expected 'channel_names' like {example}, got {describe_json(value)}")
    names = {str(key).strip(): str(name).strip() for key, name in value.items()}
    if set(names) != {str(n) for n in range(len(names))} or not all(names.values()):
        raise DatasetError(f"{file}: expected 'channel_names' like {example}, got {dict(value)}")
    ordered = [names[str(n)] for n in range(len(names))]
    # The names state the normalisation of nnU-Net, which several channels may have: {"0": "CT", "1": "CT"}.
    numbered = tuple(f"{name} {n}" if ordered.count(name) > 1 else name for n, name in enumerate(ordered))
    if len(set(numbered)) < len(numbered):
        raise DatasetError(f"{file}: expected 'channel_names' like {example}, got {dict(value)}")
    return numbered


def _find_images(folder: Path, modalities: tuple[str, ...], ending: str) -> dict[str, dict[str, ImageRef]]:
    """Images of a folder by modality, by case."""
    images: dict[str, dict[str, ImageRef]] = {}
    pattern = re.compile(r"(?P<case>[^.].*)_(?P<channel>\d{4})" + re.escape(ending))
    for path in sorted(_listed(folder)):
        match = pattern.fullmatch(path.name)
        if match and int(match["channel"]) < len(modalities):
            images.setdefault(match["case"], {})[modalities[int(match["channel"])]] = ImageRef(path)
    return images


def _find_subjects(folder: Path, modalities: tuple[str, ...], ending: str) -> list[Subject]:
    images = _find_images(folder / "imagesTr", modalities, ending)
    if not images:
        raise DatasetError(
            f"{folder / 'imagesTr'}: expected images of nnU-Net's names, such as case_0000{ending}, found none; rename "
            f"them, or list the files of each case under 'dataset' of {FILE}"
        )
    labels = {p.name.removesuffix(ending): p for p in _listed(folder / "labelsTr") if p.name.endswith(ending)}
    cases = [*images, *(case for case in labels if case not in images and not case.startswith("."))]
    return [Subject(case, images.get(case, {}), labels.get(case)) for case in cases]


def _listed(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []
