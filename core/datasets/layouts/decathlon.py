"""Layout of the Medical Segmentation Decathlon: ``dataset.json`` lists files whose channels are the modalities.

Antonelli et al., "The Medical Segmentation Decathlon", Nature Communications 2022; http://medicaldecathlon.com.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core.datasets.layouts.base import Dataset, ImageRef, Subject
from core.datasets.layouts.files import describe_json, read_json_object
from core.datasets.layouts.label_list import read_labels
from core.datasets.layouts.listed_files import (
    TEST_FOLDER,
    is_elsewhere,
    layout_notes,
    prediction_subjects,
    resolve_listed,
    subject_ids,
    unlisted_images,
)
from core.datasets.layouts.nnunet import NnunetLayout
from core.errors import DatasetError
from core.formatting import format_list

FILE = "dataset.json"


class DecathlonLayout:
    """Folder with ``dataset.json``, ``imagesTr`` and ``labelsTr``."""

    name = "decathlon"
    title = "Medical Segmentation Decathlon"
    expects = "a dataset.json that lists modality, labels and training, with imagesTr and labelsTr beside it"
    reason = "it has a dataset.json"

    def recognises(self, folder: Path) -> bool:
        """Whether there is a ``dataset.json``, which is not nnU-Net's."""
        return (folder / FILE).exists() and not NnunetLayout().recognises(folder)

    def open(self, folder: Path, ignore: str = "auto") -> Dataset:
        """List the training cases of ``dataset.json``, whose files need not exist, and for prediction the images that
        lie there of those under ``test`` and in ``imagesTs``.

        Raises
        ------
        DatasetError
            If the file is missing or no valid JSON, lacks ``modality``, ``labels`` or ``training``, or lists an image
            twice.
        """
        file = folder / FILE
        try:
            content = read_json_object(file, "modality, labels and training")
        except FileNotFoundError:
            raise DatasetError(f"{folder}: expected {self.expects}; found no {FILE}") from None
        if "channel_names" in content and not {"training", "modality"} <= content.keys():
            raise DatasetError(
                f"{file}: expected the Decathlon's dataset.json, got nnU-Net's; choose the layout nnunet, or list the "
                "channels under 'modality' and the cases under 'training'"
            )
        modalities = _read_modalities(file, content.get("modality"))
        labels = read_labels(file, content, ignore)
        subjects, notes = _read_subjects(file, content.get("training"), modalities)
        notes += _collect_notes(folder, subjects, content.get("numTraining"))
        subjects += _test_subjects(file, content.get("test"), modalities, subjects)
        return Dataset(
            path=folder,
            layout=self.name,
            name=str(content.get("name") or folder.absolute().name),
            modalities=modalities,
            labels=labels,
            subjects=tuple(subjects),
            description=str(content.get("description") or ""),
            licence=str(content.get("licence") or content.get("license") or ""),
            notes=(*notes, *layout_notes(folder, subjects)),
        )


def _read_modalities(file: Path, value: Any) -> tuple[str, ...]:
    example = '{"0": "T1", "1": "T2"}'
    if not isinstance(value, Mapping) or not value:
        raise DatasetError(f"{file}: expected 'modality' like {example}, got {describe_json(value)}")
    names = []
    for key, name in value.items():
        if not str(key).strip().isdecimal() or not isinstance(name, str) or not name.strip():
            raise DatasetError(f"{file}: expected 'modality' like {example}, got {key!r}: {name!r}")
        names.append((int(key), name.strip()))
    names.sort()
    if [number for number, _ in names] != list(range(len(names))):
        raise DatasetError(
            f"{file}: expected the keys of 'modality' to count 0, 1, 2 ...; got {[str(n) for n, _ in names]}"
        )
    modalities = tuple(name for _, name in names)
    if len(set(modalities)) != len(modalities):
        raise DatasetError(f"{file}: expected different names under 'modality', got {list(modalities)}")
    return modalities


def _read_subjects(file: Path, entries: Any, modalities: tuple[str, ...]) -> tuple[list[Subject], list[str]]:
    """Subjects of the list under 'training', and notes on entries that are skipped or found elsewhere."""
    if not isinstance(entries, list):
        raise DatasetError(f"{file}: expected a list under 'training', got {describe_json(entries)}")
    files: list[tuple[Path, Path | None]] = []
    hidden, moved = 0, ""
    for number, entry in enumerate(entries, start=1):
        image, label = _read_entry(file, number, entry)
        image_file = resolve_listed(file.parent, image)
        if image_file.name.startswith("._"):
            hidden += 1
            continue
        if is_elsewhere(image) and image_file != Path(image):
            moved = (
                moved or f"{FILE} lists files of another place ({image}); {image_file.relative_to(file.parent)} is read"
            )
        files.append((image_file, resolve_listed(file.parent, label) if label is not None else None))
    ids = subject_ids(file.parent, [image for image, _ in files])
    subjects = [
        Subject(id, {m: ImageRef(image, channel) for channel, m in enumerate(modalities)}, label)
        for id, (image, label) in zip(ids, files, strict=True)
    ]
    if not subjects:
        raise DatasetError(f"{file}: expected at least one case under 'training', got none")
    _check_labels_differ(file, subjects)
    notes = [f"{hidden} entries of macOS's own '._' files are ignored"] if hidden else []
    return subjects, notes + ([moved] if moved else [])


def _test_subjects(file: Path, listed: Any, modalities: tuple[str, ...], subjects: Sequence[Subject]) -> list[Subject]:
    """Subjects without label maps: images of the list under 'test' that exist, and all of ``imagesTs``."""
    entries = [e.get("image") if isinstance(e, Mapping) else e for e in (listed if isinstance(listed, list) else [])]
    texts = [e for e in entries if isinstance(e, str) and e.strip() and "\0" not in e]
    named = (Path(os.path.normpath(resolve_listed(file.parent, text))) for text in texts)
    files = [path for path in named if os.path.isfile(path)]  # also of a name that is too long
    folder = Path(os.path.normpath(file.parent / TEST_FOLDER))
    files += [folder / name for name in unlisted_images(folder, [path for path in files if path.parent == folder])]
    trained = {Path(os.path.normpath(ref.path)) for subject in subjects for ref in subject.images.values()}
    files = [f for f in dict.fromkeys(files) if f not in trained and not f.name.startswith(".")]
    refs = [{m: ImageRef(path, channel) for channel, m in enumerate(modalities)} for path in files]
    images = dict(zip(subject_ids(file.parent, files), refs, strict=True))
    return prediction_subjects(images, [subject.id for subject in subjects])


def _read_entry(file: Path, number: int, entry: Any) -> tuple[str, str | None]:
    """Image and label path of one training entry, as written."""
    image, label = (entry.get("image"), entry.get("label")) if isinstance(entry, Mapping) else (None, None)
    image_is_valid = isinstance(image, str) and image.strip() and "\0" not in image
    if not image_is_valid or not (label is None or isinstance(label, str)):
        raise DatasetError(
            f'{file}: expected entry {number} of \'training\' like {{"image": "./imagesTr/a.nii.gz", "label": '
            f'"./labelsTr/a.nii.gz"}}, got {json.dumps(entry)[:120]}'
        )
    return str(image), label or None


def _check_labels_differ(file: Path, subjects: list[Subject]) -> None:
    """Refuse one label file for two images, most likely a copy-and-paste mistake."""
    owner: dict[Path, str] = {}
    for subject in subjects:
        if subject.label is not None and owner.setdefault(subject.label, subject.id) != subject.id:
            raise DatasetError(
                f"{file}: expected a separate label file for each image, got {subject.label.name} for both "
                f"{owner[subject.label]} and {subject.id}"
            )


def _collect_notes(folder: Path, subjects: list[Subject], stated_count: Any) -> list[str]:
    """Observations that are not errors: a wrong count, images that are not listed."""
    notes = []
    if isinstance(stated_count, int) and stated_count != len(subjects):
        notes.append(f"{FILE} states {stated_count} training cases (numTraining) but lists {len(subjects)}")
    unlisted = unlisted_images(folder / "imagesTr", (ref.path for s in subjects for ref in s.images.values()))
    if unlisted:
        notes.append(f"imagesTr holds images that {FILE} does not list: {format_list(unlisted, 4)}")
    return notes
