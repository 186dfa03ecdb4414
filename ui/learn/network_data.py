"""What the Learn page shows of a network: its stages from the description, its feature maps from a child process."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from core.config import ModelConfig
from core.datasets import load_subject, open_dataset
from core.labels import LabelSpace
from core.models import architecture, keeps_concat_width
from core.types import Size3
from ui.learn.jobs import MANIFEST
from ui.viewer import volumes


def stages(config: ModelConfig, modalities: Sequence[str], classes: Sequence[str], size: Size3) -> list[dict[str, Any]]:
    """The stages of an untrained network, in the form of the manifest of :mod:`core.inspection.feature_maps`, without maps."""
    channels = config.channels or architecture(config.model).channels
    deepest = len(channels) - 1

    def stage(kind: str, level: int, count: int) -> dict[str, Any]:
        name = f"{kind}-{level}" if kind in ("encoder", "decoder") else kind
        own = [n >> level for n in size]
        return {"name": name, "kind": kind, "level": level, "channels": count, "size": own, "maps": []}

    def decoded(level: int) -> int:
        return channels[level] * (2 if config.model == "vnet" or keeps_concat_width(config, level) else 1)

    return [
        stage("input", 0, len(modalities)),
        *(stage("encoder", level, channels[level]) for level in range(deepest)),
        stage("bottleneck", deepest, channels[deepest]),
        *(stage("decoder", level, decoded(level)) for level in reversed(range(deepest))),
        stage("logits", 0, len(classes)),
        stage("softmax", 0, len(classes)),
    ]


def manifest(folder: Path) -> dict[str, Any]:
    """The manifest of finished feature maps."""
    found: dict[str, Any] = json.loads((folder / MANIFEST).read_text("utf-8"))
    return found


def publish_maps(folder: Path, data: Path, subject: str, labels: LabelSpace) -> str:
    """Where the browser fetches the feature maps: pictures, pre-activations and the truth in one piece.

    ``data`` and ``subject`` say whose label map is the truth; it is left out where the network worked on another grid,
    or has other classes than the data set.
    """

    def make() -> tuple[dict[str, Any], bytes]:
        facts = manifest(folder)
        pictures = [m["file"] for stage in facts["stages"] for m in stage["maps"]]
        bundle = {
            "sub_volume": facts["sub_volume"],
            "slice": facts["slice"],
            "files": {name: _base64((folder / name).read_bytes()) for name in pictures},
            "logits": _base64((folder / facts["logits"]).read_bytes()),
            "truth": _truth(facts, data, subject, labels),
        }
        return {}, json.dumps(bundle).encode()

    stamp = (folder / MANIFEST).stat()
    _, url = volumes.publish(f"features\n{folder}\n{stamp.st_mtime_ns}\n{data}\n{subject}\n{labels.names}", make)
    return url


def _truth(facts: dict[str, Any], data: Path, subject: str, labels: LabelSpace) -> str | None:
    dataset = open_dataset(data)
    label = load_subject(dataset, subject).label
    if label is None or list(label.shape) != facts["shape"] or dataset.labels.names != labels.names:
        return None
    start, size = facts["sub_volume"]["start"], facts["sub_volume"]["size"]
    plane = np.zeros(size[:2], np.uint8)
    low = [max(s, 0) for s in start]
    found = label[low[0] : start[0] + size[0], low[1] : start[1] + size[1], facts["slice"]]
    i, j = low[0] - start[0], low[1] - start[1]
    plane[i : i + found.shape[0], j : j + found.shape[1]] = found
    rows = plane.T[::-1]
    return _base64(np.ascontiguousarray(rows[:, ::-1] if facts["oriented"] else rows).tobytes())


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
