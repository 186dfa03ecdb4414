"""Reads the images of one subject, given as files, for a network: assigns files and channels to modalities."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from core.datasets.layouts.base import Dataset, ImageRef, Subject
from core.datasets.layouts.files import image_stem
from core.datasets.loading import LoadedSubject, load_subject
from core.errors import VolumeError
from core.imaging.headers import read_header
from core.labels import LabelSpace


def read_images(
    paths: Sequence[Path], modalities: Sequence[str], channels: Sequence[int] = (), nan_is_zero: bool = False
) -> LoadedSubject:
    """Read the images of one subject for a network.

    Parameters
    ----------
    paths : sequence of Path. One file per modality in the network's order, or one file with all channels.
    modalities : sequence of str. Modalities of the network, in order.
    channels : sequence of int. Channel of each path, from 1, for files with several channels; a path may be repeated.
    nan_is_zero : bool. Whether NaN is read as 0.

    Raises
    ------
    VolumeError
        If a file cannot be read, their number differs from the network's, an image is given twice, or a file name
        contradicts the order.
    DatasetError
        If the geometries of the images differ.
    """
    channel_counts = {path: read_header(path).channels for path in dict.fromkeys(paths)}
    if channels:
        refs = _select_channels(paths, channels, channel_counts)
    elif len(paths) == 1:
        refs = [ImageRef(paths[0], channel) for channel in range(channel_counts[paths[0]])]
    else:
        refs = [ImageRef(path) for path in paths]
        for path, count in channel_counts.items():
            if count != 1:
                raise VolumeError(
                    f"{path}: expected one image per file where there are several, got {count} channels; choose with "
                    "--channels"
                )
    _check_count(refs, len(paths), modalities)
    _check_distinct(refs, modalities)
    if len(paths) > 1:
        _check_order(refs, modalities)
    images = dict(zip(modalities, refs, strict=True))
    all_refs = [ImageRef(path, channel) for path, count in channel_counts.items() for channel in range(count)]
    unused = [ref for ref in all_refs if ref not in refs]
    # A data set states every channel of its files, the unused ones too.
    images_and_unused = {**images, **{f"unused {number}": ref for number, ref in enumerate(unused)}}
    placeholder = LabelSpace.from_raw({0: "background", 1: "foreground"})
    subject = Subject("the subject", images_and_unused, None)
    dataset = Dataset(
        paths[0].parent,
        "",
        "the network",
        tuple(images_and_unused),
        placeholder,
        (subject,),
        nan_is_zero=nan_is_zero,
    )
    return load_subject(dataset, subject.id, modalities)


def modalities_in_filename(path: Path, modalities: Sequence[str]) -> tuple[str, ...]:
    """Modalities that occur in a file name as separate words, in any case."""
    words = re.split(r"[^a-z0-9]+", image_stem(path.name).lower())
    return tuple(m for m in modalities if m.lower() in words)


def infer_modalities(refs: Mapping[str, ImageRef], modalities: Sequence[str]) -> dict[str, str]:
    """Assign images to modalities where names leave no doubt.

    An image is assigned if it has the name of the modality; or if it is the only image in its file, and the file name
    contains this modality and no other, and is the only one to contain it. A single
    image is assigned to a single modality.

    Parameters
    ----------
    refs : mapping. Images by name.
    modalities : sequence of str. Modalities of the network.

    Returns
    -------
    dict. Image name by modality; modalities in doubt are absent.
    """
    if len(refs) == len(modalities) == 1:
        return {modalities[0]: next(iter(refs))}
    images_per_file = Counter(ref.path for ref in refs.values())
    named = {
        name: modalities_in_filename(ref.path, modalities) if images_per_file[ref.path] == 1 else ()
        for name, ref in refs.items()
    }
    assigned = {}
    for modality in modalities:
        if modality in refs:
            assigned[modality] = modality
            continue
        candidates = [name for name, found in named.items() if modality in found]
        if len(candidates) == 1 and named[candidates[0]] == (modality,):
            assigned[modality] = candidates[0]
    return assigned


def _select_channels(
    paths: Sequence[Path], channels: Sequence[int], channel_counts: Mapping[Path, int]
) -> list[ImageRef]:
    """One channel, from 1, of each path."""
    if len(channels) != len(paths):
        raise VolumeError(
            f"{paths[0]}: expected one channel for each of {len(paths)} images, got {len(channels)}; name an image "
            "once for every channel that is taken of it"
        )
    for path, channel in zip(paths, channels, strict=True):
        if not 1 <= channel <= channel_counts[path]:
            raise VolumeError(f"{path}: expected a channel from 1 to {channel_counts[path]}, got {channel}")
    return [ImageRef(path, channel - 1) for path, channel in zip(paths, channels, strict=True)]


def _check_count(refs: Sequence[ImageRef], files: int, modalities: Sequence[str]) -> None:
    if len(refs) != len(modalities):
        unit = "image" if files > 1 or len(refs) == 1 else "channel"
        raise VolumeError(
            f"{refs[0].path}: expected {len(modalities)} image{'s' * (len(modalities) > 1)} in the order "
            f"{', '.join(modalities)}, as the network was trained; got {len(refs)} {unit}{'s' * (len(refs) > 1)}"
        )


def _check_distinct(refs: Sequence[ImageRef], modalities: Sequence[str]) -> None:
    """Refuse one image for two modalities, also under two names: a relative path, a link, the other file of a pair."""
    modality_of: dict[tuple[int, int, int], str] = {}
    for ref, modality in zip(refs, modalities, strict=True):
        status = os.stat(read_header(ref.path).data_path)
        first = modality_of.setdefault((status.st_dev, status.st_ino, ref.channel), modality)
        if first != modality:
            channel = f"channel {ref.channel + 1} of it" if read_header(ref.path).channels > 1 else "the same file"
            raise VolumeError(
                f"{ref.path}: expected another image for each modality, got {channel} for {first} and for {modality}; "
                f"give the image of {modality}"
            )


def _check_order(refs: Sequence[ImageRef], modalities: Sequence[str]) -> None:
    """Refuse a file whose name contains another modality than its position."""
    for ref, modality in zip(refs, modalities, strict=True):
        named = modalities_in_filename(ref.path, modalities)
        if named and modality not in named:
            raise VolumeError(
                f"{ref.path}: expected images in the order {', '.join(modalities)}; this one is in the position of "
                f"{modality}, but its name contains {' '.join(named)}; swap them (or rename it)"
            )
