"""Data: select a data set, look at it, and check whether it can be trained on."""

from __future__ import annotations

from typing import Literal

import streamlit as st

from core.datasets import DataOptions
from core.datasets.registry import UnknownLayoutError
from core.errors import UserError
from core.paths import DEMO, data_root
from ui.data import doctor_job, doctor_view, file_names_view, recipe_view
from ui.data.cache_view import show_cache
from ui.data.class_names_view import rename_classes
from ui.data.download_view import choose_download, show_downloads
from ui.data.measures_view import show_measures
from ui.data.pictures import contact_sheet_button, show_pictures
from ui.data.subject_view import choose_subject, show_subject
from ui.data.uploader import uploader
from ui.shared import cache, demo_jobs, formatting, jobs
from ui.shared.data_options import choose_data_options, data_options, reset_data_options
from ui.shared.errors import error_box, stop_on_user_error
from ui.shared.legend import demo_picture, legend
from ui.shared.navigation import go_to, tab_title
from ui.shared.progress import progress
from ui.shared.state import DATA, load_from_url, save_to_url

VIEW = "data_view"
READING = "data_reading"
VIEWS = ("Middle slices", "Measures", "Subjects", "Slice by slice")


def open_uploaded(folder: str) -> None:
    """Select a data set that was uploaded or downloaded (callback)."""
    cache.forget_dataset_choices()
    st.session_state[DATA] = folder


choices = cache.dataset_choices()
load_from_url(DATA, DEMO)
if st.session_state[DATA] not in choices:
    choices = [*choices, st.session_state[DATA]]
with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
    st.title("Data", anchor=False, width="content")
    choice = st.selectbox(
        "Data set",
        choices,
        key=DATA,
        persist_state="session",
        accept_new_options=True,
        width=400,
        label_visibility="collapsed",
    )
    with st.popover("Add data", icon=":material/add:", type="tertiary"):
        try:
            uploader(open_uploaded)
        except UserError as error:  # the rest of the page needs no upload
            error_box(error)
        st.divider()
        choose_download()
show_downloads(open_uploaded)
choice = choice or DEMO
save_to_url(DATA, choice)
tab_title("Data", choice)

if choice == DEMO and not cache.demo_exists():
    job = demo_jobs.observe_demo(False)
    with st.grid(2, min_column_width=380, gap=("small", "large")) as start:
        with start.cell():
            st.header("Demo data", anchor=False)
            st.markdown(
                "Ten synthetic subjects in the format of iSEG-2017 (T1 and T2 of six-month-olds, CSF, GM and WM), made "
                "from the MNI152 template: real anatomy, deformed differently for each. About a minute, 30 MB."
            )
            if job.state == "failed":
                error_box(job.message)
            if job.state == "running":
                progress(
                    "Making synthetic subjects", lambda: demo_jobs.observe_demo(cache.demo_exists()), show_counts=True
                )
            elif st.button("Make the demo data", type="primary", icon=":material/auto_awesome:"):
                demo_jobs.start_demo()
                st.rerun()
            st.caption("For data of your own: *Add data*, above.")
        with start.cell():
            demo_picture()
    st.stop()

with stop_on_user_error():
    path = cache.dataset_path(choice)
options = data_options(choice)
try:
    summary, dataset = cache.dataset_summary(choice, options), cache.dataset(path, options)
except UnknownLayoutError as error:
    if file_names_view.show_editor(path, error):
        st.stop()
    error_box(error)
    st.stop()
except UserError as error:
    error_box(error)
    if options != DataOptions():  # a label that the data set lacks, for example
        st.button("Read it as before", icon=":material/undo:", on_click=reset_data_options, args=(choice,))
    recipe_view.show_recipe(path)
    file_names_view.forget_button(path)
    st.stop()
if file_names_view.is_edited(path):
    file_names_view.show_editor(path, layout=summary.layout)
    st.stop()

labelled = "" if len(summary.labelled) == len(summary.ids) else f", {len(summary.labelled)} of them labelled"
licence = f" · {formatting.plain(summary.licence)}" if summary.licence else ""
with st.container(horizontal=True, vertical_alignment="center", gap="small"):
    with st.container(width="stretch", gap="xxsmall"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.header(formatting.plain(summary.name), anchor=False, width="content")
            if summary.synthetic:
                st.badge("synthetic", color="violet")
        st.caption(
            f"{formatting.count(len(summary.ids), 'subject')}{labelled} · "
            f"{formatting.plain(', '.join(summary.modalities))} · layout {summary.layout}{licence}"
        )
    with st.popover("Import options", icon=":material/tune:", type="tertiary", key=READING):  # one stop of the Tab key
        if summary.reason:
            st.caption(formatting.plain(formatting.sentence(summary.reason)))
        choose_data_options(choice, dataset)
        rename_classes(path, dataset.labels)
        with st.container(horizontal=True, gap="small"):
            if choice != DEMO:
                file_names_view.edit_button(path)
            check_again = st.button("Check again", icon=":material/refresh:", type="tertiary")
        st.caption(
            f"Data sets are folders in {formatting.plain(str(data_root()))}. "
            "Type the path of another folder in there as the data set to see why it is not one."
        )
    train_button = st.empty()
load_from_url(VIEW, VIEWS[0], VIEWS, "view")
legend_place = st.empty()

folder = doctor_job.report_folder(path, options)
if check_again:
    jobs.discard(folder)
job = jobs.observe_report(folder)
if job.state == "none":
    doctor_job.start(path, folder, options)
    job = jobs.observe_report(folder)
if job.state == "failed":
    error_box(job.message, context="The data doctor failed")
    st.stop()
if job.state == "running":
    progress("Checking the data", lambda: jobs.observe_report(folder), show_counts=True)
    with stop_on_user_error():
        show_subject(path, summary.ids[0], options)  # there is something to see while the others are read
    st.stop()

if st.session_state[VIEW] != VIEWS[-1]:  # the viewer, which is shown while the data is checked too, has a legend
    with legend_place.container():
        legend(summary.colours, summary.ignored)
report = jobs.read_report(folder)
counts = report["counts"]
with train_button:
    kind: Literal["primary", "secondary"] = "primary" if report["ok"] else "secondary"
    if st.button("Train on this", type=kind, icon=":material/model_training:"):
        go_to("train", **{DATA: choice})
with st.container(horizontal=True, vertical_alignment="center", gap="small"):
    view = st.segmented_control(
        "View", VIEWS, required=True, key=VIEW, label_visibility="collapsed", persist_state="session", width="content"
    )
    readable = [subject["id"] for subject in report["subjects"] if subject["thumbnail"]] or list(summary.ids)
    subject = choose_subject(choice, readable) if view == VIEWS[3] else readable[0]
    st.space("stretch")
    if report["ok"]:
        remarks = formatting.count(counts["warnings"], "warning") if counts["warnings"] else "no errors, no warnings"
        st.success(f"Ready for training: {remarks}.", icon=":material/check_circle:", width=310)
    else:
        errors = formatting.count(counts["errors"], "error")
        st.error(f"Not ready for training: {errors}.", icon=":material/error:", width=310)
save_to_url(VIEW, view or VIEWS[0], "view", VIEWS[0])
findings = st.container() if not report["ok"] else None  # what keeps from training comes before the pictures
if view == VIEWS[0]:
    show_pictures(report["subjects"], folder, "picture_page")
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.caption(formatting.plain(formatting.sentence(report["thumbnails"])), width="stretch")
        contact_sheet_button(folder, path.name)
elif view == VIEWS[1]:
    show_measures(report, folder)
elif view == VIEWS[2]:
    doctor_view.show_subjects(report, list(summary.colours))
else:
    with stop_on_user_error():
        show_subject(path, subject, options)
with findings or st.container():
    recipe_view.mend_all_button(path, report["findings"])
    doctor_view.show_findings(report["findings"], path)
    recipe_view.show_recipe(path)
if summary.description:
    st.caption(formatting.plain(formatting.sentence(summary.description)))
show_cache()
