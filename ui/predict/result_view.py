"""A segmentation on the Predict page: at work, failed, done - image and prediction side by side, volumes, the file."""

from __future__ import annotations

import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import streamlit as st

from core.datasets import LoadedSubject
from core.datasets.single_case import read_images
from core.datasets.synthetic.demo import is_demo
from core.errors import UserError
from core.formatting import format_duration
from ui.predict import segmentations
from ui.predict.segmentations import Request
from ui.shared import formatting
from ui.shared.errors import error_box
from ui.shared.legend import facts_list
from ui.shared.progress import progress
from ui.shared.state import RESULT
from ui.viewer.component import ViewerOptions, viewer
from ui.viewer.scenes import image_scene


def show(id: str) -> None:
    """Draw whatever state a segmentation is in."""
    request = segmentations.read(id)
    if request is None:
        st.warning("This segmentation is no longer here; make it again.", icon=":material/search_off:")
        st.button("Close", on_click=close, args=("",))
        return
    _head(request)
    job = segmentations.observe(id)
    if job.state == "running":
        progress("Segmenting", lambda: segmentations.observe(id))
        st.button("Cancel", icon=":material/stop_circle:", on_click=close, args=(id,))
        st.skeleton(420)
    elif job.state == "done":
        _done(id, request)
    else:
        why = formatting.sentence(_local(job.message, request)) if job.state == "failed" else "It was broken off."
        error_box(why)
        with st.container(horizontal=True):
            st.button("Try again", icon=":material/refresh:", on_click=again, args=(id,))
            st.button("Close", type="tertiary", on_click=close, args=(id,))


def again(id: str) -> None:
    """Start the same work once more (a button's callback)."""
    try:
        segmentations.again(id)
    except UserError as error:
        error_box(error)


def close(id: str) -> None:
    """Forget a segmentation, with what was uploaded for it (a button's callback)."""
    segmentations.remove(id)
    st.query_params.pop(RESULT, None)


def _head(request: Request) -> None:
    names = ", ".join(dict.fromkeys(path.name for path in request.paths))
    synthetic = " (synthetic)" if any(is_demo(path.parent) for path in request.paths) else ""
    st.caption(f"{formatting.plain(names)}{synthetic} · {formatting.plain(request.title)}")


def _done(id: str, request: Request) -> None:
    file = segmentations.output(id)
    try:
        report = segmentations.report(id)
        scene = image_scene(
            request.paths, lambda: _load(request), request.modalities, request.label_space, file, str(request.channels)
        )
        content = _content(str(file), file.stat().st_mtime_ns)
    except (UserError, OSError, ValueError) as error:
        error_box(_local(str(error), request))
        st.button("Close", on_click=close, args=(id,))
        return
    viewer(scene, f"predict-{id}", ViewerOptions(rows=("image", "prediction")))
    with st.grid(2, min_column_width=340, gap=("small", "large")) as below:
        with below.cell():
            _volumes(request, report["volume_ml"])
            with st.container(horizontal=True):
                st.download_button(
                    "Save the segmentation", content, request.download_name, "application/gzip", type="primary",
                    icon=":material/download:", on_click="ignore",
                )  # fmt: skip
                st.button(
                    "Remove", type="tertiary", icon=":material/delete:", on_click=close, args=(id,),
                    help="Remove this result" + (" and the files uploaded for it" if request.uploaded else ""),
                )  # fmt: skip
        with below.cell():
            facts_list(_facts(request, report))
            st.caption("The same in a terminal:")
            st.code(request.command, language="bash", wrap_lines=True)


def _load(request: Request) -> LoadedSubject:
    return read_images(request.paths, request.modalities, request.channels)


def _facts(request: Request, report: Mapping[str, Any]) -> list[tuple[str, str]]:
    tiles = f"{formatting.size(report['tile'])} voxels, overlap {report['overlap']:g}" if "tile" in report else ""
    return [
        *((modality, _called(ref.path.name, ref.channel, request)) for modality, ref in
          zip(request.modalities, request.images, strict=True)),
        ("Model", request.title),
        ("Method", f"joined sub-volumes, {tiles}" if tiles else "the whole head in one pass"),
        ("Computed", f"{report['device']}, {report['precision']}, {format_duration(report['seconds'])}"),
        ("Values", ", ".join(f"{raw} {name}" for name, raw in report["labels"].items())),
    ]  # fmt: skip


def _called(name: str, channel: int, request: Request) -> str:
    return f"{name}, channel {channel + 1}" if request.channels else name


def _volumes(request: Request, volume_ml: Mapping[str, float]) -> None:
    """Millilitres per class, in the classes' colours; without a truth there is no Dice."""
    line = "border-top:1px solid color-mix(in srgb, currentColor 14%, transparent)"
    rows = "".join(
        f'<tr style="{line}"><td style="padding:4px 0"><i style="display:inline-block;width:10px;height:10px;'
        f'border-radius:3px;margin-right:6px;background:{html.escape(c.colour)}"></i>{html.escape(c.name)}</td>'
        f'<td style="text-align:right">{volume_ml[c.name]:,.1f} ml</td></tr>'
        for c in request.label_space.foreground
        if c.name in volume_ml
    )
    st.html(
        '<table style="width:100%;border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums">'
        f'<tr style="opacity:.7"><th style="text-align:left">Class</th><th style="text-align:right">Volume</th></tr>'
        f"{rows}</table>"
    )


@st.cache_data(max_entries=4, show_spinner=False)
def _content(path: str, changed: int) -> bytes:
    return Path(path).read_bytes()


def _local(message: str, request: Request) -> str:
    """An error about an uploaded file without the folder that it was written to."""
    for path in (request.checkpoint, *request.paths) if request.uploaded else ():
        message = message.replace(str(path), path.name)
    return message
