"""Counts which of two predictions is right in the voxels of a large image, a few slices of its streams at a time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial

import numpy as np

from core.errors import VolumeError
from core.evaluation.voxel_counts import count_changes
from ui.viewer import streams, volumes
from ui.viewer.streams import ALL, MAX_SLICES, Stream
from ui.viewer.volumes import Pending


def publish_changes(truth: str, first: str, second: str) -> str:
    """URL of the voxels of each kind of :func:`core.evaluation.voxel_counts.count_changes`, a JSON list, counted when a
    browser asks for them.

    Parameters
    ----------
    truth, first, second : str. URLs of streams of class indices on one grid (:mod:`ui.viewer.streams`).
    """
    urls = (truth, first, second)
    return volumes.publish_on_request("\n".join(["changes", *urls]), partial(_count, urls))


def _count(urls: Sequence[str]) -> bytes:
    read = [_prepared(url) for url in urls]
    counts = np.zeros(3, np.int64)
    for k in range(0, read[0].shape[2], MAX_SLICES):
        box = (ALL, ALL, slice(k, k + MAX_SLICES))
        counts += count_changes(*(np.frombuffer(one.slab(0, box), np.uint8) for one in read))
    return json.dumps(counts.tolist()).encode()


def _prepared(url: str) -> Stream:
    """The stream of a URL, once it can be read.

    Raises
    ------
    Pending
        While it is prepared.
    VolumeError
        If that failed, or the stream is no longer known.
    """
    stream = streams.find(url)
    if stream is None or stream.error:
        raise VolumeError(stream.error if stream is not None else streams.FORGOTTEN)
    if stream.facts is None:
        raise Pending(stream.progress)
    return stream
