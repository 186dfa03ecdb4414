"""The figures of the Learn page, each a component of its own: drawn, dragged and computed in the browser.

What they show of a subject comes from :mod:`ui.learn.subject_data`, of a network from :mod:`ui.learn.network_data`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import streamlit as st

_HERE = Path(__file__).parent


def _component(name: str) -> Callable[..., Any]:
    """A figure: what all share, then its own file."""
    parts = {
        suffix: [(_HERE / f"{part}.{suffix}").read_text("utf-8") for part in ("common", name)]
        for suffix in ("css", "js")
    }
    css, js = "\n".join(parts["css"]), "\n".join(parts["js"])
    return st.components.v2.component(f"segmentarium_learn_{name}", html='<div class="root"></div>\n', css=css, js=js)


_intensities, _kernel, _places, _overlap, _imbalance, _network = (
    _component(name) for name in ("intensities", "kernel", "sub_volumes", "overlap", "imbalance", "network")
)


def intensities(facts: Mapping[str, Any]) -> None:
    """Histograms of each modality by class, and both modalities together; ``facts`` as in a lesson."""
    _intensities(key="learn-intensities", data=dict(facts))


def kernel(block: Mapping[str, Any] | None) -> None:
    """A kernel over three slices: those of ``block`` (of a lesson), or a made-up sheet."""
    _kernel(key="learn-kernel", data={"block": block})


def places(facts: Mapping[str, Any]) -> None:
    """Drawn sub-volumes on three middle slices; ``facts``: slices of a lesson, rules, sizes, and what was drawn."""
    _places(key="learn-places", data=dict(facts))


def overlap(shapes: Sequence[Mapping[str, Any]]) -> None:
    """A mask dragged over the true one: one of these shapes."""
    _overlap(key="learn-overlap", data={"shapes": [dict(s) for s in shapes]})


def imbalance(shares: Mapping[str, Any] | None) -> None:
    """Accuracy and Dice by the size of a structure; below it the shares of a lesson's classes, if there is one."""
    _imbalance(key="learn-imbalance", data=dict(shares or {"shares": None}))


def network(
    stages: Sequence[Mapping[str, Any]], classes: Sequence[Mapping[str, Any]], maps: str | None, detail: bool = False
) -> None:
    """A network from image to label; ``maps``: where its feature maps are fetched from, if there are any. ``detail``:
    the image enters level 1 itself (:attr:`core.config.ModelConfig.full_resolution`)."""
    data = {"stages": list(stages), "classes": [dict(c) for c in classes], "maps": maps, "detail": detail}
    _network(key="learn-network", data=data)
