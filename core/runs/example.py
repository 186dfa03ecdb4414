"""The shipped example: a demo subject and its segmentation by the ready-made model, so that both are there at once."""

from __future__ import annotations

import filecmp
import json
from pathlib import Path

from core.checkpointing.metadata import read_metadata
from core.datasets import open_dataset
from core.datasets.synthetic.demo import ensure_subject, has_subject
from core.datasets.synthetic.demo_writer import SHIPPED
from core.paths import demo_example_folder, demo_folder, demo_model_path
from core.runs.predictions import adopt_prediction, predictions_folder

SEED, SUBJECT = SHIPPED[0], f"subject-{SHIPPED[1]}"
SEGMENTATION = "segmentation.nii.gz"
RECORD = "segmentation.json"


def install_example(root: Path) -> None:
    """Copy the subject into the demo data, and its segmentation to the stored predictions, where they are missing.

    There is no effect where they exist. Where the subject's files differ from the shipped ones, only the segmentation
    of those files, made here, is valid.

    Parameters
    ----------
    root : Path. Folder of the runs.

    Raises
    ------
    UserError
        If a folder cannot be written, or the demo data is of another seed.
    """
    shipped, checkpoint, data = demo_example_folder(), demo_model_path(), demo_folder()
    if not has_subject(shipped, SUBJECT):
        return
    ensure_subject(data, SUBJECT, SEED)
    folder = predictions_folder(root, checkpoint, data)
    if not checkpoint.is_file() or (folder / f"{SUBJECT}.json").is_file():
        return
    scans = sorted(shipped.glob(f"{SUBJECT}-*"))
    if not all((data / scan.name).is_file() and filecmp.cmp(scan, data / scan.name, shallow=False) for scan in scans):
        return
    record = json.loads((shipped / RECORD).read_text("utf-8"))
    adopt_prediction(folder, read_metadata(checkpoint), open_dataset(data), record, shipped / SEGMENTATION)
