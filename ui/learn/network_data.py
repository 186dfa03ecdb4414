"""Data of the Learn page's figure of a network: stages of its architecture, and feature maps for the browser."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from core.checkpointing.metadata import CheckpointMetadata
from core.datasets import load_subject, open_dataset
from core.labels import LabelSpace
from core.models.architecture import stage_names
from core.types import Size3
from ui.learn.jobs import MANIFEST
from ui.viewer import volumes


def network_stages(
    description: Mapping[str, Any],
    channels: Sequence[str],
    classes: Sequence[str],
    size: Size3,
    kind: str = "softmax",
) -> list[dict[str, Any]]:
    """Stages of a network in the form of the manifest of :mod:`core.inspection.feature_maps`, without maps.

    Parameters
    ----------
    description : mapping. Of the network for this size (:func:`ui.shared.network_inspector.network_description`).
    channels : sequence of str. Names of the input channels (:func:`core.models.input_names`).
    classes : sequence of str. Names of the output channels.
    size : tuple of int. Sub-volume size in voxels (i, j, k).
    kind : str. What makes probabilities of logits: "softmax", or "sigmoid" of a network of regions.
    """

    stages = [
        {"kind": "input", "level": 0, "channels": len(channels), "size": list(size)},
        *({key: s[key] for key in ("kind", "level", "channels", "size")} for s in description["stages"]),
        {"kind": kind, "level": 0, "channels": len(classes), "size": list(size)},
    ]
    names = stage_names((s["kind"], s["level"]) for s in stages)
    return [{"name": name, **stage, "maps": []} for name, stage in zip(names, stages, strict=True)]


def region_channels(metadata: CheckpointMetadata) -> list[dict[str, Any]]:
    """The output channels of a network of regions: name, and index and colour of the class that each is painted with;
    empty where the channels are the classes."""
    regions = metadata.trained_regions
    if regions is None:
        return []
    colours = [c.colour for c in metadata.label_space.classes]
    channels = zip(regions.names, regions.painted, strict=True)
    return [{"name": name, "painted": index, "colour": colours[index]} for name, index in channels]


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of computed feature maps."""
    manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text("utf-8"))
    return manifest


def publish_feature_maps(folder: Path, data: Path, subject: str, labels: LabelSpace) -> str:
    """The URL of the feature maps in one file: pictures, logits and truth of the slice.

    The truth is left out if the network works on another grid than the data set, or has other classes.

    Parameters
    ----------
    folder : Path. Folder of the feature maps.
    data, subject : Path, str. Data set and subject whose label map is the truth.
    labels : LabelSpace. Classes of the network.
    """

    def make() -> tuple[dict[str, Any], bytes]:
        manifest = read_manifest(folder)
        pictures = [m["file"] for stage in manifest["stages"] for m in stage["maps"]]
        bundle = {
            "sub_volume": manifest["sub_volume"],
            "slice": manifest["slice"],
            "files": {name: _base64((folder / name).read_bytes()) for name in pictures},
            "logits": _base64((folder / manifest["logits"]).read_bytes()),
            "truth": _truth_slice(manifest, data, subject, labels),
        }
        return {}, json.dumps(bundle).encode()

    modified_ns = (folder / MANIFEST).stat().st_mtime_ns
    _, url = volumes.publish(f"features\n{folder}\n{modified_ns}\n{data}\n{subject}\n{labels.names}", make)
    return url


def _truth_slice(manifest: dict[str, Any], data: Path, subject: str, labels: LabelSpace) -> str | None:
    dataset = open_dataset(data)
    label = load_subject(dataset, subject).label
    if label is None or list(label.shape) != manifest["shape"] or dataset.labels.names != labels.names:
        return None
    start, size = manifest["sub_volume"]["start"], manifest["sub_volume"]["size"]
    plane = np.zeros(size[:2], np.uint8)
    first = [max(s, 0) for s in start]
    inside = label[first[0] : start[0] + size[0], first[1] : start[1] + size[1], manifest["slice"]]
    i, j = first[0] - start[0], first[1] - start[1]
    plane[i : i + inside.shape[0], j : j + inside.shape[1]] = inside
    rows = plane.T[::-1]
    return _base64(np.ascontiguousarray(rows[:, ::-1] if manifest["oriented"] else rows).tobytes())


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
