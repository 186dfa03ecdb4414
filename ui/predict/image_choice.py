"""What the Predict page asks for: a model, images, and which image is which modality."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from core.checkpointing.metadata import Description
from core.datasets import ImageRef
from core.datasets.layouts.base import natural_key
from core.datasets.single_case import infer_modalities
from core.errors import UserError
from core.imaging.headers import inspect
from core.paths import READY_MADE
from ui.predict import uploads
from ui.shared import cache, demo_jobs, formatting
from ui.shared.errors import error_box
from ui.shared.navigation import page
from ui.shared.progress import progress
from ui.shared.state import (
    DEMO,
    MODEL,
    PREDICT_CHANNEL,
    PREDICT_DATA,
    PREDICT_EXAMPLE,
    PREDICT_FILE,
    PREDICT_FILES,
    PREDICT_MODELS,
    PREDICT_SOURCE,
    PREDICT_SUBJECT,
    data_root,
    put_into_address,
    runs_root,
    take_from_address,
)

MODELS = ("Models", "A file")
SOURCES = ("Upload", "Data set", "Files here")
MOST_FILES = 2000
MOST_IMAGES = 16  # of one subject
DEPTH = 5  # folders below the data root that files are looked for in


@dataclass(frozen=True)
class Chosen:
    """A network: how a command names it, its name for people, its file, what is in it."""

    model: str
    title: str
    path: Path
    description: Description


def choose_model() -> Chosen | None:
    """The network to segment with; ``None`` where there is none yet, which is said."""
    models = {model.key: model for model in cache.models()}
    kind = MODELS[1]
    if models:
        kind = _one_of("Model", MODELS, PREDICT_MODELS)
    else:
        st.caption("No model was trained yet. Choose a file, or train one.")
        st.page_link(page("train"), label="Go to Train", icon=":material/model_training:")
    if kind == MODELS[0]:
        take_from_address(MODEL, next(iter(models)), among=tuple(models))
        key = st.selectbox(
            "Model to use", list(models), key=MODEL, persist_state="session", label_visibility="collapsed",
            format_func=lambda k: models[k].name if k in models else str(k),
        )  # fmt: skip
        model = models.get(key) or next(iter(models.values()))
        put_into_address(MODEL, model.key)
        chosen = _described(model.key, model.name, model.path)
    else:
        path = _checkpoint_file()
        chosen = _described(path.name if uploads.is_uploaded(path) else str(path), path.name, path) if path else None
    if chosen is not None:
        about = chosen.description
        made_from = about.dataset.get("name")
        st.caption(
            formatting.plain(
                f"{', '.join(about.modalities)} to {', '.join(about.label_space.names[1:])}"
                + (f"; trained on {made_from}" if made_from else "")
                + ("; synthetic, so it will be wrong on real images" if about.dataset.get("synthetic") else "")
            )
        )
    return chosen


def _described(model: str, title: str, path: Path) -> Chosen | None:
    try:
        return Chosen(model, title, path, cache.description(path))
    except UserError as error:
        error_box(_local(str(error)))
        return None


def _checkpoint_file() -> Path | None:
    """A checkpoint of the session's own, or one that lies under the root of runs."""
    root = runs_root()
    known = {model.path for model in cache.models()}
    found = [path for pattern in ("*.safetensors", "*/*.safetensors") for path in sorted(root.glob(pattern))]
    options = [*uploads.kept(uploads.MODELS), *(p for p in found if p not in known and not p.name.startswith("."))]
    path = None
    if st.session_state.get(PREDICT_FILE) not in options:
        st.session_state.pop(PREDICT_FILE, None)
    if options:
        path = st.selectbox(
            "Checkpoint", options, key=PREDICT_FILE, label_visibility="collapsed", persist_state="session",
            format_func=lambda p: p.name if uploads.is_uploaded(p) else str(p.relative_to(root)),
        )  # fmt: skip
        if path is not None and uploads.is_uploaded(path):
            st.button(
                f"Remove {formatting.plain(path.name)}", icon=":material/close:", type="tertiary", on_click=uploads.remove,
                args=(path,),
            )  # fmt: skip
    uploads.uploader(
        "A model as file (.safetensors)", uploads.MODELS,
        f"What `export` writes, or a run's checkpoint; at most {uploads.LIMIT_MB} MB.",
    )  # fmt: skip
    return path if path in options else None


def choose_images(wanted: Chosen | None) -> dict[str, ImageRef]:
    """The images at hand, by what they are called; empty where there are none yet."""
    source = _one_of("Images", SOURCES, PREDICT_SOURCE)
    if source == SOURCES[0]:
        limit = f"at most {uploads.LIMIT_MB} MB a file"
        uploads.uploader(f"NIfTI or Analyze, one subject, {limit}", uploads.IMAGES, f"{_UPLOAD_HELP}; {limit}.")
        return _files(_uploaded())
    if source == SOURCES[1]:
        return _subject(wanted)
    root = data_root()
    paths = _under(root)
    if not paths:
        st.caption(f"No images in {formatting.plain(str(root))}.")
        return {}
    st.session_state[PREDICT_FILES] = [path for path in st.session_state.get(PREDICT_FILES, []) if path in paths]
    chosen = st.multiselect(
        "Files", paths, key=PREDICT_FILES, persist_state="session", label_visibility="collapsed",
        placeholder="Choose the images of one subject", max_selections=MOST_IMAGES,
        format_func=lambda path: os.path.relpath(path, root),
        help=f"Images in {formatting.plain(str(root))}.",
    )  # fmt: skip
    if len(paths) >= MOST_FILES:
        st.caption(f"Only the first {MOST_FILES} images are listed.")
    return _files([path for path in chosen if path in paths])


def choose_example(subject: str) -> None:
    """Take a demo subject, to be segmented as soon as it is there (a button's callback)."""
    st.session_state[PREDICT_SOURCE] = SOURCES[1]
    st.session_state[PREDICT_DATA] = DEMO
    st.session_state[PREDICT_SUBJECT] = subject
    st.session_state[PREDICT_EXAMPLE] = subject


def example_is_chosen() -> bool:
    """Whether what is chosen now is the demo subject that a button asked for; true once."""
    wanted = st.session_state.get(PREDICT_EXAMPLE)
    there = (st.session_state.get(PREDICT_SOURCE), st.session_state.get(PREDICT_DATA)) == (SOURCES[1], DEMO)
    if wanted is None or (there and st.session_state.get(PREDICT_SUBJECT) != wanted):
        return False
    del st.session_state[PREDICT_EXAMPLE]
    return there


def example(chosen: Chosen) -> str | None:
    """The demo subject to show a model's work on: one that it never saw; ``None`` for a model of other images."""
    about = chosen.description
    if not (chosen.model == READY_MADE or about.dataset.get("synthetic")) or set(about.modalities) - {"T1", "T2"}:
        return None
    return next(iter([*about.split.get("test", []), *about.split.get("val", []), "subject-1"]))


def assign(refs: Mapping[str, ImageRef], modalities: tuple[str, ...]) -> list[ImageRef] | None:
    """Ask which image is which modality, where it is not certain; ``None`` until all are known."""
    known = infer_modalities(refs, modalities)
    names = list(refs)
    if len(refs) == len(modalities) == 1 or all(known.get(m) == m for m in modalities):
        return [refs[known[m]] for m in modalities]  # one for one, or the data set says so
    stamp = hashlib.sha256("\n".join([*names, *modalities]).encode("utf-8", "surrogateescape")).hexdigest()[:8]
    picked = [
        st.selectbox(
            f"Which image is {formatting.plain(modality)}?" if modality not in known else formatting.plain(modality), names,
            index=names.index(known[modality]) if modality in known else None,
            key=f"{PREDICT_CHANNEL}-{stamp}-{modality}", placeholder="Choose the image",
        )
        for modality in modalities
    ]  # fmt: skip
    if len(refs) < len(modalities):
        st.caption(
            f"This model needs {formatting.count(len(modalities), 'image')}: {formatting.plain(', '.join(modalities))}."
        )
    missing = [modality for modality, name in zip(modalities, picked, strict=True) if name is None]
    if missing:
        return None
    if len(set(picked)) < len(picked):
        st.warning("One image stands for two modalities; choose another one for each.", icon=":material/warning:")
        return None
    return [refs[str(name)] for name in picked]


def channels(images: list[ImageRef]) -> tuple[int, ...]:
    """The channel of each image, counted from 1; empty where each is a file of one channel, and nothing is to say."""
    several = any(inspect(path).channels > 1 for path in {ref.path for ref in images})
    return tuple(ref.channel + 1 for ref in images) if several else ()


def _one_of(label: str, options: tuple[str, ...], key: str) -> str:
    """A choice of which there is always one; a button elsewhere may have made it."""
    if st.session_state.get(key) not in options:
        st.session_state[key] = options[0]
    return str(st.segmented_control(label, options, required=True, key=key, persist_state="session"))


def _subject(wanted: Chosen | None) -> dict[str, ImageRef]:
    choices = cache.data_choices()
    if st.session_state.get(PREDICT_DATA) not in choices:
        st.session_state.pop(PREDICT_DATA, None)
    choice = st.selectbox("Data set", choices, key=PREDICT_DATA, persist_state="session") or DEMO
    try:
        path = cache.data_path(choice)
        if choice == DEMO and not _demo_subjects(wanted):
            return {}
        dataset = cache.dataset(path)
        if st.session_state.get(PREDICT_SUBJECT) not in dataset.ids:
            st.session_state.pop(PREDICT_SUBJECT, None)
        id = st.selectbox("Subject", dataset.ids, key=PREDICT_SUBJECT, persist_state="session")
        return dict(dataset.subject(str(id)).images)
    except UserError as error:
        error_box(error)
        return {}


def _demo_subjects(wanted: Chosen | None) -> bool:
    """Whether there is a demo subject to choose; makes the one that was asked for."""
    subject = (example(wanted) if wanted else None) or "subject-1"
    asked = st.session_state.get(PREDICT_EXAMPLE)
    if cache.demo_has(subject) or (cache.demo_is_there() and not asked):
        return True
    job = demo_jobs.demo_subject(subject)
    if job.state == "failed":
        error_box(job.message)
        st.session_state.pop(PREDICT_EXAMPLE, None)
    st.caption("The demo data are not made yet; one subject takes some seconds.")
    begin = st.button(f"Make {subject}", icon=":material/science:") if job.state != "running" else False
    if begin or (asked and job.state == "none"):
        demo_jobs.start_demo_subject(subject)
        job = demo_jobs.demo_subject(subject)
    if job.state == "running":
        progress(f"Making the synthetic {subject}", lambda: demo_jobs.demo_subject(subject))
    return False


def _uploaded() -> list[Path]:
    """The session's images, each with a way to remove it; an Analyze pair is one image."""
    found = []
    for path in uploads.kept(uploads.IMAGES):
        other = uploads.partner(path)
        alone = other is not None and not other.is_file()
        if path.suffix == ".img" and not alone:
            continue
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.caption(formatting.plain(path.name), width="content")
            st.space("stretch")
            st.button(
                "", icon=":material/close:", type="tertiary", key=f"remove-{path.name}", help="Remove this file",
                on_click=uploads.remove, args=(path,),
            )  # fmt: skip
        if alone and other is not None:
            st.warning(
                f"{formatting.plain(path.name)} needs its {other.suffix} file; add it.", icon=":material/attach_file:"
            )
        else:
            found.append(path)
    return found


def _files(paths: list[Path]) -> dict[str, ImageRef]:
    """The images in files, channel by channel; what cannot be read is said."""
    refs = {}
    for path in paths:
        name = path.name if uploads.is_uploaded(path) else os.path.relpath(path, data_root())
        try:
            held = inspect(path).channels
        except UserError as error:
            error_box(_local(str(error)))
            continue
        for channel in range(held):
            refs[name if held == 1 else f"{name}, channel {channel + 1}"] = ImageRef(path, channel)
    return refs


@st.cache_data(ttl=20, show_spinner=False)
def _images_under(root: str) -> list[Path]:
    found: list[Path] = []
    for folder, folders, names in os.walk(root, followlinks=True):
        below = len(Path(folder).relative_to(root).parts)
        folders[:] = sorted(f for f in folders if not f.startswith(".")) if below < DEPTH else []
        images = [n for n in sorted(names) if n.lower().endswith((".nii", ".nii.gz", ".hdr")) and not n.startswith(".")]
        found += [Path(folder) / name for name in images]
        if len(found) >= MOST_FILES:
            break
    return sorted(found[:MOST_FILES], key=lambda path: natural_key(str(path)))


def _under(root: Path) -> list[Path]:
    return _images_under(str(root))


def _local(message: str) -> str:
    """An error about an uploaded file without the folder that it was written to."""
    return message.replace(f"{uploads.session_folder()}{os.sep}", "")


_UPLOAD_HELP = (
    "One file per modality (.nii, .nii.gz, or .hdr and .img together), or one file with all of them. Files stay on "
    "this server, for six hours at most, or a day with their result"
)
