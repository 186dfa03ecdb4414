"""Data: choose a data set, see what is in it, and whether it is fit to train on."""

from __future__ import annotations

from typing import Literal

import streamlit as st

from ui.data import doctor_job, doctor_view
from ui.shared import cache, demo_jobs, formatting, jobs
from ui.shared.errors import error_box, stop_on_user_error
from ui.shared.legend import demo_picture, legend
from ui.shared.navigation import page
from ui.shared.progress import progress
from ui.shared.state import (
    DATA,
    DATA_SUBJECT,
    DATA_VIEW,
    DEMO,
    data_root,
    demo_folder,
    put_into_address,
    take_from_address,
)
from ui.viewer.component import ViewerOptions, viewer
from ui.viewer.scenes import subject_scene

VIEWS = ("Middle slices", "Subjects", "Slice by slice")

st.title("Data", anchor=False)
choices = cache.data_choices()
take_from_address(DATA, DEMO)
if st.session_state[DATA] not in choices:
    choices = [*choices, st.session_state[DATA]]
choice = st.selectbox(
    "Data set", choices, key=DATA, persist_state="session", accept_new_options=True, width=560,
    help=f"Folders in {formatting.plain(str(data_root()))} that hold a data set, and the demo data. "
    "Type the path of another folder in there to learn why it is none.",
)  # fmt: skip
choice = choice or DEMO
put_into_address(DATA, choice)


if choice == DEMO and not cache.demo_is_there():
    job = demo_jobs.demo(False)
    st.markdown(
        "Ten synthetic subjects in the form of iSEG-2017 (T1 and T2 of six-month-olds, CSF, GM and WM), made from the "
        "MNI152 template: real anatomy, deformed differently for each. About a minute, 350 MB."
    )
    if job.state == "failed":
        error_box(job.message)
    if job.state == "running":
        progress("Making synthetic subjects", lambda: demo_jobs.demo(cache.demo_is_there()), things=True)
    elif st.button("Make the demo data", type="primary", icon=":material/auto_awesome:"):
        demo_jobs.start_demo(demo_folder())
        st.rerun()
    demo_picture()
    st.stop()

with stop_on_user_error():
    path = cache.data_path(choice)
    facts = cache.data_facts(choice)

with st.container(horizontal=True, vertical_alignment="center", gap="small"):
    st.subheader(formatting.plain(facts.name), anchor=False, width="content")
    if facts.synthetic:
        st.badge("synthetic", color="violet")
    st.space("stretch")
    again = st.button("Check again", icon=":material/refresh:", type="tertiary")
    way_on = st.empty()
labelled = "" if len(facts.labelled) == len(facts.ids) else f", {len(facts.labelled)} of them labelled"
licence = f" · {formatting.plain(facts.licence)}" if facts.licence else ""
st.caption(
    f"{formatting.count(len(facts.ids), 'subject')}{labelled} · {formatting.plain(', '.join(facts.modalities))} · "
    f"layout {facts.layout}{licence}"
    + (f"  \n{formatting.plain(formatting.sentence(facts.description))}" if facts.description else "")
)
legend(facts.colours)

folder = doctor_job.folder_of(path)
if again:
    jobs.discard(folder)
job = doctor_job.observe(folder)
if job.state == "none":
    doctor_job.start(path, folder)
    job = doctor_job.observe(folder)
if job.state == "failed":
    error_box(job.message, context="The data doctor gave up")
    st.stop()
if job.state == "running":
    progress("The data doctor reads", lambda: doctor_job.observe(folder), things=True)
    st.skeleton(240)
    st.stop()

report = doctor_job.report(folder)
counts = report["counts"]
with way_on:
    kind: Literal["primary", "secondary"] = "primary" if report["ok"] else "secondary"
    if st.button("Train on this", type=kind, icon=":material/model_training:"):
        st.switch_page(page("train"), query_params={DATA: choice})
if report["ok"]:
    remarks = formatting.count(counts["warnings"], "warning") if counts["warnings"] else "no errors, no warnings"
    st.success(f"Fit to train on: {remarks}.", icon=":material/check_circle:")
else:
    st.error(f"Not fit to train on: {formatting.count(counts['errors'], 'error')}.", icon=":material/error:")
doctor_view.findings(report["findings"])
view = st.segmented_control(
    "View", VIEWS, default=VIEWS[0], required=True, key=DATA_VIEW, label_visibility="collapsed", persist_state="session"
)
if view == VIEWS[0]:
    st.caption(formatting.plain(formatting.sentence(report["thumbnails"])))
    doctor_view.pictures(report, folder)
elif view == VIEWS[1]:
    doctor_view.subjects(report, list(facts.colours))
else:
    readable = [found["id"] for found in report["subjects"] if found["thumbnail"]] or list(facts.ids)
    subject = st.selectbox("Subject", readable, key=f"{DATA_SUBJECT}-{choice}", width=320)
    with stop_on_user_error():
        scene = subject_scene(path, subject)
    viewer(scene, "data", ViewerOptions(rows=("image", "truth") if scene.layers else ("image",)))
