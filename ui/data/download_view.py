"""Downloads of public data sets on the Data page: choice with licence, progress, and where to register for others."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import streamlit as st

from core.datasets.downloads import FOLDER, Download, known_downloads
from core.datasets.publisher_sets import sets_to_register
from core.formatting import format_bytes
from core.paths import data_root
from ui.shared import formatting, jobs
from ui.shared.errors import error_box
from ui.shared.paths import cache_root
from ui.shared.progress import progress

CHOICE, ACCEPTED = "download_choice", "download_accepted"  # session keys


def choose_download() -> None:
    """Render the choice of a public data set, whose licence is accepted before it is downloaded."""
    known = known_downloads()
    name = st.selectbox("Public data set", list(known), format_func=lambda n: known[n].title, key=CHOICE, width=460)
    wanted = known[name]
    st.markdown(
        f"Licence: **{formatting.plain(wanted.licence)}**  \n"
        f"Publisher: [{formatting.plain(wanted.source)}]({wanted.source})  \n"
        f"About {format_bytes(int(wanted.size_gb * 1e9))}, as much again while it is unpacked. "
        f"Verified: {formatting.plain(wanted.verified)}.",
        width=460,
    )
    if os.path.lexists(data_root() / wanted.folder):
        st.caption(f"It is there already: {formatting.plain(wanted.folder)}")
    else:
        accepted = st.checkbox("I have read its licence and accept it", key=f"{ACCEPTED}_{name}")
        st.button(
            "Download",
            type="primary",
            icon=":material/download:",
            key="download_start",
            disabled=not accepted or jobs.is_running(_folder(wanted)),
            on_click=_start,
            args=(wanted,),
        )
    with st.expander("Other data sets: where to register"):
        rows = [
            {"data set": s.title, "publisher": s.source, "images": s.images, "label maps": s.labels or None}
            for s in sets_to_register()
        ]
        st.caption("Put the folder into the data root as it is; it is recognised by its names.")
        st.dataframe(
            rows,
            hide_index=True,
            width=460,
            height=280,
            column_config={"publisher": st.column_config.LinkColumn()},
            alt="Data sets of other publishers, and how their images and label maps are named",
        )


def show_downloads(on_open: Callable[[str], None]) -> None:
    """Render the downloads that run, have failed, or have just been completed.

    Parameters
    ----------
    on_open : callable. Called with the name of the folder in the data root when a data set is opened.
    """
    for wanted in known_downloads().values():
        folder = _folder(wanted)
        if not folder.is_dir():
            continue
        job = _observe(wanted)
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            if job.state == "running":
                with st.container():
                    progress(f"Downloading {wanted.title}", lambda wanted=wanted: _observe(wanted))  # type: ignore[misc]
                st.button("Stop", key=f"download_stop_{wanted.name}", on_click=_stop, args=(wanted,))
            elif job.state == "done":
                st.success(f"{formatting.plain(wanted.title)} is there.", icon=":material/check_circle:", width=420)
                st.button("Open it", key=f"download_open_{wanted.name}", on_click=_open, args=(wanted, on_open))
            else:
                with st.container():
                    error_box(
                        job.message or f"It was stopped; what was received is kept in {data_root() / FOLDER}.",
                        context=wanted.title,
                    )
                st.button("Go on", key=f"download_again_{wanted.name}", on_click=_start, args=(wanted,))
                st.button("Close", key=f"download_close_{wanted.name}", on_click=jobs.discard, args=(folder,))


def _folder(wanted: Download) -> Path:
    return cache_root() / "downloads" / wanted.name


def _observe(wanted: Download) -> jobs.Job:
    job = jobs.observe(_folder(wanted), os.path.lexists(data_root() / wanted.folder))
    is_fetched = job.state == "running" and job.total and job.done >= job.total
    return replace(job, message="(verifying and unpacking)") if is_fetched else job


def _start(wanted: Download) -> None:
    jobs.start(_folder(wanted), ["data", "download", wanted.name, "--accept-licence", "--progress"])


def _stop(wanted: Download) -> None:
    jobs.cancel(_folder(wanted))


def _open(wanted: Download, on_open: Callable[[str], None]) -> None:
    jobs.discard(_folder(wanted))
    on_open(wanted.folder)
