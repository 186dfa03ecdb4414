"""What the Review page follows while the run of its model still trains: new checkpoints and kept predictions."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from core import runs
from core.errors import RunError
from core.runs.predictions import predictions_folder
from ui.shared.paths import runs_root

POLL_S = 3.0


def follow_training(run_id: str, data: Path) -> None:
    """Run the page again when an active run has its first best checkpoint, or has kept another prediction.

    Parameters
    ----------
    run_id : str. Key of the model; nothing is followed if it is not an active run.
    data : Path. Folder of the data set under review.
    """
    try:
        run = runs.get_run(runs_root(), run_id)
    except RunError:
        return  # the ready-made model
    if not run.state.active:
        return
    before = _files(run.folder, data)

    @st.fragment(run_every=POLL_S)
    def look() -> None:
        if _files(run.folder, data) != before:
            st.rerun()

    look()


def _files(run: Path, data: Path) -> set[Path]:
    """The checkpoint that is under review, and the records of its predictions."""
    checkpoint = runs.run_checkpoint(run)
    if checkpoint is None:
        return set()
    return {checkpoint, *predictions_folder(runs_root(), checkpoint, data).glob("*.json")}
