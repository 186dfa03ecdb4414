"""Interactive figures of the Learn page, each a component that is rendered and computed in the browser.

Their data is made by :mod:`ui.learn.subject_data` and :mod:`ui.learn.network_data`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ui.shared.component import component

_FOLDER = Path(__file__).parent


def _figure(name: str) -> Callable[..., Any]:
    """Register the component of a figure: the files that all figures share, then the figure's own."""
    scripts = ("../shared/pixel_ratio.js", "../shared/roving_focus.js", "common.js", f"{name}.js")
    return component(f"learn_{name}", _FOLDER, scripts, ("common.css", f"{name}.css"))


_intensities, _kernel, _sub_volumes, _overlap, _imbalance, _network = (
    _figure(name) for name in ("intensities", "kernel", "sub_volumes", "overlap", "imbalance", "network")
)


def intensities(histograms: Mapping[str, Any]) -> None:
    """Histograms of each modality per class, and the joint histogram of the first two modalities.

    Parameters
    ----------
    histograms : mapping. :attr:`SubjectData.intensities`.
    """
    _intensities(key="learn-intensities", data=dict(histograms))


def kernel(block: Mapping[str, Any] | None) -> None:
    """A 3x3 and a 3x3x3 kernel over three neighbouring slices.

    Parameters
    ----------
    block : mapping or None. :attr:`SubjectData.block`; ``None`` shows only the generated sheet.
    """
    _kernel(key="learn-kernel", data={"block": block})


def sub_volumes(data: Mapping[str, Any]) -> None:
    """Outlines of drawn sub-volumes on the three middle slices, and the class shares inside them.

    Parameters
    ----------
    data : mapping. :attr:`SubjectData.slices`, with the keys "rules", "sizes", "draws", "classes" and "share".
    """
    _sub_volumes(key="learn-sub-volumes", data=dict(data))


def overlap(masks: Sequence[Mapping[str, Any]]) -> None:
    """A predicted mask that is dragged over the true mask, and its scores.

    Parameters
    ----------
    masks : sequence of mapping. True masks to choose from.
    """
    _overlap(key="learn-overlap", data={"masks": [dict(mask) for mask in masks]})


def imbalance(shares: Mapping[str, Any] | None) -> None:
    """Accuracy and Dice as functions of the size of a structure, and the class shares of a subject.

    Parameters
    ----------
    shares : mapping or None. :attr:`SubjectData.shares`.
    """
    _imbalance(key="learn-imbalance", data=dict(shares or {"shares": None}))


def network(
    stages: Sequence[Mapping[str, Any]],
    classes: Sequence[Mapping[str, Any]],
    maps_url: str | None,
    detail: bool = False,
    regions: Sequence[Mapping[str, Any]] = (),
) -> None:
    """A network from image to label, and the feature maps of its stages.

    Parameters
    ----------
    stages : sequence of mapping. Stages in the form of the manifest of :mod:`core.inspection.feature_maps`.
    classes : sequence of mapping. Name and colour of each class, the background included.
    maps_url : str or None. URL of the feature maps (:func:`ui.learn.network_data.publish_feature_maps`).
    detail : bool. Whether the image enters level 1 itself (:attr:`core.config.ModelConfig.full_resolution`).
    regions : sequence of mapping. Output channels that are regions (:func:`ui.learn.network_data.region_channels`).
    """
    data = {"stages": list(stages), "classes": [dict(c) for c in classes], "maps": maps_url, "detail": detail}
    if regions:
        data["regions"] = [dict(r) for r in regions]
    _network(key="learn-network", data=data)
