"""Choice of the network on the Predict page: a trained model, or a checkpoint file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from core.checkpointing.metadata import MEMBERS, CheckpointMetadata
from core.errors import UserError
from ui.shared import cache, formatting, uploads
from ui.shared.errors import error_box
from ui.shared.model_choice import choose_model
from ui.shared.navigation import page
from ui.shared.network_code import show_code_changes
from ui.shared.paths import runs_root
from ui.shared.state import load_from_url, save_to_url

TRAINED, FILE = SOURCES = ("Models", "A file")

# Session keys.
SOURCE = "predict_models"
CHECKPOINT = "predict_file"


@dataclass(frozen=True)
class Network:
    """A network to segment with.

    Attributes
    ----------
    argument : str. The network as argument of a command: key of a model or path of a file.
    title : str. Name on screen.
    path : Path. Checkpoint.
    metadata : CheckpointMetadata. Metadata of the checkpoint.
    """

    argument: str
    title: str
    path: Path
    metadata: CheckpointMetadata


def choose_network() -> Network | None:
    """Render the choice of a model; ``None``, with a message, if no network can be used."""
    models = {model.key: model for model in cache.models(ensembles=True)}
    source = FILE
    if models:
        source = segmented_choice("Model", SOURCES, SOURCE, "from")
    else:
        st.caption("No model has been trained yet. Choose a file, or train one.")
        st.page_link(page("train"), label="Go to Train", icon=":material/model_training:")
    if source == TRAINED:
        model = choose_model(models, next(iter(models)), "Model to use", label_visibility="collapsed")
        network = _read(model.key, model.name, model.path)
    else:
        path = _choose_checkpoint()
        argument = path.name if path and uploads.is_uploaded(path) else str(path)
        network = _read(argument, path.name, path) if path else None
        if path is not None:
            show_code_changes(path)
    if network is not None:
        st.caption(formatting.plain(_summary(network.metadata)))
    return network


def segmented_choice(label: str, options: tuple[str, ...], key: str, parameter: str) -> str:
    """A segmented control that always has a value, the first option unless the session or the query parameter holds
    another one."""
    load_from_url(key, options[0], options, parameter)
    if st.session_state[key] not in options:
        st.session_state[key] = options[0]
    value = str(st.segmented_control(label, options, required=True, key=key, persist_state="session"))
    save_to_url(key, value, parameter, options[0])
    return value


def _summary(metadata: CheckpointMetadata) -> str:
    """Modalities, classes and training data of a network."""
    text = f"{', '.join(metadata.modalities)} to {', '.join(metadata.label_space.names[1:])}"
    if training_data := metadata.dataset.get("name"):
        text += f"; trained on {training_data}"
    if metadata.training_spacing is not None and metadata.spacing_mm is None:
        text += f", voxels of {metadata.training_spacing.text}"
    if members := metadata.inference.get(MEMBERS):
        text += f"; an ensemble of {len(members)} networks"
    if metadata.dataset.get("synthetic"):
        text += "; synthetic, so it will be wrong on real images"
    return text


def _read(argument: str, title: str, path: Path) -> Network | None:
    try:
        return Network(argument, title, path, cache.checkpoint_metadata(path))
    except UserError as error:
        error_box(uploads.without_session_folder(str(error)))
        return None


def _choose_checkpoint() -> Path | None:
    """An uploaded checkpoint, or a checkpoint below the root of runs that is not a listed model."""
    root = runs_root()
    listed = {model.path for model in cache.models(ensembles=True)}
    files = [path for pattern in ("*.safetensors", "*/*.safetensors") for path in sorted(root.glob(pattern))]
    uploaded = uploads.display_names(uploads.list_uploads(uploads.MODELS))
    options = [*uploaded, *(p for p in files if p not in listed and p.name[0] != ".")]
    path = None
    if (latest := uploads.take_latest(uploads.MODELS)) in options:
        st.session_state[CHECKPOINT] = latest
    if st.session_state.get(CHECKPOINT) not in options:
        st.session_state.pop(CHECKPOINT, None)
    if options:
        path = st.selectbox(
            "Checkpoint",
            options,
            key=CHECKPOINT,
            label_visibility="collapsed",
            persist_state="session",
            format_func=lambda p: uploaded.get(p) or os.path.relpath(p, root),
        )
        if path in uploaded:
            st.button(
                f"Remove {formatting.plain(uploaded[path])}",
                icon=":material/close:",
                type="tertiary",
                on_click=uploads.remove,
                args=(path,),
            )
    uploads.uploader(
        "A model as file (.safetensors)",
        uploads.MODELS,
        f"A file written by `export`, or a checkpoint of a run; at most {uploads.LIMIT_MB} MB.",
    )
    return path if path in options else None
